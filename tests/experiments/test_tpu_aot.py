"""Training, encryption and authorised inference compile for TPU slices.

Run by hand: `pip install "jax[tpu]"`, then
`pytest -m tpu_aot tests/experiments`.
"""

from typing import Any

import jax
import pytest

from experiments.benchmarks import programs, tpu


def test_bounds_of_a_ring() -> None:
  figures = tpu.Figures(
    flops=2e12,
    read=4e9,
    held=0,
    collectives={"all-reduce": 8 * 10**9, "all-gather": 0},
  )
  chip = tpu.Chip(flops=1e12, memory=1e9, network=2e9)
  limits = tpu.bounds(figures, chip, count=4)
  assert limits == {"compute": 2.0, "memory": 4.0, "network": 6.0}


def test_a_slice_without_a_compiler_is_an_error() -> None:
  with pytest.raises(RuntimeError, match="no compiler for v5e:3x5x7"):
    tpu.devices("v5e:3x5x7")


@pytest.mark.tpu_aot
@pytest.mark.parametrize("name", tpu.SLICES)
@pytest.mark.parametrize("how", ["pmap", "shard_map", "fsdp"])
@pytest.mark.parametrize("scheme", programs.TRAINED)
def test_training_compiles(scheme: str, how: str, name: str) -> None:
  compiled = programs.training(scheme, how, slice_of(name), "cnn")
  figures = tpu.figures(compiled)
  assert figures.collectives.get("all-reduce", 0) > 0 or how == "fsdp"
  assert sum(figures.collectives.values()) > 0
  assert figures.flops > 0 and figures.held > 0
  assert "callback" not in compiled.as_text()


@pytest.mark.tpu_aot
@pytest.mark.parametrize("name", tpu.SLICES)
@pytest.mark.parametrize("opens", [False, True])
@pytest.mark.parametrize(
  ("scheme", "cut"),
  [*((x, False) for x in programs.LOCKED), *((x, True) for x in programs.CUT)],
)
def test_locking_sends_nothing(
  scheme: str, cut: bool, opens: bool, name: str
) -> None:
  compiled = programs.locking(
    scheme, slice_of(name), "cnn", opens=opens, cut=cut
  )
  sends_nothing(compiled)


@pytest.mark.tpu_aot
@pytest.mark.parametrize("name", tpu.SLICES)
@pytest.mark.parametrize("how", ["pmap", "shard_map"])
@pytest.mark.parametrize("scheme", programs.SCHEMES)
def test_inference_sends_nothing(scheme: str, how: str, name: str) -> None:
  sends_nothing(programs.inference(scheme, how, slice_of(name), "cnn"))


def sends_nothing(compiled: Any) -> None:
  text = compiled.as_text()
  assert not dict(tpu.collectives(text)) and "callback" not in text


@pytest.mark.slow
@pytest.mark.parametrize("how", ["pmap", "shard_map"])
@pytest.mark.parametrize("scheme", programs.SCHEMES)
def test_the_programs_are_those_of_the_main_job(scheme: str, how: str) -> None:
  """They also compile for the devices of this machine."""
  with jax.numpy_dtype_promotion("standard"):
    here = jax.devices()[:2]
    compiled = programs.inference(scheme, how, here, "mlp")
    if scheme in programs.TRAINED:
      programs.training(scheme, how, here, "mlp")
    if scheme in programs.LOCKED:
      for opens in (False, True):
        programs.locking(scheme, here, "mlp", opens=opens)
  assert tpu.figures(compiled).flops > 0


def slice_of(name: str) -> list[jax.Device]:
  pytest.importorskip("libtpu")
  return tpu.devices(name)
