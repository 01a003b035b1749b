"""Training, encryption and authorised inference compile for TPU slices.

Run by hand: `pip install "jax[tpu]"`, then
`pytest -m tpu_aot tests/experiments`.
"""

import jax
import pytest

from experiments.benchmarks import tpu


def test_bounds_of_a_ring() -> None:
  got = tpu.Figures(2e12, 4e9, 0, {"all-reduce": 8 * 10**9, "all-gather": 0})
  limits = tpu.bounds(got, tpu.Chip(1e12, 1e9, 2e9), 4)
  assert limits == {"compute": 2.0, "memory": 4.0, "network": 6.0}


def test_a_slice_without_a_compiler_is_an_error() -> None:
  with pytest.raises(RuntimeError, match="no compiler for v5e:3x5x7"):
    tpu.devices("v5e:3x5x7")


@pytest.mark.tpu_aot
@pytest.mark.parametrize("name", tpu.SLICES)
@pytest.mark.parametrize("how", ["pmap", "shard_map", "fsdp"])
def test_training_compiles(name: str, how: str) -> None:
  chips = slice_of(name)
  compiled = tpu.train_step("hpnn", how, chips, "cnn")
  got = tpu.figures(compiled)
  assert got.collectives.get("all-reduce", 0) > 0 or how == "fsdp"
  assert sum(got.collectives.values()) > 0
  assert got.flops > 0 and got.held > 0
  assert "callback" not in compiled.as_text()


@pytest.mark.tpu_aot
@pytest.mark.parametrize("name", tpu.SLICES)
def test_encryption_sends_nothing(name: str) -> None:
  compiled = tpu.encryption(slice_of(name), "cnn")
  assert not dict(tpu.collectives(compiled.as_text()))


@pytest.mark.tpu_aot
@pytest.mark.parametrize("name", tpu.SLICES)
@pytest.mark.parametrize("scheme", ["plain", "hpnn", "deep_lock"])
def test_inference_compiles(name: str, scheme: str) -> None:
  compiled = tpu.inference(scheme, slice_of(name), "cnn")
  assert not dict(tpu.collectives(compiled.as_text()))


def slice_of(name: str) -> list[jax.Device]:
  pytest.importorskip("libtpu")
  return tpu.devices(name)
