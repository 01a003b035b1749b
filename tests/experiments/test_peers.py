"""The comparison of sealed checkpoints with what else a user would pick."""

import pathlib
import subprocess

import numpy as np
import pytest

from experiments.benchmarks import checkpoint
from experiments.benchmarks.peers import comparison, environment, tasks, tools

TINY = comparison.WORKLOADS[0]._replace(leaves=2, size=1 << 12)


@pytest.fixture
def tree(tmp_path: pathlib.Path) -> pathlib.Path:
  """Return a folder with a tree of two small leaves."""
  folder = tmp_path / "tree"
  folder.mkdir()
  arrays = checkpoint.make_tree(TINY.leaves, TINY.size)
  tasks.write_arrays(folder, arrays)
  return folder


@pytest.mark.parametrize("name", [*tools.OURS, "safetensors"])
def test_a_tool_saves_and_restores(
  name: str, tree: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  save, restore = (
    tasks.run(name, action, tree, tmp_path) for action in ("save", "restore")
  )
  for taken in (save, restore):
    assert taken["wall"] > 0 and taken["cpu"] > 0 and taken["memory"] >= 0
  # What is on the disk, with the files' own headers.
  assert restore["disk"] == save["disk"]
  assert 1 << 11 < save["disk"] < 1 << 18


def test_other_values_are_found(
  tree: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  tasks.run("safetensors", "save", tree, tmp_path)
  with open(tree / "values", "r+b") as file:
    byte = file.read(1)[0]
    file.seek(0)
    file.write(bytes([byte ^ 1]))
  with pytest.raises(ValueError, match="layer_000 was not restored"):
    tasks.run("safetensors", "restore", tree, tmp_path)


def test_ratios_are_of_each_round() -> None:
  ours = [_taken(1, 2), _taken(2, 3), _taken(9, 3)]
  peer = [_taken(2, 1), _taken(2, 1), _taken(3, 1)]
  found = {
    (name, action): rounds
    for action in ("save", "restore")
    for name, rounds in (("KeyJAX", ours), ("Orbax", peer))
  }
  rows = list(comparison.compare(TINY, found))
  assert len(rows) == 2 * 2 + 2 * 2 + 2
  wall, cpu = rows[:2]
  assert wall["name"] == "save 1 GiB in 200 leaves, KeyJAX / Orbax: time"
  # 1/2, 2/2, 9/3.
  assert (wall["low"], wall["value"], wall["high"]) == (0.75, 1.0, 2.0)
  assert wall["target"] == "<= 0.70" and wall["note"] == "2 / 2 s"
  assert cpu["name"].endswith("KeyJAX / Orbax: processor time")
  assert cpu["value"] == 3.0 and rows[2]["target"] == "<= 0.85"
  memory = {r["name"]: r for r in rows if r["unit"] == "MiB"}
  ours_restored = memory[
    "restore 1 GiB in 200 leaves, KeyJAX: memory above the start"
  ]
  assert ours_restored["value"] == 4 and ours_restored["target"] == "<= 1,029"
  assert memory["1 GiB in 200 leaves, Orbax: on disk"]["value"] == 8


def _taken(wall: float, cpu: float) -> dict[str, float]:
  mib = 1 << 20
  return {"wall": wall, "cpu": cpu, "memory": 4 * mib, "disk": 8 * mib}


def test_peers_that_a_machine_lacks_are_named(
  monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
  monkeypatch.setenv("PATH", "")
  monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
  monkeypatch.setattr(
    comparison, "_child", lambda *arguments: _taken(len(arguments[1]), 1)
  )
  workload = TINY._replace(peers=("age", "openssl", "tensorizer", "Orbax"))
  rows = list(comparison.rows(3, (workload,)))
  said = capsys.readouterr().err
  assert "age is left out: no program age on the PATH" in said
  assert "openssl is left out" in said and "tensorizer is left out" in said
  assert len(rows) == 10 and rows[0]["value"] == 6 / 5
  assert "round 3 of 3" in said and not any("age" in r["name"] for r in rows)


def test_an_environment_is_made_once(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  commands: list[list[str]] = []

  def run(command: list[str], **options: bool) -> object:
    commands.append(command)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyvenv.cfg").touch()
    return subprocess.CompletedProcess(command, 0, "", "")

  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  monkeypatch.setattr(subprocess, "run", run)
  folder = environment.folder()
  assert folder == tmp_path / "peers"
  interpreter = environment.python()
  assert environment.python() == interpreter and len(commands) == 2
  assert commands[1][:3] == [interpreter, "-m", "pip"]
  assert set(environment.PACKAGES) < set(commands[1])
  assert all("==" in package for package in environment.PACKAGES)
  (folder / "installed.txt").write_text("other packages")
  environment.python()
  assert len(commands) == 4


def test_an_environment_that_cannot_be_made_is_one_line(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  said = "WARNING: retrying\nERROR: No matching distribution\n\nhint: upgrade"
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  monkeypatch.setattr(
    subprocess,
    "run",
    lambda command, **options: subprocess.CompletedProcess(
      command, int("pip" in command), "", said
    ),
  )
  line = "error: pip cannot make the environment of peers: ERROR: No matching"
  with pytest.raises(SystemExit, match=line) as found:
    environment.python()
  assert "\n" not in str(found.value)
  other = environment.folder()
  other.mkdir()
  (other / "mine").touch()
  with pytest.raises(SystemExit, match="is not a virtual environment"):
    environment.python()
  assert (other / "mine").exists()


def test_arrays_survive_their_file(tree: pathlib.Path) -> None:
  arrays = tasks.read_arrays(tree)
  for name, leaf in checkpoint.make_tree(TINY.leaves, TINY.size).items():
    np.testing.assert_array_equal(arrays[name], leaf, strict=True)
