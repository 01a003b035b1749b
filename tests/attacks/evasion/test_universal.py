"""Universal perturbations of the digits, and of a linear model."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from keyjax.attacks.evasion.universal import (
  fooling_rate,
  universal_deepfool,
  universal_sgd,
)
from tests.attacks import toys

IMAGES, LABELS = (x[:200] for x in toys.digits()[0])
OTHERS = toys.digits()[1].image
RNG = jax.random.key(0)


@pytest.fixture(autouse=True, scope="module")
def trained() -> None:
  """Train outside of any trace."""
  toys.trained()


def model(x: jax.Array) -> jax.Array:
  return toys.NET.apply(toys.trained(), x)


@functools.cache
def found_sgd():
  attack = functools.partial(
    universal_sgd, model, epsilon=0.3, epochs=20, batch_size=64, rng=RNG
  )
  return attack(IMAGES, LABELS)


def test_sgd_fools_and_transfers() -> None:
  """It fools other images too; random signs of this size do not."""
  found = found_sgd()
  assert found.fooling_rate > 0.6
  assert jnp.abs(found.perturbation).max() <= 0.3 + 1e-6
  assert found.perturbation.shape == (8, 8, 1)
  again = fooling_rate(model, IMAGES, found.perturbation)
  np.testing.assert_allclose(again, found.fooling_rate)
  transfer = fooling_rate(model, OTHERS, found.perturbation)
  signs = 0.3 * jnp.sign(jax.random.normal(RNG, (8, 8, 1)))
  assert transfer > 0.5 > fooling_rate(model, OTHERS, signs) + 0.1
  assert found.finite and found.queries == 20 * 192 + 400


def test_sgd_under_jit() -> None:
  attack = functools.partial(
    universal_sgd, model, epsilon=0.3, epochs=20, batch_size=64, rng=RNG
  )
  again = jax.jit(attack)(IMAGES, LABELS)
  np.testing.assert_allclose(
    again.perturbation, found_sgd().perturbation, atol=1e-5
  )


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_deepfool_form_grows_with_epsilon(norm: str) -> None:
  """The published form is weak on a small network, and says so by its rate."""
  rates = []
  for epsilon in (0.1, 0.4) if norm == "linf" else (0.5, 2.5):
    found = universal_deepfool(
      model, IMAGES[:60], epsilon=epsilon, norm=norm, epochs=2, rng=RNG
    )
    flat = found.perturbation.reshape(-1)
    size = jnp.abs(flat).max() if norm == "linf" else jnp.linalg.norm(flat)
    assert 0.5 * epsilon < size <= epsilon * (1 + 1e-5)
    again = fooling_rate(model, IMAGES[:60], found.perturbation)
    np.testing.assert_allclose(again, found.fooling_rate)
    rates.append(float(found.fooling_rate))
  assert rates[1] > rates[0] + 0.05


def test_deepfool_form_ends_at_the_wanted_rate() -> None:
  """Inputs of one class of a linear model share one direction."""
  weights = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)

  def linear(x: jax.Array) -> jax.Array:
    return (x - 0.5).reshape(len(x), -1) @ weights

  images = IMAGES[np.asarray(linear(IMAGES).argmax(-1)) == 0][:40]
  found = universal_deepfool(linear, images, epsilon=0.4, epochs=50, rng=RNG)
  assert found.fooling_rate >= 0.8
  assert found.queries < 50 * 40


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"epsilon": 0.0}, "epsilon is 0"),
    ({"norm": "l1"}, "norm is 'l1'"),
    ({"epochs": 0}, "epochs 0"),
    ({"batch_size": 0}, "batch_size 0"),
    ({"step_size": -1.0}, "step_size -1"),
    ({"clip": 0.0}, "clip 0"),
  ],
)
def test_sgd_refuses(options: dict, message: str) -> None:
  options = {"epsilon": 0.1, "rng": RNG, **options}
  with pytest.raises(ValueError, match=message):
    universal_sgd(model, IMAGES[:8], LABELS[:8], **options)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"epsilon": -1.0}, "epsilon is -1"),
    ({"steps": 0}, "steps 0"),
    ({"wanted_rate": 0.0}, "wanted_rate 0"),
  ],
)
def test_deepfool_form_refuses(options: dict, message: str) -> None:
  options = {"epsilon": 0.1, "rng": RNG, **options}
  with pytest.raises(ValueError, match=message):
    universal_deepfool(model, IMAGES[:8], **options)


@pytest.mark.parametrize("attack", ["sgd", "deepfool"])
def test_refuses_nan(attack: str) -> None:
  def broken(x: jax.Array) -> jax.Array:
    same = (x == IMAGES[:8]).all((1, 2, 3))[:, None] if len(x) == 8 else False
    return jnp.where(same, model(x), jnp.nan)

  with pytest.raises(ValueError, match="were NaN or infinite"):
    if attack == "sgd":
      universal_sgd(broken, IMAGES[:8], LABELS[:8], epsilon=0.1, rng=RNG)
    else:
      universal_deepfool(broken, IMAGES[:8], epsilon=0.1, rng=RNG)
