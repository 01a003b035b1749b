"""JSMA changes the pairs that a loop over the whole table finds."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from keyjax.attacks.evasion import saliency_pairs
from keyjax.attacks.evasion.saliency_pairs import best_pair, jsma
from tests.attacks import toys

IMAGES = toys.digits()[1].image[:8]
LABELS = toys.digits()[1].label[:8]
TARGETS = (LABELS + 1) % 10


@pytest.fixture(autouse=True, scope="module")
def trained() -> None:
  """Train outside of any trace."""
  toys.trained()


def model(x: jax.Array) -> jax.Array:
  return toys.NET.apply(toys.trained(), x)


def loop(target: np.ndarray, others: np.ndarray, live: np.ndarray):
  """Return the best pair of one example, or None."""
  best, found = -1.0, None
  for p, q in itertools.combinations(range(len(target)), 2):
    a, b = target[p] + target[q], others[p] + others[q]
    if live[p] and live[q] and a > 0 and b < 0 and -a * b > best:
      best, found = -a * b, (p, q)
  return found


@pytest.mark.parametrize("pairs", [1, 500, 2**24])
def test_best_pair(pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
  """In blocks of one row, of some that do not divide 30, and in one block."""
  monkeypatch.setattr(saliency_pairs, "_PAIRS", pairs)
  rng = np.random.default_rng(0)
  target, others = rng.normal(size=(2, 4, 30)).astype(np.float32)
  live = rng.random((4, 30)) < 0.5
  live[3] = False
  first, second, found = best_pair(*map(jnp.asarray, (target, others, live)))
  for i in range(3):
    assert (first[i], second[i]) == loop(target[i], others[i], live[i])
  assert found.tolist() == [True] * 3 + [False]


@pytest.mark.parametrize(
  ("jacobian", "theta"), [("logits", 1.0), ("softmax", 1.0), ("logits", -0.5)]
)
def test_steps_of_a_model(jacobian: str, theta: float) -> None:
  """They are those of a loop in NumPy over the whole Jacobian."""

  def outputs(x: jax.Array) -> jax.Array:
    logits = model(x[None])[0]
    return logits if jacobian == "logits" else jax.nn.softmax(logits)

  found = jsma(
    model,
    IMAGES,
    LABELS,
    targets=TARGETS,
    jacobian=jacobian,
    theta=theta,
    upsilon=0.3,
  )
  whole = jax.jit(jax.vmap(jax.jacrev(outputs)))
  wanted = IMAGES.copy()
  for _ in range(9):
    slopes = np.asarray(whole(wanted)).reshape(8, 10, 64) * np.sign(theta)
    reached = np.asarray(model(wanted).argmax(-1)) == TARGETS
    for i, target in enumerate(TARGETS):
      flat = wanted[i].reshape(-1)
      others = slopes[i].sum(0) - slopes[i, target]
      live = flat < 1 if theta > 0 else flat > 0
      pair = loop(slopes[i, target], others, live)
      if pair and not reached[i]:
        flat[list(pair)] = np.clip(flat[list(pair)] + theta, 0, 1)
  reached = np.asarray(model(wanted).argmax(-1)) == TARGETS
  np.testing.assert_array_equal(found.success, reached)
  assert reached.sum() >= (4 if theta > 0 else 2)
  wanted[~reached] = IMAGES[~reached]
  np.testing.assert_array_equal(found.inputs, wanted)


def test_targets_are_reached_with_few_features() -> None:
  images, labels = (x[:100] for x in toys.digits()[1])
  targets = (labels + 1) % 10
  found = jsma(model, images, labels, targets=targets, upsilon=0.4)
  assert found.success.mean() > 0.9
  assert found.distance[found.success].mean() < 0.25 * 64


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"targets": None}, "targets is None"),
    ({"jacobian": "loss"}, "jacobian is 'loss'"),
    ({"theta": 0.0}, "theta 0.0"),
    ({"upsilon": 0.01}, "upsilon 0.01, 64 features"),
    ({"upsilon": 1.5}, "upsilon 1.5"),
    ({"targets": LABELS}, "8 of 8 are equal"),
  ],
)
def test_refuses(options: dict, message: str) -> None:
  with pytest.raises(ValueError, match=message):
    jsma(model, IMAGES, LABELS, **{"targets": TARGETS, **options})
