"""Commands of `experiments` in the documentation name what is there."""

import re

import pytest

from experiments.report import commands
from tests.conftest import ROOT

COMMAND = re.compile(r"python -m (experiments\.\w+)")
# Words that a shell completes, such as epsilon$e, are not looked up.
CONFIG = re.compile(r"--config=configs/(\w+\.py)(:\w+\b(?!\$))?")
FOLDER = re.compile(r"[ \"=]/(data|home|mnt|root|tmp|work)/")
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


@pytest.mark.parametrize(
  "file", sorted((ROOT / "results").glob("*.json")), ids=lambda x: x.name
)
def test_published_rows_name_no_folder_of_a_machine(file) -> None:
  found = FOLDER.search(file.read_text())
  assert not found, found


def test_a_folder_of_a_machine_is_found() -> None:
  assert FOLDER.search('"source": "mnist 3.0.1 in /home/me/tfds/mnist"')
  assert FOLDER.search("--workdir=/tmp/run")
  assert not FOLDER.search(
    "--only=(float32|counter)/known --workdir=runs/tmp/a"
  )
