"""HPNN on models of flax.nnx, against their twins in flax.linen."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import keyjax
from keyjax import Secret
from keyjax.schemes import hpnn
from tests import trees
from tests.schemes import nnx_models
from tests.schemes.nnx_models import Cnn, Hidden, Jitted, Net, rngs

SECRET = Secret(b"n" * 32)
X = jnp.asarray(np.random.default_rng(0).normal(size=(9, 8)), jnp.float32)
PLANES = jnp.asarray(np.random.default_rng(1).normal(size=(3, 6, 6, 2)), "f")
TOKENS = jnp.asarray(np.random.default_rng(2).normal(size=(2, 5, 8)), "f")


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
    (Cnn, nnx_models.LinenCnn, PLANES),
    (nnx_models.Transformer, nnx_models.LinenTransformer, TOKENS),
  ],
)
def test_a_model_equals_its_linen_twin(model: Any, twin: Any, x: Any) -> None:
  """From the same weights and secret: the same key, locks and outputs."""
  apply_fn, state = split(model())
  linen, variables = twin(), linen_variables(state)
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", ResourceWarning)
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


GOOD = {
  "subclass": (lambda: nnx_models.Sub(8, 8, rngs=rngs()), {"d"}),
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
  "twice": (nnx_models.Twice, {"d/again"}),
  "scan": (nnx_models.Stack, {"d/layers"}),
  "vmap": (nnx_models.Mapped, {"d/copies"}),
  "linen": (nnx_models.linen_layer, {"d"}),
  "remat": (nnx_models.Rematted, {"d/inner"}),
  "list": (nnx_models.Listed, {"d/parts/0", "d/parts/1"}),
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
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", ResourceWarning)
    key = keyjax.hpnn(apply_fn, units=16).keygen(SECRET, state, {"image": X})
  assert set(key.units) == paths
  locked = hpnn.bind(key, apply_fn)(state, X)
  assert float(jnp.abs(locked - apply_fn(state, X)).max()) > 1e-3
  plain = apply_fn(hpnn.absorb(key, state), X)
  np.testing.assert_allclose(locked, plain, 1e-5, 1e-5)


BAD = {
  "tied": (nnx_models.Tied, "d/inner"),
  "an activation inside": (
    lambda: nnx_models.Activated(8, 8, rngs=rngs()),
    "d",
  ),
  "adapters inside": (nnx_models.lora, "d"),
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


def test_a_jitted_part_is_refused() -> None:
  apply_fn, state = split(Net(Jitted()))
  scheme = keyjax.hpnn(apply_fn, units=16)
  with pytest.raises(
    ValueError, match="not reach d/inner.*is jitted, or .*lax.scan"
  ):
    scheme.keygen(SECRET, state, {"image": X})


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


def test_a_cached_scan_is_refused_by_its_name() -> None:
  apply_fn, state = split(Net(nnx_models.Scanned()))
  scheme = keyjax.hpnn(apply_fn, units=16)
  with pytest.raises(ValueError, match="d/layers.*lax.scan.*within __call__"):
    scheme.keygen(SECRET, state, {"image": X})
