"""C&W, L-BFGS and HopSkipJump come near the boundary of a linear model."""

import functools

import jax
import numpy as np
import pytest

from keyjax.attacks.evasion.box_lbfgs import lbfgs
from keyjax.attacks.evasion.decision import hop_skip_jump
from keyjax.attacks.evasion.tanh_space import carlini_wagner

RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=64).astype(np.float32)
IMAGES = RNG.uniform(0.3, 0.7, size=(8, 8, 8, 1)).astype(np.float32)


def linear(x: jax.Array) -> jax.Array:
  """Return logits of classes 0 and 1; that of 0 is always 0."""
  logit = (x - 0.5).reshape(len(x), -1) @ WEIGHT
  return jax.numpy.stack([0 * logit, logit], -1)


LABELS = np.asarray(linear(IMAGES).argmax(-1))
# Away from the boundary by more than Adam's steps.
IMAGES += (
  0.02
  * (2 * LABELS - 1)[:, None, None, None]
  * np.sign(WEIGHT.reshape(1, 8, 8, 1))
)
MARGIN = np.abs(np.asarray(linear(IMAGES)[:, 1]))
EXACT = {
  "l2": MARGIN / np.linalg.norm(WEIGHT),
  "linf": MARGIN / np.abs(WEIGHT).sum(),
}
CW = functools.partial(
  carlini_wagner,
  steps=200,
  binary_search_steps=8,
  learning_rate=0.02,
  initial_constant=0.01,
)


# Twelve values bring c within 2 % of the least one.
LBFGS = functools.partial(lbfgs, binary_search_steps=12)


@pytest.mark.parametrize(
  ("attack", "targeted"),
  [
    # Without targets below, by its confidence and its early end.
    pytest.param(CW, False, marks=pytest.mark.slow),
    (CW, True),
    (LBFGS, False),
    pytest.param(LBFGS, True, marks=pytest.mark.slow),
  ],
)
def test_l2_distance_of_a_linear_model(attack, targeted: bool) -> None:
  targets = 1 - LABELS if targeted else None
  found = attack(linear, IMAGES, LABELS, targets=targets)
  assert found.success.all()
  assert (found.distance > EXACT["l2"] * 0.999).all()
  np.testing.assert_allclose(found.distance, EXACT["l2"], rtol=0.05)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_hop_skip_jump_on_a_linear_model(norm: str) -> None:
  found = hop_skip_jump(
    linear, IMAGES, LABELS, norm=norm, steps=12, rng=jax.random.key(1)
  )
  assert found.success.all()
  assert (found.distance > EXACT[norm] * 0.999).all()
  assert np.median(found.distance / EXACT[norm]) < (
    1.1 if norm == "l2" else 1.4
  )


def test_confidence_is_a_margin_and_costs_distance() -> None:
  found = CW(linear, IMAGES, LABELS, confidence=1.0)
  logits = np.asarray(linear(found.inputs))[:, 1] * np.where(LABELS, -1, 1)
  assert found.success.all() and (logits >= 0.999).all()
  want = (MARGIN + 1) / np.linalg.norm(WEIGHT)
  np.testing.assert_allclose(found.distance, want, rtol=0.06)


def test_abort_early_saves_steps() -> None:
  slow = CW(linear, IMAGES, LABELS, abort_early=False)
  fast = CW(linear, IMAGES, LABELS)
  np.testing.assert_array_equal(slow.queries, 1 + 8 * 200)
  assert (fast.queries < slow.queries).all()
  assert (fast.distance < slow.distance * 1.05).all()


def test_tenth_constant_is_the_best_again() -> None:
  """From ten on the last round repeats the least constant that succeeded."""
  found = CW(linear, IMAGES, LABELS, binary_search_steps=10)
  assert found.success.all()
  np.testing.assert_allclose(found.distance, EXACT["l2"], rtol=0.05)


@pytest.mark.parametrize(
  "budget",
  [5, *(pytest.param(x, marks=pytest.mark.slow) for x in (1, 40, 700))],
)
def test_budget_is_kept(budget: int) -> None:
  found = hop_skip_jump(
    linear, IMAGES, LABELS, budget=budget, rng=jax.random.key(0)
  )
  assert (found.queries <= budget).all()
  assert found.success.any() == (budget > 1)
  if budget == 700:
    assert (found.queries > 400).all()


def test_queries_are_counted() -> None:
  """A callback counts what the model is asked, for one example."""
  asked = []

  def counting(x: jax.Array) -> jax.Array:
    jax.debug.callback(lambda: asked.append(1))
    return linear(x)

  found = jax.jit(
    lambda x, y: hop_skip_jump(
      counting, x, y, steps=3, initial_samples=10, rng=jax.random.key(0)
    )
  )(IMAGES[:1], LABELS[:1])
  jax.effects_barrier()
  assert len(asked) == int(found.queries[0])


@pytest.mark.slow
def test_start_replaces_noise() -> None:
  start = np.where(LABELS[:, None, None, None] == 1, -1, 1) * np.sign(
    WEIGHT.reshape(8, 8, 1)
  )
  start = ((start + 1) / 2).astype(np.float32)
  attack = functools.partial(
    hop_skip_jump, linear, IMAGES, LABELS, steps=2, rng=jax.random.key(0)
  )
  found = attack(start=start, targets=1 - LABELS)
  assert found.success.all()
  failed = attack(start=IMAGES)
  assert not failed.success.any()
  np.testing.assert_array_equal(failed.queries, 2)
  with pytest.raises(ValueError, match=r"start has shape \(8, 8, 8\)"):
    attack(start=start[..., 0])


@pytest.mark.slow
def test_rngs_vary_hop_skip_jump() -> None:
  """Also under `jax.vmap`, which equals one call for each."""
  rngs = jax.random.split(jax.random.key(0), 2)

  def distance(rng: jax.Array) -> jax.Array:
    return hop_skip_jump(linear, IMAGES, LABELS, steps=2, rng=rng).distance

  both = jax.jit(jax.vmap(distance))(rngs)
  assert (both[0] != both[1]).all()
  np.testing.assert_allclose(both[1], jax.jit(distance)(rngs[1]), rtol=1e-3)


@pytest.mark.parametrize(
  ("attack", "options", "message"),
  [
    (carlini_wagner, {"steps": 0}, "steps 0, binary"),
    (carlini_wagner, {"confidence": -1.0}, "confidence -1"),
    (carlini_wagner, {"learning_rate": 0.0}, "learning_rate 0"),
    (lbfgs, {"memory": 0}, "memory 0"),
    (lbfgs, {"initial_constant": -1.0}, "initial_constant -1"),
    (hop_skip_jump, {"rng": jax.random.key(0), "budget": 0}, "budget 0"),
    (hop_skip_jump, {"rng": jax.random.key(0), "norm": "l1"}, "norm is 'l1'"),
    (carlini_wagner, {"targets": LABELS}, "8 of 8 are equal"),
  ],
)
def test_refuses(attack, options: dict, message: str) -> None:
  with pytest.raises(ValueError, match=message):
    attack(linear, IMAGES, LABELS, **options)
