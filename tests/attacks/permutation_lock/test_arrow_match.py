"""ArrowMatch wins where a public model points the way, and only there."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from keyjax.attacks import referee, registry
from keyjax.attacks.fit import Recipe, fit
from keyjax.attacks.game import Attacker, Budget, Target
from keyjax.attacks.permutation_lock import arrow_match
from tests.attacks import toys

AXES = [("inputs",), ("outputs",), ("inputs", "outputs")]


@functools.cache
def tuned():
  """Return the digits model, fine-tuned for other digits."""
  train, _ = toys.digits()
  fits = fit(
    toys.NET.apply, toys.trained(), train, [60], Recipe(learning_rate=3e-3)
  )
  return next(fits).params


def target(axes: tuple[str, ...], base) -> Target:
  scheme = keyjax.permutation_lock(axes=axes)
  made = toys.target(scheme, "permutation_lock", params=tuned())
  return dataclasses.replace(made, base=base, options={"axes": axes})


def play(name: str, against: Target) -> referee.AttackResult:
  attacker = Attacker(has_base=True)
  return referee.play(registry.get(name), against, attacker, Budget())


@pytest.mark.parametrize("axes", AXES)
def test_the_base_model_gives_every_weight(axes: tuple[str, ...]) -> None:
  found = play("arrow_match", target(axes, toys.trained()))
  assert found.score.value > 0.97  # Units that never fire have no direction.
  function = play("arrow_match_function", target(axes, toys.trained()))
  right = referee.judge(target(axes, None).authorized(), toys.digits()[1]).value
  assert function.score.value > right - 0.02


@pytest.mark.parametrize("axes", AXES)
def test_another_model_gives_nothing(axes: tuple[str, ...]) -> None:
  found = play("arrow_match", target(axes, toys.init(jax.random.key(9))))
  assert found.score.value < 0.3


def test_a_stolen_file_alone_is_useless() -> None:
  locked = target(("inputs", "outputs"), None)
  stolen = referee.judge(
    referee.Model(locked.locked, locked.apply_fn), locked.test
  )
  assert stolen.value < 0.4


def test_fine_tuning_recovers_the_function() -> None:
  against = target(("inputs", "outputs"), None)
  attacker = Attacker(knows_scheme=False, images=600)
  setting = {"learning_rate": 3e-3}
  tune = registry.get("fine_tune")
  played = referee.play(tune, against, attacker, Budget(200, 2), setting)
  assert played.score.value > 0.85 > 0.4 > played.curve[0].score.value


def test_kernels_of_convolutions_and_zeros() -> None:
  rng = np.random.default_rng(1)
  base = rng.normal(size=(3, 3, 7, 6)).astype(np.float32)
  base[..., 2, :] = 0  # No direction, but the only such row.
  locked = base[:, :, rng.permutation(7)][..., rng.permutation(6)]
  found = arrow_match.restore(locked, base, ("inputs", "outputs"))
  assert (found == base).all()
  assert np.isfinite(jnp.asarray(found)).all()
