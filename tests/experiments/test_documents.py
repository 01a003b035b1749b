"""Commands of `experiments` in the documentation name what is there."""

import re

import pytest

from experiments.report import commands
from tests.conftest import ROOT

COMMAND = re.compile(r"python -m (experiments\.\w+)")
# Words that a shell completes, such as epsilon$e, are not looked up.
CONFIG = re.compile(r"--config=configs/(\w+\.py)(:\w+\b(?!\$))?")
DOCUMENTS = [
  *(ROOT / f"{x}.md" for x in ("README", "TPU_SETUP", "CONTRIBUTING")),
  *sorted((ROOT / "docs").rglob("*.md")),
]


@pytest.fixture(scope="module")
def configs() -> set[str]:
  """Return what can follow `--config=configs/`."""
  words = {known.argument for known in commands.known()}
  return words | {x.name for x in (ROOT / "configs").glob("*.py")}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda x: x.stem)
def test_programs_and_configs_are_there(path, configs) -> None:
  text = path.read_text()
  programs = {x.replace(".", "/") for x in COMMAND.findall(text)}
  missing = [x for x in programs if not (ROOT / f"{x}.py").exists()]
  named = {file + word for file, word in CONFIG.findall(text)}
  assert not missing and named <= configs, (missing, named - configs)


def test_wrong_commands_are_found(configs) -> None:
  text = "--config=configs/none.py:digits --config=configs/private.py:of$e"
  found = [file + word for file, word in CONFIG.findall(text)]
  assert found == ["none.py:digits", "private.py"]
  assert "private.py" in configs and "none.py:digits" not in configs
