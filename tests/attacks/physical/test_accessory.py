"""Accessories on the digits, against random fills of the same mask."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from keyjax.attacks.evasion.problem import misclassified
from keyjax.attacks.physical import (
  accessory_attack,
  glasses,
  non_printability,
  total_variation,
  wear,
)
from tests.attacks import toys

RNG = jax.random.key(0)
MASK = glasses(8, 8)
PALETTE = jnp.asarray([[0.2], [0.9]])
CLASS = 3
TARGET = 9


@pytest.fixture(autouse=True, scope="module")
def trained() -> None:
  """Train outside of any trace."""
  toys.trained()
  photos()


def model(x: jax.Array) -> jax.Array:
  return toys.NET.apply(toys.trained(), x)


@functools.cache
def photos() -> jax.Array:
  """Return 24 photos of one class that are classified correctly."""
  images, labels = toys.digits()[1]
  images = images[labels == CLASS]
  right = np.asarray(model(images).argmax(-1)) == CLASS
  return jnp.asarray(images[right][:24])


@functools.partial(jax.jit, static_argnames=("targeted", "shift"))
def run(rng=RNG, smoothness=0.1, printability=0.0, targeted=False, shift=0):
  x = photos()[:12]
  return accessory_attack(
    model,
    x,
    jnp.full(len(x), CLASS, jnp.int32),
    MASK,
    targets=jnp.full(len(x), TARGET, jnp.int32) if targeted else None,
    steps=100,
    smoothness=smoothness,
    palette=PALETTE,
    printability=printability,
    shift=shift,
    rng=rng,
  )


@functools.cache
def found(**options):
  return run(**options)


def worn(pattern, shifts=None, others=False):
  x = photos()[12:] if others else photos()[:12]
  return model(wear(x, pattern, MASK, shifts))


def test_dodging_and_impersonation_beat_random_fills() -> None:
  labels = jnp.full(12, CLASS, jnp.int32)
  dodging, posing = found(), found(targeted=True)
  assert dodging.success.mean() > 0.7 and dodging.finite
  assert dodging.success.mean() > dodging.control.mean() + 0.2
  assert posing.success.mean() > posing.control.mean() + 0.4
  for result in (dodging, posing):
    assert 0 <= result.pattern.min() and result.pattern.max() <= 1
    assert result.pattern.shape == (8, 8, 1) and result.queries == 102
  again = misclassified(worn(dodging.pattern), labels)
  np.testing.assert_array_equal(dodging.success, again)
  again = worn(posing.pattern).argmax(-1) == TARGET
  np.testing.assert_array_equal(posing.success, again)


def test_one_pattern_works_on_other_photos() -> None:
  logits = worn(found().pattern, others=True)
  assert (logits.argmax(-1) != CLASS).mean() > 0.5


@pytest.mark.slow
def test_terms_of_the_objective_do_what_they_say() -> None:
  plain = found()
  smooth = run(smoothness=3.0)
  assert smooth.variation < 0.6 * plain.variation
  printed = run(printability=30.0)
  assert printed.non_printability < 0.6 * plain.non_printability
  mask = jnp.asarray(MASK)
  want = total_variation(plain.pattern, mask)
  np.testing.assert_allclose(plain.variation, want, rtol=1e-5)
  want = non_printability(plain.pattern, mask, PALETTE)
  np.testing.assert_allclose(plain.non_printability, want, rtol=1e-5)


@pytest.mark.slow
def test_shifts_are_drawn_and_the_pattern_survives_them() -> None:
  shifts = jax.random.randint(RNG, (12, 2), -1, 2, jnp.int32)
  rates = [
    (worn(result.pattern, shifts).argmax(-1) != CLASS).mean()
    for result in (found(), run(shift=1))
  ]
  assert rates[1] > max(rates[0], 0.5) - 0.01


def test_rngs_are_mapped_and_compiled_once() -> None:
  rngs = jax.random.split(RNG, 2)
  many = jax.vmap(run)(rngs)
  one = run(rngs[1])
  run(rngs[0])
  assert many.pattern.shape == (2, 8, 8, 1)
  np.testing.assert_allclose(many.pattern[1], one.pattern, atol=0.05)
  assert (many.pattern[0] != one.pattern).any()


def test_glasses() -> None:
  mask = glasses(28, 28)
  assert 0.1 < mask.mean() < 0.2 and (mask == mask[:, ::-1]).all()
  assert not mask[:8].any() and not mask[20:].any()
  assert not mask[13, 4] and mask[10, 14]  # A lens, and the bridge.
  for size in ((4, 4), (5, 9), (100, 60)):
    mask = glasses(*size)
    assert mask.shape == size and 0 < mask.mean() < 0.6
    assert (mask == mask[:, ::-1]).all()
  with pytest.raises(ValueError, match="h 3, w 8"):
    glasses(3, 8)


def test_wear_changes_only_the_mask() -> None:
  x = photos()[:12]
  pattern = jnp.full((8, 8, 1), 2.0)
  assert ((wear(x, pattern, MASK) == 2)[..., 0] == MASK[None]).all()
  shifts = jnp.asarray([[0, 0], [1, 0], [0, -3], [-9, 0]] * 3, jnp.int32)
  places = (wear(x, pattern, MASK, shifts) == 2)[..., 0]
  np.testing.assert_array_equal(places[0], MASK)
  np.testing.assert_array_equal(places[1, 1:], MASK[:-1])
  np.testing.assert_array_equal(places[2, :, :5], MASK[:, 3:])
  assert not places[2, :, 5:].any() and not places[3].any()
  ramp = jnp.arange(64.0).reshape(8, 8, 1) + 2
  moved = wear(x, ramp, MASK, shifts)[1, ..., 0]
  np.testing.assert_array_equal(moved[4][MASK[3]], ramp[3, :, 0][MASK[3]])


@pytest.mark.slow
def test_terms_are_numpys() -> None:
  draw = np.random.default_rng(0).uniform(size=(5, 6, 3)).astype(np.float32)
  mask = np.random.default_rng(1).uniform(size=(5, 6)) < 0.6
  colours = np.random.default_rng(2).uniform(size=(4, 3)).astype(np.float32)
  total, score = 0.0, 0.0
  for i, j in np.argwhere(mask):
    down = i + 1 < 5 and mask[i + 1, j]
    right = j + 1 < 6 and mask[i, j + 1]
    steps = np.zeros((2, 3))
    steps[0] = draw[i + 1, j] - draw[i, j] if down else 0
    steps[1] = draw[i, j + 1] - draw[i, j] if right else 0
    total += np.linalg.norm(steps, axis=0).sum()
    score += np.linalg.norm(draw[i, j] - colours, axis=-1).prod()
  pattern, mask = jnp.asarray(draw), jnp.asarray(mask)
  found = (
    total_variation(pattern, mask),
    non_printability(pattern, mask, jnp.asarray(colours)),
  )
  count = int(mask.sum())
  want = total / count, score / count
  np.testing.assert_allclose(found, want, rtol=1e-4)
  flat = jnp.broadcast_to(jnp.asarray(colours)[:1, None], (5, 6, 3))
  for term in (
    lambda x: total_variation(x, mask),
    lambda x: non_printability(x, mask, jnp.asarray(colours)),
  ):
    value, slope = jax.value_and_grad(term)(flat)
    assert value < 1e-4 and jnp.isfinite(slope).all()


def test_refuses() -> None:
  x, y = photos()[:12], jnp.full(12, CLASS, jnp.int32)
  run = functools.partial(accessory_attack, model, x, y, rng=RNG)
  for mask in (MASK[:7], MASK.astype(np.float32)):
    with pytest.raises(ValueError, match="mask is"):
      run(mask)
  with pytest.raises(ValueError, match="mask is empty"):
    run(np.zeros((8, 8), bool))
  with pytest.raises(ValueError, match="palette is"):
    run(MASK, palette=jnp.ones((4, 3)))
  with pytest.raises(ValueError, match="targets"):
    run(MASK, targets=y)
  with pytest.raises(ValueError, match="steps 0"):
    run(MASK, steps=0)
  with pytest.raises(ValueError, match="smoothness is -1"):
    run(MASK, smoothness=-1.0)


def test_nan_is_an_error_and_no_success() -> None:
  def broken(x: jax.Array) -> jax.Array:
    same = (x == photos()[: len(x)]).all((1, 2, 3))[:, None]
    return jnp.where(same, model(x), jnp.nan)

  x, y = photos()[:4], jnp.full(4, CLASS, jnp.int32)
  attack = functools.partial(
    accessory_attack, broken, mask=MASK, steps=3, rng=RNG
  )
  with pytest.raises(ValueError, match="were NaN or infinite"):
    attack(x, y)
  result = jax.jit(attack)(x, y)
  assert not result.finite and not result.success.any()
