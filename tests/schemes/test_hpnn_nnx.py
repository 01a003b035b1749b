"""HPNN on models of flax.nnx, against their twins in flax.linen."""

import warnings
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import keyjax
from keyjax import Secret
from keyjax.schemes import hpnn
from tests import trees

SECRET = Secret(b"n" * 32)
X = jnp.asarray(np.random.default_rng(0).normal(size=(9, 8)), jnp.float32)
PLANES = jnp.asarray(np.random.default_rng(1).normal(size=(3, 6, 6, 2)), "f")
TOKENS = jnp.asarray(np.random.default_rng(2).normal(size=(2, 5, 8)), "f")


def rngs() -> nnx.Rngs:
  return nnx.Rngs(0)


class Cnn(nnx.Module):
  def __init__(self) -> None:
    self.conv = nnx.Conv(2, 4, (3, 3), rngs=rngs())
    self.norm = nnx.BatchNorm(4, use_running_average=True, rngs=rngs())
    self.dense = nnx.Linear(144, 8, rngs=rngs())
    self.head = nnx.Linear(8, 3, rngs=rngs())

  def __call__(self, x: jax.Array) -> jax.Array:
    x = nnx.relu(self.norm(self.conv(x)))
    return self.head(nnx.relu(self.dense(x.reshape(len(x), -1))))


class LinenCnn(nn.Module):
  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = nn.Conv(4, (3, 3), name="conv")(x)
    x = nn.relu(nn.BatchNorm(use_running_average=True, name="norm")(x))
    x = nn.relu(nn.Dense(8, name="dense")(x.reshape(len(x), -1)))
    return nn.Dense(3, name="head")(x)


class Block(nnx.Module):
  """A pre-norm transformer block."""

  def __init__(self) -> None:
    self.norm = nnx.LayerNorm(8, rngs=rngs())
    self.attention = nnx.MultiHeadAttention(
      2, 8, decode=False, deterministic=True, rngs=rngs()
    )
    self.mlp_in = nnx.Linear(8, 16, rngs=rngs())
    self.mlp_out = nnx.Linear(16, 8, rngs=rngs())

  def __call__(self, x: jax.Array) -> jax.Array:
    x = x + self.attention(self.norm(x))
    return x + self.mlp_out(nnx.gelu(self.mlp_in(x)))


class Transformer(nnx.Module):
  def __init__(self) -> None:
    self.block = Block()
    self.head = nnx.Linear(8, 3, rngs=rngs())

  def __call__(self, x: jax.Array) -> jax.Array:
    return self.head(self.block(x))


class LinenBlock(nn.Module):
  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    y = nn.LayerNorm(name="norm")(x)
    x = x + nn.MultiHeadDotProductAttention(2, name="attention")(y)
    y = nn.gelu(nn.Dense(16, name="mlp_in")(x))
    return x + nn.Dense(8, name="mlp_out")(y)


class LinenTransformer(nn.Module):
  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    return nn.Dense(3, name="head")(LinenBlock(name="block")(x))


def drawn(state: nnx.State) -> nnx.State:
  """Return random values for every variable."""
  rng = np.random.default_rng(3)

  def draw(x: Any) -> Any:
    if not jnp.issubdtype(x.dtype, jnp.floating):
      return x
    return jnp.asarray(0.1 + 0.3 * np.abs(rng.normal(size=x.shape)), x.dtype)

  return jax.tree.map(draw, state)


def split(model: nnx.Module) -> tuple[Any, Any]:
  graphdef, state = nnx.split(model)
  return keyjax.nnx_apply(graphdef), drawn(state)


def linen_variables(state: nnx.State) -> Any:
  """Return the variables of the linen twin."""
  params, rest = nnx.split_state(state, nnx.Param, ...)
  made = {"params": nnx.to_pure_dict(params)}
  statistics = nnx.filter_state(rest, nnx.BatchStat)
  if jax.tree.leaves(statistics):
    made["batch_stats"] = nnx.to_pure_dict(statistics)
  return made


