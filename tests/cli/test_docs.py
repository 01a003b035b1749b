"""Every `keyjax` command in the documentation is parsed."""

import re
import shlex

import pytest

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
