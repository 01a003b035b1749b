"""HPNN in passes that run a part of the model, and what `keygen` compares."""

import warnings
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import keyjax
from keyjax.schemes import hpnn, hpnn_twin
from tests.schemes.locked_models import SECRET, Net, Sub, X, drawn, keygen


@pytest.fixture(autouse=True)
def allow_promotion() -> Iterator[None]:
  """Models of others broadcast as they like."""
  with jax.numpy_dtype_promotion("standard"):
    with jax.numpy_rank_promotion("allow"):
      yield


# ------------------------------------------------------------ partial passes


class Coder(nn.Module):
  def setup(self) -> None:
    self.enc = nn.Dense(6)
    self.dec = nn.Dense(8)
    self.out = nn.Dense(8)

  def encode(self, x: jax.Array) -> jax.Array:
    return nn.relu(self.enc(x))

  def decode(self, z: jax.Array) -> jax.Array:
    return self.out(nn.relu(self.dec(z)))

  def last(self, x: jax.Array) -> jax.Array:
    return self.out(x)

  def borrow(self, x: jax.Array) -> jax.Array:
    return self.encode(x) @ self.dec.variables["params"]["kernel"]

  def __call__(self, x: jax.Array) -> jax.Array:
    return self.decode(self.encode(x))


def test_a_pass_in_two_halves() -> None:
  model = Coder()
  variables = drawn(model, X)
  key, _ = keygen(model, variables)
  bound = hpnn.bind(key, model.apply)

  @jax.jit
  def halves(key: hpnn.HpnnKey, variables: Any) -> jax.Array:
    apply = hpnn.bind(key, model.apply)
    z = apply(variables, X, method="encode")
    return apply(variables, z, method="decode")

  z = bound(variables, X, method="encode")
  for out in (
    bound(variables, z, method="decode"),
    halves(key, variables),
  ):
    np.testing.assert_allclose(out, bound(variables, X), rtol=1e-5, atol=1e-6)
  assert not np.allclose(z, model.apply(variables, X, method="encode"))
  # None of the locked layers is run here, and none of their weights is used.
  last = bound(variables, X, method="last")
  np.testing.assert_array_equal(last, model.apply(variables, X, method="last"))


def test_weights_used_without_their_layer_are_refused() -> None:
  model = Coder()
  variables = drawn(model, X)
  key, _ = keygen(model, variables)
  bound = hpnn.bind(key, model.apply)
  with pytest.raises(ValueError, match="did not run dec: .*without a call"):
    bound(variables, X, method="borrow")
  inner = jax.jit(lambda v, z: model.apply(v, z, method="decode"))
  z = inner(variables, model.apply(variables, X, method="encode"))

  def apply(v: Any, x: jax.Array) -> jax.Array:
    return inner(v, model.apply(v, x, method="encode"))

  with pytest.raises(
    ValueError, match="did not run dec: .* a part .* is jitted"
  ):
    hpnn.bind(key, apply)(variables, X)
  assert z.shape == (3, 8)


def sub() -> nn.Module:
  return Sub(8, name="d")


JITTED = nn.jit(Net)