@pytest.mark.parametrize(
  ("model", "twin", "x"),
  [
    (Cnn, LinenCnn, PLANES),
    (Transformer, LinenTransformer, TOKENS),
  ],
)
def test_a_model_equals_its_linen_twin(model: Any, twin: Any, x: Any) -> None:
  """From the same weights and secret: the same key, locks and outputs."""
  apply_fn, state = split(model())
  linen, variables = twin(), linen_variables(state)
  with warnings.catch_warnings():
    warnings.simplefilter("error", UserWarning)
    key = keyjax.hpnn(apply_fn, units=16).keygen(SECRET, state, {"image": x})
    other = keyjax.hpnn(linen.apply, units=16).keygen(
      SECRET, variables, {"image": x}
    )
  trees.assert_same_bits(key, other)
  assert len(key.units) >= 2
  assert_same(apply_fn(state, x), linen.apply(variables, x))
  locked = jax.jit(lambda k, p: hpnn.bind(k, apply_fn)(p, x))(key, state)
  of_linen = jax.jit(lambda k, p: hpnn.bind(k, linen.apply)(p, x))
  assert_same(locked, of_linen(other, variables))
  assert float(jnp.abs(locked - apply_fn(state, x)).max()) > 1e-3
  absorbed = hpnn.absorb(key, state)
  assert isinstance(absorbed, nnx.State)
  np.testing.assert_allclose(locked, apply_fn(absorbed, x), 1e-5, 1e-5)
  trees.assert_same_bits(
    linen_variables(absorbed), hpnn.absorb(other, variables)
  )
  trees.assert_same_bits(hpnn.absorb(key, absorbed), state)


def assert_same(a: Any, b: Any) -> None:
  np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


class Sub(nnx.Linear):
  def __call__(self, inputs: jax.Array, out_sharding: Any = None) -> jax.Array:
    return super().__call__(inputs, out_sharding)


class Twice(nnx.Module):
  """A layer that is called twice, and held by two parents."""

  def __init__(self) -> None:
    self.first = nnx.Linear(8, 8, rngs=rngs())
    self.again = self.first

  def __call__(self, x: jax.Array) -> jax.Array:
    return self.again(nnx.relu(self.first(x)))


class Stack(nnx.Module):
  """Layers in one scan: their weights have a first axis over layers."""

  def __init__(self) -> None:
    @nnx.split_rngs(splits=3)
    @nnx.vmap
    def make(rngs: nnx.Rngs) -> nnx.Linear:
      return nnx.Linear(8, 8, rngs=rngs)

    self.layers = make(rngs())

  def __call__(self, x: jax.Array) -> jax.Array:
    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
    def run(layer: nnx.Linear, x: jax.Array) -> jax.Array:
      return nnx.relu(layer(x))

    return run(self.layers, x)


class Rematted(nnx.Module):
  def __init__(self) -> None:
    self.inner = nnx.Linear(8, 8, rngs=rngs())

  def __call__(self, x: jax.Array) -> jax.Array:
    return nnx.remat(lambda layer, x: layer(x))(self.inner, x)


class Mapped(nnx.Module):
  """Four copies of a layer, side by side."""

  def __init__(self) -> None:
    @nnx.split_rngs(splits=4)
    @nnx.vmap
    def make(rngs: nnx.Rngs) -> nnx.Linear:
      return nnx.Linear(8, 2, rngs=rngs)

    self.copies = make(rngs())

  def __call__(self, x: jax.Array) -> jax.Array:
    call = nnx.vmap(lambda layer, x: layer(x), in_axes=(0, None), out_axes=1)
    return call(self.copies, x).reshape(len(x), -1)


def linen_layer() -> nnx.Module:
  made = nnx.bridge.ToNNX(nn.Dense(8), rngs=rngs())
  return nnx.bridge.lazy_init(made, X)


class Listed(nnx.Module, pytree=False):
  def __init__(self) -> None:
    self.parts = [nnx.Linear(8, 8, rngs=rngs()) for _ in range(2)]

  def __call__(self, x: jax.Array) -> jax.Array:
    for part in self.parts:
      x = nnx.relu(part(x))
    return x


class Net(nnx.Module):
  """A layer under test, and a head."""

  def __init__(self, made: Any) -> None:
    self.d = made
    self.head = nnx.Linear(8, 3, rngs=rngs())

  def __call__(self, x: jax.Array) -> jax.Array:
    return self.head(nnx.relu(self.d(x)).reshape(len(x), -1))


