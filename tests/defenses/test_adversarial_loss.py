"""Adversarial training: exact on a linear model, and better on digits."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits

from keyjax.attacks.evasion.losses import cross_entropy
from keyjax.attacks.evasion.problem import steepest
from keyjax.defenses import adversarial_loss

EPSILON = 0.1
X = jnp.asarray(np.random.default_rng(0).uniform(0.3, 0.7, (4, 3)), jnp.float32)
Y = jnp.asarray([0, 1, 1, 0])
WEIGHTS = jnp.asarray([[1.0, -2.0], [0.5, 3.0], [-1.0, 0.25]])
RNG = jax.random.key(0)


def linear(x: jax.Array) -> jax.Array:
  return x @ WEIGHTS


def worst(norm: str) -> jax.Array:
  """Return the loss at the worst point of the ball, of a linear model."""
  gradient = jax.grad(lambda x: cross_entropy(linear(x), Y).sum())(X)
  return cross_entropy(linear(X + EPSILON * steepest(gradient, norm)), Y)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("loss", ["fgsm", "pgd"])
def test_the_loss_is_that_of_the_worst_change(loss: str, norm: str) -> None:
  given: dict[str, Any] = {"rng": RNG} if loss != "fgsm" else {"share": 0.0}
  function = functools.partial(
    getattr(adversarial_loss, loss), linear, epsilon=EPSILON, norm=norm, **given
  )
  if loss == "pgd":
    function = functools.partial(function, steps=40)
  np.testing.assert_allclose(function(X, Y), worst(norm), rtol=2e-3)
  np.testing.assert_allclose(jax.jit(function)(X, Y), function(X, Y), rtol=1e-6)


def test_a_fast_step_goes_most_of_the_way() -> None:
  fast = adversarial_loss.fast(linear, X, Y, epsilon=EPSILON, rng=RNG)
  # From -epsilon, the farthest start, it ends at +.25 epsilon.
  least = adversarial_loss.fgsm(linear, X, Y, epsilon=0.25 * EPSILON, share=0.0)
  assert (fast > least).all() and (fast <= worst("linf") + 1e-6).all()


def test_half_of_the_mixture_is_clean() -> None:
  clean = cross_entropy(linear(X), Y)
  loss = adversarial_loss.fgsm(linear, X, Y, epsilon=EPSILON)
  np.testing.assert_allclose(loss, (clean + worst("linf")) / 2, rtol=1e-5)
  with pytest.raises(ValueError, match="share=2"):
    adversarial_loss.fgsm(linear, X, Y, epsilon=EPSILON, share=2)
  with pytest.raises(ValueError, match="steps=0"):
    adversarial_loss.pgd(linear, X, Y, epsilon=EPSILON, steps=0, rng=RNG)


def test_trades_adds_what_an_attack_moves() -> None:
  trades = functools.partial(
    adversarial_loss.trades, linear, X, Y, epsilon=EPSILON, rng=RNG
  )
  clean = cross_entropy(linear(X), Y)
  np.testing.assert_allclose(trades(beta=0.0), clean, rtol=1e-6)
  moved = (trades(beta=2.0) - clean) / 2
  # More than at any of many random points of the ball.
  noise = jax.random.uniform(RNG, (200, *X.shape), minval=-1.0) * EPSILON
  logs = jax.nn.log_softmax(linear(X))
  other = jax.nn.log_softmax(linear(X[None] + noise))
  apart = (jnp.exp(logs)[None] * (logs[None] - other)).sum(-1).max(0)
  assert (moved >= apart * 0.999).all()


def test_the_attack_is_not_differentiated() -> None:
  def loss(w: jax.Array, fixed: jax.Array | None) -> jax.Array:
    model = lambda x: x @ w  # noqa: E731
    if fixed is not None:
      return cross_entropy(model(fixed), Y).sum()
    return adversarial_loss.fgsm(model, X, Y, epsilon=EPSILON, share=0.0).sum()

  gradient = jax.grad(lambda x: cross_entropy(linear(x), Y).sum())(X)
  moved = X + EPSILON * jnp.sign(gradient)
  np.testing.assert_allclose(
    jax.grad(loss)(WEIGHTS, None), jax.grad(loss)(WEIGHTS, moved), rtol=1e-5
  )


def mlp(params: Any, x: jax.Array) -> jax.Array:
  return jax.nn.relu(x @ params["a"] + params["b"][None]) @ params["c"]


@functools.partial(jax.jit, static_argnums=0)
def trained(loss: str, x: jax.Array, y: jax.Array) -> Any:
  """Return params after 2,400 steps on 64 random images each."""
  k = jax.random.split(RNG, 3)
  params = {
    "a": jax.random.normal(k[0], (64, 64)) / 8,
    "b": jnp.zeros(64),
    "c": jax.random.normal(k[1], (64, 10)) / 8,
  }
  # At a constant rate, accuracy moves by points from step to step.
  rate = optax.cosine_decay_schedule(0.1, 2400)
  optimizer = optax.sgd(rate, momentum=0.9)

  def mean(params: Any, rng: jax.Array) -> jax.Array:
    rows = jax.random.randint(rng, (64,), 0, len(y))
    model = functools.partial(mlp, params)
    if loss == "plain":
      return cross_entropy(model(x[rows]), y[rows]).mean()
    given = {} if loss == "fgsm" else {"rng": rng}
    made = getattr(adversarial_loss, loss)
    return made(model, x[rows], y[rows], epsilon=EPSILON, **given).mean()

  def step(carry: Any, rng: jax.Array) -> tuple[Any, None]:
    params, state = carry
    grads = jax.grad(mean)(params, rng)
    with jax.numpy_dtype_promotion("standard"):  # Optax counts in int32.
      updates, state = optimizer.update(grads, state)
    return (optax.apply_updates(params, updates), state), None

  start = (params, optimizer.init(params))
  return jax.lax.scan(step, start, jax.random.split(k[2], 2400))[0][0]


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["pgd", "fgsm", "fast", "trades"])
def test_training_resists_within_epsilon_and_not_outside(loss: str) -> None:
  x, y = load_digits(return_X_y=True)
  x, y = jnp.asarray(x / 16, jnp.float32), jnp.asarray(y)
  train, test = slice(0, 1400), slice(1400, None)

  def accuracy(params: Any, epsilon: float) -> float:
    model = functools.partial(mlp, params)

    def step(_: Any, at: jax.Array) -> jax.Array:
      loss = lambda x: cross_entropy(model(x), y[test]).sum()  # noqa: E731
      at = at + epsilon / 4 * jnp.sign(jax.grad(loss)(at))
      return jnp.clip(
        jnp.clip(at, x[test] - epsilon, x[test] + epsilon), 0.0, 1.0
      )

    moved = jax.lax.fori_loop(0, 10, step, x[test]) if epsilon else x[test]
    return float((model(moved).argmax(-1) == y[test]).mean())

  plain = trained("plain", x[train], y[train])
  robust = trained(loss, x[train], y[train])
  assert accuracy(plain, 0.0) > 0.9 and accuracy(robust, 0.0) > 0.85
  assert accuracy(robust, EPSILON) > accuracy(plain, EPSILON) + 0.2
  assert accuracy(robust, 3 * EPSILON) < 0.2  # The known break.
