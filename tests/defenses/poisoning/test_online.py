"""A learner of a stream: its steps, its gates, and its rollback."""

import hashlib
import hmac

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from keyjax.attacks.game import Examples
from keyjax.attacks.poisoning import stream as attack
from keyjax.defenses.poisoning import online
from tests.attacks import toys

STEPS, BATCH = 160, 16


def linear(params, x):
  return x.reshape(len(x), -1) @ params["w"]


PARAMS = {"w": jnp.zeros((64, 10))}
CLEAN = Examples(
  toys.digits()[0].image[: 80 * BATCH],
  toys.digits()[0].label[: 80 * BATCH],
)
TEST = toys.digits()[1]


def stream() -> Examples:
  """Return the digits, twice, in batches."""
  image = np.concatenate([CLEAN.image] * 2)
  label = np.concatenate([CLEAN.label] * 2)
  return Examples(
    image.reshape(STEPS, BATCH, 8, 8, 1), label.reshape(STEPS, BATCH)
  )


BURST = attack.burst(
  stream().label, 10, share=0.6, start=80, stop=120, rng=jax.random.key(0)
)
POISONED = Examples(stream().image, BURST.label)


def learn(given=POISONED, params=PARAMS, **options):
  options = {"learning_rate": 0.5} | options
  return online.learn(linear, params, given, TEST, **options)


def test_a_step_is_gradient_descent() -> None:
  one = Examples(stream().image[:1], stream().label[:1])
  found = learn(one)
  x = one.image[0].reshape(BATCH, 64)
  slope = x.T @ (0.1 - np.eye(10)[one.label[0]]) / BATCH
  np.testing.assert_allclose(found.params["w"], -0.5 * slope, atol=1e-6)
  assert found.used.all() and not found.restored.any()


def test_a_burst_harms_and_rollback_bounds_it() -> None:
  open_gate = learn()
  before, after = open_gate.accuracy[79], open_gate.accuracy[119]
  assert before > 0.8 and after < before - 0.3
  trusted = Examples(TEST.image[:60], TEST.label[:60])
  kept = learn(rollback=online.Rollback(trusted, every=10, fall=0.05))
  assert kept.restored[80:120].any()
  assert kept.accuracy[119] > after + 0.2
  assert (np.flatnonzero(kept.restored) % 10 == 9).all()


def test_a_loss_gate_refuses_most_of_the_burst() -> None:
  found = learn(loss_gate=3.0)
  refused = ~found.used
  assert refused[BURST.flipped].mean() > 0.5 > refused[~BURST.flipped].mean()
  assert found.accuracy[119] > learn().accuracy[119] + 0.1


def test_what_has_no_tag_changes_nothing() -> None:
  key = bytes(range(32))

  def tag(number: int, image: np.ndarray, label: int) -> bytes:
    record = number.to_bytes(8, "big") + image.tobytes() + bytes([label])
    return hmac.digest(key, record, hashlib.sha256)

  clean = stream()
  images = clean.image.reshape(-1, 8, 8, 1)
  tags = [
    tag(i, x, int(y))
    for i, (x, y) in enumerate(zip(images, clean.label.flat, strict=True))
  ]
  accept = online.accepted(
    lambda i, x, y: hmac.compare_digest(tags[i], tag(i, x, y)), POISONED
  )
  np.testing.assert_array_equal(accept, ~BURST.flipped)
  found = learn(accept=accept)
  # With any other labels where there is no valid tag, weights are the same.
  other = np.where(BURST.flipped, (BURST.label + 1) % 10, BURST.label)
  again = learn(Examples(POISONED.image, other), accept=accept)
  np.testing.assert_array_equal(found.params["w"], again.params["w"])
  assert found.accuracy[119] > 0.8


def test_a_batch_that_is_refused_whole_changes_nothing() -> None:
  found = learn(accept=np.zeros((STEPS, BATCH), bool))
  np.testing.assert_array_equal(found.params["w"], PARAMS["w"])


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"learning_rate": 0.0}, "learning_rate=0.0"),
    ({"loss_gate": -1.0}, "loss_gate=-1.0"),
    ({"accept": np.ones(3, bool)}, "accept is bool"),
    ({"rollback": online.Rollback(TEST, every=0)}, "every=0"),
    ({"rollback": online.Rollback(TEST, fall=2.0)}, "fall=2.0"),
    ({"given": Examples(CLEAN.image, CLEAN.label)}, "stream.label is int32"),
    (
      {"given": POISONED._replace(label=BURST.label + 1)},
      "stream.label range from 1 to 10",
    ),
    (
      {"given": POISONED._replace(image=POISONED.image * np.nan)},
      "stream.image.0. is not finite",
    ),
    ({"given": POISONED._replace(image=CLEAN.image)}, "first axes"),
    (
      {"rollback": online.Rollback(Examples(TEST.image[:0], TEST.label[:0]))},
      "trusted.label are",
    ),
  ],
)
def test_bad_input_is_refused(options, message) -> None:
  with pytest.raises(ValueError, match=message):
    learn(**options)


def test_bad_judges_are_refused() -> None:
  bad = Examples(np.full_like(TEST.image, np.inf), TEST.label)
  with pytest.raises(ValueError, match="watched.image.0. is not finite"):
    online.learn(linear, PARAMS, POISONED, bad)
  few = Examples(TEST.image[:3], TEST.label)
  with pytest.raises(ValueError, match="watched.image are 3"):
    online.learn(linear, PARAMS, POISONED, few)
  with pytest.raises(TypeError, match="online: apply_fn"):
    online.learn(3, PARAMS, POISONED, TEST)