GOOD = {
  "subclass": (lambda: Sub(8, 8, rngs=rngs()), {"d"}),
  "no bias": (lambda: nnx.Linear(8, 8, use_bias=False, rngs=rngs()), {"d"}),
  "bfloat16": (
    lambda: nnx.Linear(
      8, 8, dtype=jnp.float32, param_dtype=jnp.bfloat16, rngs=rngs()
    ),
    {"d"},
  ),
  "several output axes": (
    lambda: nnx.LinearGeneral(8, (2, 4), rngs=rngs()),
    {"d"},
  ),
  "einsum": (
    lambda: nnx.Einsum("bi,io->bo", (8, 8), (8,), rngs=rngs()),
    {"d"},
  ),
  "twice": (Twice, {"d/again"}),
  "scan": (Stack, {"d/layers"}),
  "vmap": (Mapped, {"d/copies"}),
  "linen": (linen_layer, {"d"}),
  "remat": (Rematted, {"d/inner"}),
  "list": (Listed, {"d/parts/0", "d/parts/1"}),
  "sequential": (
    lambda: nnx.Sequential(
      nnx.Linear(8, 8, rngs=rngs()),
      nnx.relu,
      nnx.Dropout(0.5, deterministic=True),
      nnx.Linear(8, 8, rngs=rngs()),
    ),
    {"d/layers/0", "d/layers/3"},
  ),
}


SECOND = {"no bias", "several output axes", "sequential", "bfloat16"}


@pytest.mark.parametrize(
  "name",
  [
    pytest.param(x, marks=pytest.mark.slow if x in SECOND else ()) for x in GOOD
  ],
)
def test_a_layer_is_multiplied_once_and_absorbed(name: str) -> None:
  make, paths = GOOD[name]
  apply_fn, state = split(Net(make()))
  with warnings.catch_warnings():
    warnings.simplefilter("error", UserWarning)
    key = keyjax.hpnn(apply_fn, units=16).keygen(SECRET, state, {"image": X})
  assert set(key.units) == paths
  locked = hpnn.bind(key, apply_fn)(state, X)
  assert float(jnp.abs(locked - apply_fn(state, X)).max()) > 1e-3
  plain = apply_fn(hpnn.absorb(key, state), X)
  np.testing.assert_allclose(locked, plain, 1e-5, 1e-5)


class Tied(nnx.Module):
  def __init__(self) -> None:
    self.inner = nnx.Linear(8, 8, rngs=rngs())

  def __call__(self, x: jax.Array) -> jax.Array:
    return self.inner(x) @ self.inner.kernel[...].T


class Activated(nnx.Linear):
  def __call__(self, inputs: jax.Array, out_sharding: Any = None) -> jax.Array:
    return nnx.sigmoid(super().__call__(inputs, out_sharding))


def lora() -> nnx.Module:
  return nnx.LoRALinear(8, 8, lora_rank=2, rngs=rngs())


