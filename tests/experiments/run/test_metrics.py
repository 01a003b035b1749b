"""Metrics as lines and for TensorBoard, traces, and silence elsewhere."""

import itertools
import json
import pathlib
import struct
import types
from typing import Any

import jax.numpy as jnp
import pytest
from tensorboardX.proto import event_pb2

from experiments.run import metrics
from experiments.run.metrics import MetricsLog
from keyjax import processes

METRICS = {"loss": jnp.float32(0.5), "accuracy": jnp.float32(0.25)}


def write(folder: pathlib.Path, first: int, last: int, **options: Any) -> None:
  options = {"every": 2} | options
  folder.mkdir(exist_ok=True)
  with MetricsLog(folder, first - 1, 6, **options) as made:
    for step in range(first, last + 1):
      made.begin(step)
      made.add(step, METRICS, 10)


def lines(folder: pathlib.Path) -> list[dict[str, float]]:
  text = (folder / "metrics.jsonl").read_text()
  return [json.loads(line) for line in text.splitlines()]


def scalars(folder: pathlib.Path) -> dict[tuple[str, int], float]:
  """Read TensorBoard's records: length, checksum, event, checksum."""
  found = {}
  for file in sorted((folder / "tensorboard").iterdir()):
    content = file.read_bytes()
    while content:
      (size,) = struct.unpack("<Q", content[:8])
      event = event_pb2.Event.FromString(content[12 : 12 + size])
      for value in event.summary.value:
        found[value.tag, event.step] = value.simple_value
      content = content[16 + size :]
  return found


def test_lines_and_tensorboard_say_the_same(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  ticks = itertools.count(0, 0.01)
  clock = types.SimpleNamespace(monotonic=lambda: next(ticks))
  monkeypatch.setattr(metrics, "time", clock)
  write(tmp_path, 1, 6, unit="characters")
  found = lines(tmp_path)
  assert [x["step"] for x in found] == [2, 4, 6]
  assert set(found[0]) == {
    "step",
    "loss",
    "accuracy",
    "characters_per_second",
    "step_seconds",
    "seconds_left",
  }
  shown = scalars(tmp_path)
  for line in found:
    for name in set(line) - {"step"}:
      value = shown[f"train/{name}", line["step"]]
      assert value == pytest.approx(line[name], rel=1e-5)
  assert found[0]["seconds_left"] >= 0 and found[-1]["seconds_left"] == 0
  rate = found[1]["characters_per_second"] * found[1]["step_seconds"]
  assert rate == pytest.approx(10, rel=0.05)


def test_a_resumed_run_continues_its_lines(tmp_path: pathlib.Path) -> None:
  write(tmp_path, 1, 4)
  write(tmp_path, 3, 6)  # step 4 is done again
  assert [x["step"] for x in lines(tmp_path)] == [2, 4, 6]
  assert {s for _, s in scalars(tmp_path)} == {2, 4, 6}


@pytest.mark.parametrize("damage", [b"{bad\n", b"[1]\n", b"\xff\n"])
def test_a_damaged_line_is_named_and_nothing_is_lost(
  damage: bytes, tmp_path: pathlib.Path
) -> None:
  write(tmp_path, 1, 4)
  file = tmp_path / "metrics.jsonl"
  before = damage + file.read_bytes()
  file.write_bytes(before)
  with pytest.raises(ValueError, match="metrics.jsonl has a damaged line"):
    write(tmp_path, 3, 6)
  assert file.read_bytes() == before
  file.write_bytes(before[len(damage) :] + damage[:-1])  # As a kill leaves it.
  write(tmp_path, 3, 6)
  assert [x["step"] for x in lines(tmp_path)] == [2, 4, 6]


def test_a_run_that_is_done_writes_nothing(tmp_path: pathlib.Path) -> None:
  write(tmp_path, 7, 6)
  assert not [*tmp_path.iterdir()]


def test_chosen_steps_are_traced(tmp_path: pathlib.Path) -> None:
  write(tmp_path, 1, 6, profile=(2, 3))
  assert [*(tmp_path / "profile").rglob("*.xplane.pb")]


def test_a_trace_ends_with_the_run(tmp_path: pathlib.Path) -> None:
  write(tmp_path / "a", 1, 2, profile=(2, 5))
  write(tmp_path / "b", 1, 2, profile=(1, 1))  # the trace is closed
  assert [*(tmp_path / "a/profile").rglob("*.xplane.pb")]


def test_other_processes_are_silent(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
  monkeypatch.setattr(processes, "is_first", lambda: False)
  write(tmp_path, 1, 6, profile=(2, 3))
  assert not [*tmp_path.iterdir()]
  assert capsys.readouterr().out.strip() == ""
