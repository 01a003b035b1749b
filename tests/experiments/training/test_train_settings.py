"""The trainer's settings: steps, schedules, unknown names."""

import pathlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.training import train
from tests.experiments.training.runs import create, fit, settings


@pytest.fixture(autouse=True)
def as_users_run_it() -> Iterator[None]:
  """Allow the standard promotion, which Optax needs."""
  with jax.numpy_dtype_promotion("standard"):
    yield


@pytest.mark.parametrize(
  "field, value, known",
  [
    ("optimizer", "lion", "adam.*sgd"),
    ("schedule", "step", "constant.*cosine.*triangle"),
    ("parallel", "pjit", "pmap.*shard_map"),
  ],
)
def test_unknown_names_list_the_known_ones(
  field: str, value: str, known: str, tmp_path: pathlib.Path
) -> None:
  with pytest.raises(ValueError, match=f"{value}.*{known}"):
    fit(tmp_path, settings(**{field: value}), create())


def test_num_steps() -> None:
  assert train.num_steps(settings(epochs=3.0), 128) == 6
  assert train.num_steps(settings(epochs=0.75), 128) == 2
  assert train.num_steps(settings(epochs=0.001), 128) == 1
  assert train.num_steps(settings(), 191) == 6  # The remainder is dropped.


@pytest.mark.parametrize("schedule", ["constant", "cosine", "triangle"])
def test_schedules_reach_their_peak(schedule: str) -> None:
  config = settings(
    optimizer="sgd", schedule=schedule, learning_rate=0.5, warmup=0.2
  )
  rule = train.make_optimizer(config, 100)
  params = {"w": jnp.float32(0)}
  state, rates, trace = rule.init(params), [], 0.0
  update = jax.jit(rule.update)
  for _ in range(100):
    step, state = update({"w": jnp.float32(1)}, state, params)
    trace = 0.9 * trace + 1  # momentum's sum of equal gradients
    rates.append(round(-float(step["w"]) / trace, 5))
  peak = {"constant": 0, "cosine": 20, "triangle": 50}[schedule]
  assert int(np.argmax(rates)) == peak
  assert max(rates) == pytest.approx(0.5)
  if schedule != "constant":
    assert rates[0] == 0 and rates[-1] < 0.02
    assert np.all(np.diff(rates[: peak + 1]) > 0)
    assert np.all(np.diff(rates[peak:]) < 0)
