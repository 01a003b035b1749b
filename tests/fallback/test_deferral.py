"""Learning to defer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from keyjax import fallback


@jax.jit
def minimise(labels, expert):
  """Return the logits of one context that minimise the mean loss."""

  def loss(logits):
    rows = jnp.broadcast_to(logits, (len(labels), 4))
    return fallback.deferral_loss(rows, labels, expert).mean()

  def step(logits, _):
    return logits - 2 * jax.grad(loss)(logits), None

  return jax.lax.scan(step, jnp.zeros((1, 4)), length=400)[0]


@pytest.mark.parametrize("right", [0.2, 0.55, 0.65, 0.9])
def test_it_asks_where_the_person_is_better(right):
  """The best class has a probability of 0.6."""
  labels = np.asarray([0] * 6 + [1] * 3 + [2])
  logits = minimise(labels, np.full(10, right, np.float32))
  rule = fallback.unless(fallback.best_over_deferral, above=0)
  assert bool(rule(logits)[0]) == (right > 0.6)
  assert logits[0, :-1].argmax() == 0


def test_without_a_person_it_is_cross_entropy():
  logits = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
  labels = np.asarray([0, 1, 2, 0, 1])
  found = jax.jit(fallback.deferral_loss)(
    logits, labels, np.zeros(5, np.float32)
  )
  wanted = -scipy.special.log_softmax(logits, -1)[np.arange(5), labels]
  np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_where_it_does_not_ask_a_class_is_greatest():
  logits = np.random.default_rng(0).normal(size=(200, 4)).round(1)
  model = fallback.ask(
    lambda p, x: x, fallback.unless(fallback.best_over_deferral, above=0)
  )
  found = jax.jit(model)(None, logits.astype(np.float32))
  answered = np.asarray(found.logits)[~np.asarray(found.ask)]
  assert (answered.argmax(-1) < 3).all() and 0 < len(answered) < 200
