"""BPDA and EOT give attacks the gradients that a defence hides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from keyjax.attacks.evasion.deep_fool import deepfool
from keyjax.attacks.evasion.losses import cross_entropy
from keyjax.attacks.evasion.problem import value_and_gradient
from keyjax.attacks.evasion.wrappers import bpda, expectation
from tests.attacks import toys

IMAGES, LABELS = (x[:8] for x in toys.digits()[1])


@pytest.fixture(autouse=True, scope="module")
def trained() -> None:
  """Train outside of any trace."""
  toys.trained()


def model(x: jax.Array) -> jax.Array:
  return toys.NET.apply(toys.trained(), x)


def rounded(x: jax.Array) -> jax.Array:
  """Return pixels of four levels: the gradient is 0."""
  return jnp.round(x * 3) / 3


def test_bpda_gets_through_rounding() -> None:
  labels = np.asarray(model(rounded(IMAGES)).argmax(-1))
  hidden = deepfool(lambda x: model(rounded(x)), IMAGES, labels)
  assert not hidden.success.any()
  through = bpda(rounded)
  found = deepfool(lambda x: model(through(x)), IMAGES, labels)
  assert found.success.mean() > 0.6
  changed = model(rounded(found.inputs)).argmax(-1)
  assert ((changed != labels) == found.success).all()


def test_bpda_takes_the_gradient_of_the_surrogate() -> None:
  wrapped = bpda(rounded, jnp.sin)
  x = jnp.linspace(0, 1, 8)
  value, slope = jax.jit(jax.vmap(jax.value_and_grad(wrapped)))(x)
  np.testing.assert_allclose(value, rounded(x), rtol=1e-6)
  np.testing.assert_allclose(slope, jnp.cos(x), rtol=1e-6)


def test_bpda_refuses_another_shape() -> None:
  wrapped = bpda(lambda x: x[:2], lambda x: x)
  with pytest.raises(ValueError, match=r"surrogate returns float32\[3\]"):
    jax.grad(lambda x: wrapped(x).sum())(jnp.ones(3))


def noisy(rng: jax.Array, x: jax.Array) -> jax.Array:
  return x + 0.3 * jax.random.normal(rng, x.shape)


def test_expectation_is_the_mean_of_logits_and_gradients() -> None:
  rng = jax.random.key(0)
  mean = expectation(model, noisy, draws=3, rng=rng)
  draws = [noisy(r, IMAGES) for r in jax.random.split(rng, 3)]
  want = np.mean([model(x) for x in draws], 0)
  np.testing.assert_allclose(jax.jit(mean)(IMAGES), want, atol=1e-5)
  slope = jax.jit(jax.grad(lambda x: mean(x)[:, 1].sum()))(IMAGES)
  slopes = [jax.grad(lambda x: model(x)[:, 1].sum())(x) for x in draws]
  np.testing.assert_allclose(slope, np.mean(slopes, 0), atol=1e-5)


def test_a_step_in_expectation_holds_against_other_noise() -> None:
  mean = expectation(model, noisy, draws=8, rng=jax.random.key(0))
  fresh = expectation(model, noisy, draws=32, rng=jax.random.key(1))
  labels = fresh(IMAGES).argmax(-1)
  slope = value_and_gradient(mean, lambda z: cross_entropy(z, labels), IMAGES)[
    2
  ]
  changed = jnp.clip(IMAGES + 0.2 * jnp.sign(slope), 0, 1)
  assert (fresh(changed).argmax(-1) != labels).mean() >= 0.5


def test_expectation_refuses_no_draws() -> None:
  with pytest.raises(ValueError, match="draws is 0"):
    expectation(model, noisy, draws=0, rng=jax.random.key(0))
