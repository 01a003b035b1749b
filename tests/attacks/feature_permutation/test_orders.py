"""Stored statistics, and a few swaps, give the key of permuted channels."""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from keyjax import Secret, tasks
from keyjax.attacks import referee, registry
from keyjax.attacks.fit import Recipe, fit
from keyjax.attacks.game import Attacker, Budget, Examples, Target
from keyjax.schemes.feature_permutation import feature_permutation
from tests import trees

MASKS = tasks.get("masks")
RNG = np.random.default_rng(0)


class Net(nn.Module):
  """A class for each pixel; no statistics are kept of what `mix` returns."""

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    for i in range(2):
      x = nn.Conv(8, (3, 3), name=f"conv_{i}")(x)
      x = nn.relu(nn.BatchNorm(not train, momentum=0.9, name=f"norm_{i}")(x))
    x = nn.relu(nn.Conv(6, (1, 1), name="mix")(x))
    return nn.Conv(6, (1, 1), name="head")(x)


def examples(count: int) -> Examples:
  images = RNG.random((count, 8, 8, 1)).astype(np.float32)
  return Examples(images, (6 * images[..., 0]).astype(np.uint8))


@functools.cache
def target(layers: str | None = None) -> Target:
  """Lock an untrained model, and train it under its key."""
  train, test = examples(128), examples(32)
  start = trees.fresh(Net(), jnp.asarray(train.image[:1]))
  scheme = feature_permutation(Net().apply, layers)
  key = scheme.keygen(
    Secret(bytes(range(32))), start, {"image": jnp.asarray(train.image)}
  )
  assert scheme.bind is not None
  run = scheme.bind(key, Net().apply)
  recipe = Recipe(learning_rate=1e-2)
  params = next(fit(run, start, train, [150], recipe, loss=MASKS.loss)).params
  return Target(
    name="feature_permutation",
    scheme=scheme,
    key=key,
    params=params,
    locked=params,
    apply_fn=Net().apply,
    init=lambda rng: Net().init(rng, jnp.zeros((1, 8, 8, 1))),
    train=train,
    test=test,
    task=MASKS,
    options={} if layers is None else {"layers": layers},
  )


def play(
  name: str, against: Target, steps: int = 0, **setting: Any
) -> referee.AttackResult:
  budget = Budget(steps, 2) if steps else Budget()
  return referee.play(
    registry.get(name), against, Attacker(images=64), budget, setting
  )


def right(against: Target) -> float:
  model = against.authorized()
  return referee.judge(model, against.test, against.task).value


def test_stored_statistics_give_the_key_without_labels() -> None:
  against = target()
  found = play("feature_statistics", against)
  assert found.score.details["channels"] == 22
  # Both layers that a normalisation follows, the second behind the first.
  assert found.score.details["layers_right"] >= 2
  one = target("conv_0")
  alone = play("feature_statistics", one)
  assert alone.score.details["layers_right"] == 1
  assert alone.score.value == pytest.approx(right(one))


def test_swaps_find_what_statistics_leave() -> None:
  against = target()
  before = play("feature_statistics", against).score
  after = play("feature_swaps", against, 150).score
  assert before.value < right(against) - 0.1 < after.value
  assert after.details["channels_right"] > before.details["channels_right"]


def test_swaps_alone_climb() -> None:
  against = target("conv_0")
  found = play("feature_swaps", against, 120, informed=False)
  scores = [claim.score.value for claim in found.curve]
  assert scores[-1] > 0.9 * right(against) and len(scores) > 1


def test_a_broken_file_gives_scores_of_nothing() -> None:
  """Statistics that are NaN are an order all the same, and no crash."""
  against = target("conv_0")
  broken = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), against.locked)
  spoiled = dataclasses.replace(against, locked=broken)
  for name, steps in (("feature_statistics", 0), ("feature_swaps", 5)):
    assert play(name, spoiled, steps).score.value == 0
