"""Models that HPNN locks, and what a lock must do to them."""

import warnings
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import keyjax
from keyjax import Secret
from keyjax.schemes import hpnn
from tests import trees

SECRET = Secret(b"C" * 32)
X = jax.random.normal(jax.random.key(5), (3, 8))


class Net(nn.Module):
  """A module, a ReLU and a head; perhaps a layer before them."""

  make: Callable[[], nn.Module]
  first: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    if self.first:
      x = nn.relu(nn.Dense(8, name="first")(x))
    x = nn.relu(self.make()(x))
    return nn.Dense(4, name="head")(x.reshape(len(x), -1))


def drawn(model: nn.Module, x: Any) -> Any:
  """Return variables in which every float matters."""
  variables = jax.eval_shape(model.init, jax.random.key(0), x)
  leaves, treedef = jax.tree.flatten(variables)
  rng = np.random.default_rng(0)
  made = []
  for leaf in leaves:
    size = 0.1 + np.abs(rng.normal(0, 0.5, leaf.shape))
    sign = rng.choice([-1, 1], leaf.shape)
    value = size if "batch_stats" in variables else size * sign
    made.append(jnp.asarray(value, jnp.float32))
  return jax.tree.unflatten(treedef, made)


def keygen(
  model: nn.Module, variables: Any, x: Any = X, layers: str | None = None
) -> tuple[hpnn.HpnnKey, list[str]]:
  """Return a key, and the warnings of `keygen`."""
  scheme = keyjax.hpnn(model.apply, layers, units=16)
  with warnings.catch_warnings(record=True) as found:
    warnings.simplefilter("always")
    key = scheme.keygen(SECRET, variables, {"image": x})
  # A collected socket warns wherever it is collected: not of this key.
  own = (w for w in found if w.category is not ResourceWarning)
  return key, [str(w.message) for w in own]


def assert_locked_and_absorbed(
  model: nn.Module, key: hpnn.HpnnKey, variables: Any, x: Any = X
) -> None:
  locked = hpnn.bind(key, model.apply)(variables, x)
  plain = model.apply(variables, x)
  assert float(jnp.abs(locked - plain).max()) > 1e-3
  twin = model.apply(hpnn.absorb(key, variables), x)
  np.testing.assert_allclose(locked, twin, rtol=1e-5, atol=1e-5)
  trees.assert_same_bits(
    hpnn.absorb(key, hpnn.absorb(key, variables)), variables
  )


class Sub(nn.Dense):
  def __call__(self, x: jax.Array) -> jax.Array:
    return super().__call__(x)