BAD = {
  "tied": (Tied, "d/inner"),
  "an activation inside": (lambda: Activated(8, 8, rngs=rngs()), "d"),
  "adapters inside": (lora, "d"),
  "kernel whose last axis is not the output": (
    lambda: nnx.Einsum("bi,oi->bo", (8, 8), rngs=rngs()),
    "d",
  ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_absorbed_is_named_and_left_out(name: str) -> None:
  make, path = BAD[name]
  model = nnx.Sequential(nnx.Linear(8, 8, rngs=rngs()), nnx.relu, Net(make()))
  apply_fn, state = split(model)
  scheme = keyjax.hpnn(apply_fn, units=16)
  with pytest.warns(UserWarning, match=f"of layers/2/{path}.* does not negate"):
    key = scheme.keygen(SECRET, state, {"image": X})
  assert set(key.units) == {"layers/0"}


class Jitted(nnx.Module):
  def __init__(self) -> None:
    self.inner = nnx.Linear(8, 8, rngs=rngs())

  def __call__(self, x: jax.Array) -> jax.Array:
    return _run(self.inner, x)


@nnx.jit
def _run(layer: Any, x: jax.Array) -> Any:
  return layer(x)


def test_a_jitted_part_is_refused() -> None:
  apply_fn, state = split(Net(Jitted()))
  scheme = keyjax.hpnn(apply_fn, units=16)
  with pytest.raises(ValueError, match="does not reach d/inner.*is jitted"):
    scheme.keygen(SECRET, state, {"image": X})


class Raw(nnx.Module):
  def __init__(self) -> None:
    self.kernel = nnx.Param(jnp.ones((8, 8)))

  def forward(self, x: jax.Array) -> jax.Array:
    return x @ self.kernel[...]


class Hidden(nnx.Module):
  """A kernel that is used without `__call__`."""

  def __init__(self) -> None:
    self.first = nnx.Linear(8, 8, rngs=rngs())
    self.raw = Raw()
    self.head = nnx.Linear(8, 3, rngs=rngs())

  def __call__(self, x: jax.Array) -> jax.Array:
    return self.head(self.raw.forward(nnx.relu(self.first(x))))

  def encode(self, x: jax.Array) -> jax.Array:
    return self.first(x)


def test_a_kernel_without_a_call_is_warned_of() -> None:
  apply_fn, state = split(Hidden())
  scheme = keyjax.hpnn(apply_fn, units=16)
  with pytest.warns(UserWarning, match="raw has a kernel that is used without"):
    key = scheme.keygen(SECRET, state, {"image": X})
  assert set(key.units) == {"first"}
  # A pass of another method is locked as well; it needs no other layer.
  graphdef, _ = nnx.split(Hidden())
  encode = keyjax.nnx_apply(graphdef, method="encode")
  locked = hpnn.bind(key, encode)(state, X)
  np.testing.assert_array_equal(
    locked, encode(state, X) * key.signs("first")[None].astype(jnp.float32)
  )


def test_other_states_are_arguments_of_their_own() -> None:
  """Only params are locked; statistics and random streams are not."""

  class Random(nnx.Module):
    def __init__(self) -> None:
      self.d = nnx.Linear(8, 8, rngs=rngs())
      self.norm = nnx.BatchNorm(8, rngs=rngs())
      self.drop = nnx.Dropout(0.5, rngs=rngs())
      self.head = nnx.Linear(8, 3, rngs=rngs())

    def __call__(self, x: jax.Array) -> jax.Array:
      return self.head(self.drop(nnx.relu(self.norm(self.d(x)))))

  model = Random()
  split_state: Any = nnx.split(model, nnx.Param, ...)
  graphdef, params, rest = split_state
  before = jax.tree.map(jnp.copy, nnx.filter_state(rest, nnx.BatchStat))
  apply_fn = keyjax.nnx_apply(graphdef, rest)
  scheme = keyjax.hpnn(apply_fn, units=16)
  key = scheme.keygen(SECRET, params, {"image": X})
  assert set(key.units) == {"d"}
  locked = jax.jit(lambda k, p: hpnn.bind(k, apply_fn)(p, X))(key, params)
  absorbed = jax.jit(apply_fn)(hpnn.absorb(key, params), X)
  np.testing.assert_allclose(locked, absorbed, 1e-5, 1e-5)
  trees.assert_same_bits(nnx.filter_state(rest, nnx.BatchStat), before)
  grads = jax.grad(lambda p: hpnn.bind(key, apply_fn)(p, X).sum())(params)
  assert jax.tree.map(jnp.shape, grads) == jax.tree.map(jnp.shape, params)


def test_the_plain_model_is_as_it_was() -> None:
  """No module of the caller is changed, nor the classes of Flax."""
  model = Cnn()
  graphdef, state = nnx.split(model)
  kinds = [type(x) for _, x in nnx.iter_graph(model)]
  apply_fn = keyjax.nnx_apply(graphdef)
  key = keyjax.hpnn(apply_fn).keygen(SECRET, state, {"image": PLANES})
  hpnn.bind(key, apply_fn)(state, PLANES)
  assert [type(x) for _, x in nnx.iter_graph(model)] == kinds
  assert nnx.split(model)[0] == graphdef
  assert_same(model(PLANES), apply_fn(state, PLANES))


@pytest.mark.parametrize("value", [Cnn, None, {"a": 1}])
def test_what_is_no_graphdef_is_refused(value: Any) -> None:
  given: Any = value() if value is Cnn else value
  with pytest.raises(TypeError, match="nnx_apply takes the graphdef of"):
    keyjax.nnx_apply(given)