def test_a_jitted_part_is_refused_or_named() -> None:
  class Outer(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
      x = nn.relu(nn.Dense(8, name="d")(x))
      return nn.Dense(4, name="head")(JITTED(sub, name="j")(x))

  model = Outer()
  variables = model.init(jax.random.key(0), X)
  with pytest.raises(ValueError, match="does not reach j/d, j/head: .* jitted"):
    keygen(model, variables)
  # A pass before it has filled JAX's cache, so that nothing inside is seen.
  model.apply(variables, X)
  key, (text,) = keygen(model, variables)
  assert list(key.units) == ["d"]
  assert "j/d, j/head has a kernel" in text and "jitted" in text


def test_layers_of_another_library_are_named() -> None:
  class Block(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
      self.inner = nnx.Linear(8, 8, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
      return nnx.relu(self.inner(x))

  model = Net(lambda: nnx.bridge.ToLinen(Block, name="n"), first=True)
  variables = model.init(jax.random.key(0), X)
  key, (text,) = keygen(model, variables)
  assert list(key.units) == ["first"] and "n/inner has a kernel" in text


# ------------------------------------------------------------ the comparison


def test_a_lock_without_effect_is_named() -> None:
  class Even(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
      return nn.Dense(8, name="d")(x) ** 2

  model = Net(lambda: Even(name="e"))
  _, (text,) = keygen(model, model.init(jax.random.key(0), X))
  assert "the lock changes no output" in text


def test_passes_that_cannot_be_compared(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  model = Net(sub)
  variables = drawn(model, X)
  monkeypatch.setattr(hpnn_twin, "MOST_BYTES", 10)
  _, (text,) = keygen(model, variables)
  assert "was not compared" in text and "GiB" in text
  for compare in (False, True):
    scheme = keyjax.hpnn(model.apply, compare=compare)
    with warnings.catch_warnings():
      warnings.simplefilter("error")
      warnings.simplefilter("ignore", ResourceWarning)
      scheme.keygen(SECRET, variables, {"image": X})

  class Nan(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
      return nn.Dense(8, name="d")(x) * jnp.log(-1.0)

  model = Net(lambda: Nan(name="n"))
  monkeypatch.undo()
  key, (text,) = keygen(model, model.init(jax.random.key(0), X))
  assert "was not compared" in text and "NaN" in text
  assert list(key.units) == ["n/d"]


class Unusual(nn.Module):
  """Roots of weights, a mask of infinities, state, and more than one output."""

  @nn.compact
  def __call__(self, x: jax.Array) -> tuple[jax.Array, dict[str, Any]]:
    x = nn.Dense(8, name="d")(x)
    self.sow("intermediates", "before", x)
    x = nn.BatchNorm(use_running_average=False, name="n")(x)
    root = jnp.sqrt(self.param("root", nn.initializers.ones, (8,)))
    x = nn.Dense(4, name="head")(nn.relu(x) * root)
    return jnp.where(x > 0, x, -jnp.inf), {"sum": x.sum(), "count": 3}


def test_unusual_models_are_compared() -> None:
  model = Unusual()
  variables = model.init(jax.random.key(0), X)
  mutable = ["batch_stats", "intermediates"]
  scheme = keyjax.hpnn(lambda v, x: model.apply(v, x, mutable=mutable))
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", ResourceWarning)
    key = scheme.keygen(SECRET, variables, {"image": X})
    # One example, and one repeated number.
    scheme.keygen(SECRET, variables, {"image": jnp.zeros((1, 8))})
    shape = jax.ShapeDtypeStruct((9, 8), jnp.float32)
    scheme.keygen(SECRET, variables, {"image": shape})
  assert list(key.units) == ["d"]


def test_a_fixed_batch_size_is_compared() -> None:
  class Fixed(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
      return nn.Dense(3, name="last")(Sub(8, name="d")(x.reshape(20, 8)))

  x = jnp.ones((20, 8)).at[0, 0].set(2.0)
  variables = Fixed().init(jax.random.key(0), x)
  key, found = keygen(Fixed(), variables, x)
  assert list(key.units) == ["d"] and not found


# ------------------------------------------------------------- several models


class Two(nn.Module):
  width: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    return nn.Dense(8)(nn.relu(nn.Dense(self.width)(x)))


@pytest.mark.parametrize(
  ("width", "message"),
  [
    (8, "params have no weights at Dense_1, .* they have dec/params/Dense_0"),
    (16, "several layers of the path Dense_1, with 8 and 16 neurons"),
  ],
)
def test_a_pass_of_two_models(width: int, message: str) -> None:
  enc, dec = Two(width), Two(8)
  params = {"enc": drawn(enc, X), "dec": drawn(dec, X)}

  def apply_fn(params: Any, x: jax.Array) -> jax.Array:
    return dec.apply(params["dec"], enc.apply(params["enc"], x))

  with pytest.raises(ValueError, match=f"{message}.*submodules of one module"):
    keyjax.hpnn(apply_fn).keygen(SECRET, params, {"image": X})


def test_params_that_are_nested_deeper() -> None:
  model = Two(8)
  params = {"net": drawn(model, X)}

  def apply_fn(params: Any, x: jax.Array) -> jax.Array:
    return model.apply(params["net"], x)

  message = "params have no weights at Dense_1, .* they have net/params/Dense_0"
  with pytest.raises(ValueError, match=message):
    keyjax.hpnn(apply_fn).keygen(SECRET, params, {"image": X})
  # By name it is locked, and cannot be absorbed.
  scheme = keyjax.hpnn(apply_fn, "Dense_1", units=16)
  with pytest.warns(UserWarning, match=message):
    key = scheme.keygen(SECRET, params, {"image": X})
  with pytest.raises(ValueError, match="Dense_1 has no weights to absorb"):
    hpnn.absorb(key, params)


def test_a_model_that_is_one_layer() -> None:
  model = nn.Dense(8)
  with pytest.raises(ValueError, match="is one layer itself, Dense, .*wrap it"):
    keyjax.hpnn(model.apply).keygen(SECRET, drawn(model, X), {"image": X})
  model = nn.Sequential([model])
  key, _ = keygen(model, drawn(model, X), layers="layers_0")
  assert list(key.units) == ["layers_0"]
