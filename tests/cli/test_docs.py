"""Every `keyjax` command in the documentation is parsed; two blocks run."""

import re
import shlex
import shutil

import pytest

from keyjax import checkpoint
from keyjax.cli import key_reader, keys
from keyjax.cli.program import parse
from tests.conftest import ROOT

BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.M | re.S)
COMMAND = re.compile(r"(?:^|[;&|(])[ \t]*(?:\S*/)?keyjax +([^;&|)\n]*)", re.M)
DOCUMENTS = [
  ROOT / "README.md",
  ROOT / "TPU_SETUP.md",
  *sorted((ROOT / "docs").rglob("*.md")),
]


def commands(text):
  """Return the arguments of every `keyjax` in the code blocks of a text."""
  blocks = (x.replace("\\\n", " ") for x in BLOCK.findall(text))
  found = (line for block in blocks for line in COMMAND.findall(block))
  return [shlex.split(line, comments=True) for line in found]


def test_commands_are_found_in_a_shell_block():
  text = (
    "keyjax in prose\n```bash\n# keyjax in a comment\ncd ~/keyjax && ls\n"
    "(umask 077) && .venv/bin/keyjax keygen \\\n  secret a  # why\n```\n"
  )
  assert commands(text) == [["keygen", "secret", "a"]]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_of_a_document_parse(path):
  found = commands(path.read_text())
  assert found or path.parent != ROOT, "no command was found"
  for argv in found:
    assert parse(argv).run, argv


@pytest.mark.parametrize("name", ["README.md", "docs/checkpoints.md"])
def test_a_block_runs_from_top_to_bottom(name, run, monkeypatch):
  """In an empty folder, with a passphrase typed where one is asked for."""
  typed = "six words"
  for module in (keys, key_reader):
    monkeypatch.setattr(module, "ask_new_passphrase", lambda: typed)
  monkeypatch.setattr(key_reader, "ask_passphrase", lambda prompt="": typed)
  text = (ROOT / name).read_text()
  (block,) = (x for x in BLOCK.findall(text) if "keyjax decrypt" in x)
  lines = block.replace("\\\n", " ").strip()
  for line in re.split(r"\n(?=keyjax |rm )", lines):
    program, *argv = shlex.split(line, comments=True)
    if program == "keyjax":
      answer = run(*argv)
      assert (answer.code != 0) == ("# refused" in line), (line, answer.err)
      assert "1 leaves" not in answer.out
    elif program == "python":
      exec(argv[1], {})
    else:
      assert [program, *argv] == ["rm", "-r", "model-1"]
      shutil.rmtree("model-1")
  opened = checkpoint.read_weights("opened.safetensors")["kernel"]
  assert opened.tolist() == [[1, 1]] * 4
