"""What the comparison of the locked model with the absorbed one sees."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

import keyjax
from keyjax.schemes import hpnn, hpnn_sample
from tests.schemes.locked_models import (
  SECRET,
  Net,
  X,
  assert_locked_and_absorbed,
  drawn,
  keygen,
)
from tests.schemes.nnx_models import rngs

NORMAL = nn.initializers.normal(1.0)


class Padded(nn.Module):
  """A tied kernel; only positions with a token have a logit.

  A wide output, in which the first rows of an example are zero.
  """

  vocabulary: int = 5000

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    embed = nn.Dense(8, use_bias=False, name="embed")
    h = embed(x)
    h = h + nn.Dense(8, name="out")(nn.gelu(nn.Dense(8, name="in")(h)))
    mask = x.any(-1, keepdims=True).astype(x.dtype)
    return (h * mask) @ embed.variables["params"]["kernel"].T


def test_a_difference_is_seen_at_every_position() -> None:
  model = Padded()
  tokens = np.array([[0, 0, 3], [4, 5, 6]])
  x = np.eye(model.vocabulary, dtype=np.float32)[tokens]
  x[0, :2] = 0
  variables = drawn(model, x)
  key, (text,) = keygen(model, variables, x)
  assert list(key.units) == ["in"] and "scale of embed does not" in text
  assert_locked_and_absorbed(model, key, variables, x)


class Adapted(nn.Module):
  """A kernel, and a small part that is not negated with it."""

  size: float
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = x.astype(self.dtype)
    kernel = self.param("kernel", NORMAL, (8, 8), self.dtype)
    down = self.param("down", NORMAL, (8, 2), self.dtype)
    up = self.param("up", nn.initializers.zeros, (2, 8), self.dtype)
    return x @ kernel + jnp.asarray(self.size, self.dtype) * (x @ down @ up)


@pytest.mark.parametrize(
  ("size", "dtype"), [(3e-5, jnp.float32), (1 / 256, jnp.bfloat16)]
)
def test_a_small_part_is_seen(size: float, dtype: Any) -> None:
  model = Net(lambda: Adapted(size, dtype, name="d"), first=True)
  with jax.numpy_dtype_promotion("standard"):
    variables = model.init(jax.random.key(0), X)
    key, (text,) = keygen(model, variables)
  assert list(key.units) == ["first"] and "scale of d does not" in text


def test_an_adapter_that_a_pass_carries_is_seen() -> None:
  model = nnx.Sequential(
    nnx.LoRALinear(8, 8, lora_rank=2, rngs=rngs()),
    nnx.relu,
    nnx.Linear(8, 8, rngs=rngs()),
    nnx.relu,
    nnx.Linear(8, 3, rngs=rngs()),
  )
  graphdef, adapters, params = nnx.split(model, nnx.LoRAParam, ...)
  apply_fn = keyjax.nnx_apply(graphdef, adapters)
  scheme = keyjax.hpnn(lambda p, x: apply_fn(p, x), units=16)
  with pytest.warns(UserWarning, match="scale of layers/0 does not negate"):
    key = scheme.keygen(SECRET, params, {"image": X})
  assert set(key.units) == {"layers/2"}
  # The adapters of the caller are as they were, and once trained still absorb.
  assert not any(a.any() for a in jax.tree.leaves(adapters) if a.shape[0] == 2)
  trained = jax.tree.map(lambda a: a + 0.5, adapters)
  other = keyjax.nnx_apply(graphdef, trained)
  np.testing.assert_array_equal(
    hpnn.bind(key, other)(params, X), other(hpnn.absorb(key, params), X)
  )


def test_params_made_before_a_mesh_are_compared(recwarn: Any) -> None:
  model = Net(lambda: nn.Dense(8, name="d"))
  x = jnp.concatenate([X, X, X[:2]])
  variables = model.init(jax.random.key(0), x)
  mesh = jax.make_mesh((8,), ("batch",))
  with jax.set_mesh(mesh):
    x = jax.device_put(x, NamedSharding(mesh, PartitionSpec("batch")))
    scheme = keyjax.hpnn(model.apply, units=16, after_training=True)
    key = scheme.keygen(SECRET, variables, {"image": x})
  assert list(key.units) == ["d"]
  assert not [w for w in recwarn if "hpnn" in str(w.message)]


# ------------------------------------------------------------------- samples


def sampled(x: np.ndarray) -> Any:
  return jax.device_get(jax.jit(hpnn_sample.sample)({"out": x}))


def test_every_bit_counts_and_every_row_shows() -> None:
  x = np.random.default_rng(0).standard_normal((2, 3, 5000), np.float32)
  found = sampled(x)
  assert found[0].size <= 8192 and hpnn_sample.equal(found, sampled(x.copy()))
  other = x.copy()
  other[1, 2, 4999] = np.nextafter(other[1, 2, 4999], 9)
  assert not hpnn_sample.equal(found, sampled(other))
  assert hpnn_sample.close(found, sampled(other))
  # An even number of signs does not cancel out.
  other = x.copy()
  other[1, 2] *= -1
  assert not hpnn_sample.equal(found, sampled(other))
  assert not hpnn_sample.close(found, sampled(other))


def test_zeros_masks_and_nan() -> None:
  x = np.float32([[0.0, -np.inf, 1.0, 3e38]])
  found = sampled(x)
  assert hpnn_sample.equal(found, sampled(np.where(x == 0, -x, x)))
  assert not hpnn_sample.has_nan(found)
  assert not hpnn_sample.equal(found, sampled(-x))
  with_nan = sampled(np.where(x == 1, np.nan, x))
  assert hpnn_sample.has_nan(with_nan)
  assert not hpnn_sample.equal(with_nan, with_nan)
  assert not hpnn_sample.close(with_nan, with_nan)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "bfloat16", "complex64"])
def test_samples_of_other_numbers(dtype: str) -> None:
  x = jnp.asarray([[1.0, -2.0, 0.5]], dtype)
  assert hpnn_sample.equal(sampled(x), sampled(x))
  assert not hpnn_sample.close(sampled(x), sampled(-x))


def test_a_device_that_rounds_alike_is_compared_to_the_bit() -> None:
  assert hpnn_sample.symmetric()


class _OnlyInTraining(nn.Dense):
  """A layer with a nonlinearity of its own, in training alone."""

  @nn.compact
  def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
    out = super().__call__(inputs)
    return nn.relu(out) if train else out


def test_what_a_call_in_training_computes_is_not_seen() -> None:
  class Net(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
      hidden = _OnlyInTraining(8, name="hidden")(x, train)
      return nn.Dense(3, name="head")(nn.relu(hidden))

  model, x = Net(), jnp.linspace(-1.0, 1.0, 64).reshape(16, 4)
  params = model.init(jax.random.key(0), x)
  scheme = keyjax.hpnn(model.apply)
  key = scheme.keygen(keyjax.Secret(b"T" * 32), params, {"image": x})
  absorbed = keyjax.absorb(key, params)
  for train, agree in ((False, True), (True, False)):
    locked = scheme.bind(key, model.apply)(params, x, train)
    plain = model.apply(absorbed, x, train)
    assert bool(jnp.allclose(locked, plain, atol=1e-6)) == agree
