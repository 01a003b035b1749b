"""What benchmarks count is right, and their parts have names."""

from collections.abc import Iterator

import jax
import pytest

from experiments import benchmark, models
from experiments.benchmarks import overhead, scaling


@pytest.fixture(autouse=True)
def as_users_run_it() -> Iterator[None]:
  """Optax needs the standard promotion."""
  with jax.numpy_dtype_promotion("standard"):
    yield


@pytest.mark.parametrize("how", ["pmap", "shard_map"])
def test_a_step_exchanges_gradients_and_metrics(how: str) -> None:
  model, image = overhead.mnist_cnn(), overhead.MNIST[0]
  found = scaling.volume(model, image, how, jax.devices()[:2])
  assert found.compiled == found.paper == 4 * 215_370 + 8


@pytest.mark.slow
def test_batch_statistics_are_exchanged_too() -> None:
  model = models.create("resnet18", 10, (0.5,), (0.25,), width=2)
  variables = jax.eval_shape(
    model.init, jax.random.key(0), jax.numpy.zeros((1, 8, 8, 1))
  )
  sizes = {
    name: sum(x.size for x in jax.tree.leaves(variables[name]))
    for name in ("params", "batch_stats")
  }
  found = scaling.volume(model, (8, 8, 1), "pmap", jax.devices()[:2])
  assert found.compiled == found.paper == 4 * sum(sizes.values()) + 8
  assert sizes["batch_stats"] > 0


def test_one_device_exchanges_nothing() -> None:
  model = models.create("mlp", 10, (0.5,), (0.25,), hidden=(4,))
  found = scaling.volume(model, (8, 8, 1), "pmap", jax.devices()[:1])
  assert found == (0, 0)


def test_an_unknown_part_lists_the_known_ones() -> None:
  with pytest.raises(SystemExit, match="section schemes.infer; known: .*"):
    benchmark.main(["benchmark", "schemes.infer"])
  with pytest.raises(SystemExit, match="schemes.inference, .*scaling"):
    benchmark.main(["benchmark", "scales"])
