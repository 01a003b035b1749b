"""KeyJAX's commands against age, on a small file."""

import pathlib
import shutil
import sys

import numpy as np
import pytest

from experiments.benchmarks.pretrained import ciphers

COPY = "import shutil, sys; shutil.copyfile(*sys.argv[1:])"


def copying(program: str = COPY) -> ciphers.Tool:
  """Return a tool that encrypts nothing."""
  command = [sys.executable, "-c", program]
  return ciphers.Tool(
    lambda keys: [sys.executable, "-c", ""],
    lambda keys, *files: [*command, *map(str, files)],
    lambda keys, *files: [*command, *map(str, files)],
  )


@pytest.fixture
def file(tmp_path: pathlib.Path) -> pathlib.Path:
  path = tmp_path / "model.safetensors"
  ciphers.write(path, {"a": np.ones((64, 64), np.float16), "b": np.ones(3)})
  return path


@pytest.mark.slow
def test_keyjax_gives_the_same_bytes(file: pathlib.Path) -> None:
  assert file.stat().st_size > 4 * 64 * 64, "float32"
  tools = {"KeyJAX": ciphers.keyjax_tool(), "age": copying()}
  found = ciphers.measure(file, tools, 1)
  rows = list(ciphers.compare("small", file.stat().st_size, found))
  assert len(rows) == 2 * (1 + 2 * 2)
  (encrypt,) = found["KeyJAX", "encrypt"]
  assert 0 < encrypt.cpu and 1 << 24 < encrypt.memory < 1 << 34
  assert sorted(p.name for p in file.parent.glob("KeyJAX/*")) == [
    "a.key",
    "a.key.pub",
  ]


def test_ratios_are_of_each_round_and_memory_of_the_file() -> None:
  mb = 10**6
  ours = [ciphers.Taken(1, 2, 110 * mb), ciphers.Taken(6, 2, 130 * mb)]
  peer = [ciphers.Taken(2, 1, 300 * mb), ciphers.Taken(3, 1, 300 * mb)]
  found = {
    (name, action): taken
    for action in ("encrypt", "decrypt")
    for name, taken in (("KeyJAX", ours), ("age", peer))
  }
  rows = {r["name"]: r for r in ciphers.compare("x", 100 * mb, found)}
  ratio = rows["encrypt x, KeyJAX / age: time"]
  assert ratio["value"] == 1.25 and ratio["note"] == "3.5 / 2.5 s"
  memory = rows["decrypt x, KeyJAX: peak memory / file"]
  assert memory["value"] == pytest.approx(1.2)
  assert memory["target"] == "<= 1.30"
  peers = rows["decrypt x, age: peak memory / file"]
  assert peers["value"] == 3 and peers["target"] == ""


def test_the_memory_of_the_process_that_measures_does_not_count(
  file: pathlib.Path,
) -> None:
  held = np.ones(1 << 24)  # 128 MiB
  found = ciphers.measure(file, {"age": copying()}, 1)
  assert held.all()
  (taken,) = found["age", "encrypt"]
  assert 1 << 20 < taken.memory < 100 << 20


def test_a_tool_that_fails_or_changes_the_file(file: pathlib.Path) -> None:
  shutil.rmtree(file.parent / "age", ignore_errors=True)
  with pytest.raises(RuntimeError, match="age encrypt: .*no key"):
    ciphers.measure(file, {"age": copying("raise SystemExit('no key')")}, 1)
  other = "import sys; open(sys.argv[2], 'w').write('other')"
  shutil.rmtree(file.parent / "age")
  with pytest.raises(RuntimeError, match="was not restored as it was"):
    ciphers.measure(file, {"age": copying(other)}, 1)
