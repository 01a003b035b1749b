"""Benchmarks count correctly, and their parts have names."""

import re
from collections.abc import Iterator
from typing import Any

import jax
import pytest
from absl import flags

from experiments import benchmark, models
from experiments.benchmarks import inputs, release, scaling, timing


@pytest.fixture(autouse=True)
def as_users_run_it() -> Iterator[None]:
  """Allow the standard promotion, which Optax needs."""
  with jax.numpy_dtype_promotion("standard"):
    yield


@pytest.mark.parametrize("how", ["pmap", "shard_map"])
def test_a_step_exchanges_gradients_and_metrics(how: str) -> None:
  model = models.create("mlp", 10, (0.5,), (0.25,), hidden=(4,))
  found = scaling.volume(model, (8, 8, 1), how, jax.devices()[:2])
  params = 64 * 4 + 4 + 4 * 10 + 10
  assert found.compiled == found.paper == 4 * params + 4 * 2


@pytest.mark.slow
def test_batch_statistics_are_exchanged_too() -> None:
  model = models.create("resnet18", 10, (0.5,), (0.25,), width=2)
  found = scaling.volume(model, (8, 8, 1), "pmap", jax.devices()[:2])
  # Each of three projections ends in a norm, whose output is added to that of
  # the block's last one: their biases have the same gradient.
  assert found.paper - found.compiled == 4 * (4 + 8 + 16)


def test_devices_share_the_operations_of_an_evaluation() -> None:
  model = models.create("mlp", 10, (0.5,), (0.25,), hidden=(4,))
  one, eight = (
    scaling.evaluation(model, (2, 2, 1), jax.devices()[:n]) for n in (1, 8)
  )
  assert eight / one == pytest.approx(1 / 8, rel=0.1)


def test_an_unknown_part_lists_the_known_ones() -> None:
  with pytest.raises(SystemExit, match="section overhead.infer; known: .*"):
    benchmark.main(["benchmark", "overhead.infer"])
  with pytest.raises(SystemExit, match="overhead.inference, .*scaling"):
    benchmark.main(["benchmark", "scales"])


def test_a_row_is_printed_when_it_is_measured(
  monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
  seen: list[str] = []

  def rows(rounds: int) -> Iterator[dict[str, Any]]:
    for i in range(2):
      yield timing.row(f"this {i}", timing.Summary(1.5, 1.0, 2.0), "GB/s")
      seen.append(capsys.readouterr().out)

  monkeypatch.setitem(benchmark.SECTIONS, "mine", rows)
  flags.FLAGS.mark_as_parsed()
  benchmark.main(["benchmark", "mine"])
  assert seen == ["this 0: 1.5 GB/s\n", "this 1: 1.5 GB/s\n"]
  assert "1 - 2" in capsys.readouterr().out  # The quartiles, in the table.


def test_the_default_is_what_the_help_says() -> None:
  left_out = {"inputs", "release", "scaling", "tpu", "peers", "parity"}
  left_out |= {"data", "gridworlds", "membership", "pretrained"}
  whole = {name for name in benchmark.SECTIONS if "." not in name}
  assert whole - set(benchmark.DEFAULT) == left_out
  said = str(benchmark.__doc__)
  assert "all but the last ten" in said
  listed = [*dict.fromkeys(re.findall(r"experiments.benchmark (\w+)", said))]
  assert set(listed[-10:]) == left_out


@pytest.mark.slow
def test_the_host_prepares_images() -> None:
  rows = inputs.rows(1)
  assert len(rows) == 4 and all(r["unit"] == "images/s" for r in rows)
  assert min(r["low"] for r in rows) > 0


@pytest.mark.slow
def test_a_release_server_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.setattr(release, "_SECONDS", 0.2)
  rows = release.rows(1)
  assert [r["unit"] for r in rows] == ["1/s", "ms", "us"] * 2
  assert min(r["low"] for r in rows) > 0
