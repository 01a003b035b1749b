"""Law 2: sharding is kept, and a sharded cipher sends nothing."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

import keyjax
from keyjax import Secret, tree
from tests import trees
from tests.law_cases import BATCH, TREE_SCHEMES, without_rng

pytestmark = pytest.mark.laws


@pytest.mark.parametrize("name", TREE_SCHEMES)
def test_2_and_4_sharding(name: str) -> None:
  scheme = TREE_SCHEMES[name][0]()
  plain = trees.params("float32")
  mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("a", "b"))
  specs = {(8, 5): P("a"), (8, 3): P(("a", "b"))}
  place = lambda x: jax.device_put(  # noqa: E731
    np.asarray(x), NamedSharding(mesh, specs.get(x.shape, P()))
  )
  sharded = jax.tree.map(place, without_rng(plain))
  scheme_key = scheme.keygen(Secret.generate(), sharded, BATCH)
  whole = scheme.encrypt(scheme_key, without_rng(plain))
  # JAX 0.12 must be told under jit: see tree.alike.
  asked = None
  if tree.shard_alike is None:
    asked = jax.tree.map(lambda x: x.sharding, sharded)
  jitted = jax.jit(scheme.encrypt, out_shardings=asked)
  for encrypt in (scheme.encrypt, jitted):
    out = encrypt(scheme_key, sharded)
    trees.assert_same_bits(out, whole)
    for x, y in zip(
      jax.tree.leaves(sharded), jax.tree.leaves(out), strict=True
    ):
      assert y.sharding.is_equivalent_to(x.sharding, x.ndim)
  trees.assert_same_bits(
    jax.jit(scheme.decrypt)(scheme_key, out), without_rng(plain)
  )


def _noise(shardings: Any) -> keyjax.Scheme:
  return keyjax.keyed_noise(shardings=shardings)


def test_2_a_sharded_cipher_gathers_nothing() -> None:
  scheme = keyjax.deep_lock()
  mesh = Mesh(np.array(jax.devices()), ("a",))
  ones = np.ones((64, 8), np.float32)
  x = jax.device_put(ones, NamedSharding(mesh, P("a")))
  key = scheme.keygen(Secret.generate(), {"w": x}, None)
  text = jax.jit(scheme.encrypt).lower(key, {"w": x}).compile().as_text()
  assert "all-gather" not in text and "all-reduce" not in text


@pytest.mark.parametrize(
  "make", [lambda s: keyjax.deep_lock("counter", shardings=s), _noise]
)
@pytest.mark.parametrize(
  "dtype", [pytest.param("float32", marks=pytest.mark.slow), "bfloat16"]
)
def test_2_a_sharded_counter_mode_sends_nothing(make: Any, dtype: str) -> None:
  """The bytes are those of one device, for shards of any rows."""
  mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("a", "b"))
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.normal(size=shape).astype(jnp.dtype(dtype))  # noqa: E731
  plain = {
    "kernel": draw(8, 6),
    "deep": {"kernel": draw(3, 16)},
    "bias": draw(5),
  }
  specs = {"kernel": P("a", "b"), "deep": {"kernel": P(None, "a")}, "bias": P()}
  places = jax.tree.map(lambda s: NamedSharding(mesh, s), specs)
  whole, cut = make(None), make(places)
  key = whole.keygen(Secret.generate(), plain, None)
  want, placed = whole.encrypt(key, plain), jax.device_put(plain, places)
  trees.assert_same_bits(cut.encrypt(key, placed), want)
  key = jax.device_put(jax.device_get(key), NamedSharding(mesh, P()))
  locked = jax.device_put(jax.device_get(want), places)
  for step, tree_in in (("encrypt", placed), ("decrypt", locked)):
    jitted = jax.jit(getattr(cut, step), out_shardings=places)
    text = jitted.lower(key, tree_in).compile().as_text()
    for name in ("all-gather", "all-reduce", "all-to-all", "permute("):
      assert name not in text
  locked = jax.jit(cut.encrypt)(key, placed)
  for x, place in zip(
    jax.tree.leaves(locked), jax.tree.leaves(places), strict=True
  ):
    assert x.sharding.is_equivalent_to(place, x.ndim)
  trees.assert_same_bits(jax.jit(cut.decrypt)(key, locked), plain)


def test_2_shardings_that_do_not_fit_are_refused() -> None:
  mesh, plain = Mesh(np.array(jax.devices()), ("a",)), {"w": jnp.ones((12, 2))}
  key = keyjax.deep_lock("counter").keygen(Secret.generate(), plain, None)
  with pytest.raises(ValueError, match="shardings lack leaf w"):
    keyjax.deep_lock("counter", shardings={}).encrypt(key, plain)
  unfit = {
    "leaf w, [12, 2], cannot be cut as": NamedSharding(mesh, P("a")),
    "cannot be cut as": NamedSharding(mesh, P(None, None, "a")),
    "cut as P.*UNCONSTRAINED": NamedSharding(mesh, P(P.UNCONSTRAINED)),
    "hold a P.* for leaf w, not a NamedSharding": P("a"),
    "hold a SingleDeviceSharding": SingleDeviceSharding(jax.devices()[0]),
  }
  for message, place in unfit.items():
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
      keyjax.deep_lock("counter", shardings={"w": place}).encrypt(key, plain)
