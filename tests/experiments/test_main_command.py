"""The main job's command line: its help, its errors."""

import importlib
import os
import pathlib
import re
import subprocess
import sys
from typing import Any

import pytest

from experiments.run.workdir import Workdir
from tests.conftest import ROOT
from tests.experiments import command, main_job


def shell(*args: Any) -> subprocess.CompletedProcess:
  return subprocess.run(
    [sys.executable, "-m", "experiments.main", *map(str, args)],
    cwd=ROOT,
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
    timeout=120,
  )


QUICKSTART = "--config=configs/quickstart.py"


def test_help_says_what_to_type_next() -> None:
  text = shell("--help").stdout
  assert "What to type next:" in text
  assert "python -m experiments.main --config=configs/quickstart.py" in text
  for flag in ("config", "workdir", "keydir", "secret", "coordinator"):
    assert f"\n  --{flag}: " in text


@pytest.mark.parametrize("program", ["attack", "interpret"])
def test_the_command_in_help_can_be_copied(program: str) -> None:
  module = importlib.import_module(f"experiments.{program}")
  flat = re.sub(r"\s*\\\n\s*", " ", str(module.__doc__))
  command = rf"python -m experiments.{program} --config=\S+ --workdir=\S+\n"
  assert re.search(command, flat)


# Arguments, with {} for a fresh folder, and part of the line on stderr.
MISTAKES = {
  "field": ([QUICKSTART, "--workdir={}", "--config.nope=1"], "field 'nope'"),
  "inner field": (
    [QUICKSTART, "--workdir={}", "--config.train.epoch=1"],
    r"no field 'epoch' \(did you mean 'epochs'\?\)",
  ),
  "data set": (
    [QUICKSTART, "--workdir={}", "--config.dataset=imagenot"],
    "Unknown data set 'imagenot': choose from .*cifar10, .*digits, .*fake",
  ),
  "model": (
    [QUICKSTART, "--workdir={}", "--config.model=transformer"],
    "Unknown model 'transformer': choose from cnn, ",
  ),
  "config": (
    ["--config=configs/nope.py", "--workdir={}"],
    "no config file configs/nope.py",
  ),
  "recipe of a config": (
    ["--config=configs/hpnn.py:cats", "--workdir={}", "--config.name=a"],
    "unknown data set 'cats' for configs/hpnn.py, which has mnist, gtsrb",
  ),
  "config and field": (
    ["--config=configs/nope.py", "--workdir={}", "--config.name=a"],
    "no config: .*configs/nope.py",
  ),
  "keys inside": (
    [QUICKSTART, "--workdir={}", "--keydir={}/keys"],
    "keys must not be in the workdir",
  ),
}


@pytest.mark.parametrize("name", [*MISTAKES])
def test_a_mistake_is_one_clear_line(name: str, tmp_path: pathlib.Path) -> None:
  args, message = MISTAKES[name]
  folder = tmp_path / "run"
  ended = command.run("main", *(a.format(folder) for a in args))
  assert ended.code == 1
  assert "Traceback" not in ended.stderr
  (line,) = ended.stderr.strip().splitlines()
  assert line.startswith("error: ") and re.search(message, line), line
  assert not folder.exists(), "a mistake claims no folder"
  assert not [*tmp_path.iterdir()]


def test_the_workdir_of_another_run_is_one_clear_line(
  tmp_path: pathlib.Path,
) -> None:
  folder = tmp_path / "run"
  Workdir(main_job.config(), str(folder))
  ended = command.run("main", QUICKSTART, f"--workdir={folder}")
  assert ended.code == 1
  (line,) = ended.stderr.strip().splitlines()
  assert re.search("^error: .*holds another run: its config differs at", line)
