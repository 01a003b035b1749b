"""Combinators: order, sub-keys, masks, and their errors."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from keyjax import Scheme, Secret
from tests import trees


def test_identity_does_nothing() -> None:
  scheme, plain = keyjax.identity(), {"w": jnp.ones(3)}
  key = scheme.keygen(Secret.generate(), plain, None)
  assert scheme.encrypt(key, plain) is plain
  assert scheme.bind(key, len) is len


def noted(name: str, log: list[str]) -> Scheme:
  """A scheme that records its calls in order."""

  def bind(key: Any, apply_fn: Any) -> Any:
    def bound(params: Any, x: str) -> str:
      return apply_fn(params, x + name)

    return bound

  def act(what: str) -> Any:
    def go(key: Any, params: Any) -> Any:
      log.append(f"{what} {name}")
      return params

    return go

  return Scheme(
    keygen=lambda secret, params, batch: secret.fingerprint(),
    encrypt=act("encrypt"),
    decrypt=act("decrypt"),
    bind=bind,
  )


def test_chain_order() -> None:
  log: list[str] = []
  scheme = keyjax.chain(noted("a", log), noted("b", log))
  key = scheme.keygen(Secret.generate(), {}, None)
  log.clear()
  scheme.decrypt(key, scheme.encrypt(key, {}))
  assert log == ["encrypt a", "encrypt b", "decrypt b", "decrypt a"]
  # An input meets the first scheme first.
  assert scheme.bind(key, lambda params, x: x)({}, "x") == "xab"


def test_chain_positions_have_their_own_keys() -> None:
  scheme = keyjax.chain(*[noted("a", [])] * 3)
  secret = Secret.generate()
  key = scheme.keygen(secret, {}, None)
  assert len(set(key)) == 3
  nested = keyjax.chain(scheme, noted("a", []))
  assert not set(nested.keygen(secret, {}, None)[0]) & set(key)


def test_chain_keygen_sees_what_earlier_parts_left() -> None:
  # A cipher leaves words, so a second scheme has nothing to lock and says so.
  plain = {"w": jnp.ones(4)}
  scheme = keyjax.chain(keyjax.deep_lock(), keyjax.deep_lock())
  with pytest.raises(ValueError, match="nothing to encrypt.*w: uint32"):
    scheme.keygen(Secret.generate(), plain, None)


def test_chain_errors() -> None:
  with pytest.raises(ValueError, match="at least one scheme"):
    keyjax.chain()
  scheme = keyjax.chain(keyjax.identity(), keyjax.identity())
  for key, got in (((), "0"), (((),), "1"), (3, "int")):
    with pytest.raises(TypeError, match=f"needs 2 keys in a tuple, got {got}"):
      scheme.encrypt(key, {})


def test_partition_takes_the_first_match() -> None:
  plain = {n: jnp.zeros(8) for n in ("a", "ab", "c")}
  scheme = keyjax.partition(
    {"a": keyjax.deep_lock(), "a.*": keyjax.deep_lock("counter")}
  )
  key = scheme.keygen(Secret.generate(), plain, None)
  locked = scheme.encrypt(key, plain)
  hidden = [[s.path for s in k.spec if s.locked] for k in key]
  assert hidden == [["a"], ["ab"]]
  assert locked["c"].dtype == jnp.float32
  trees.assert_same_bits(scheme.decrypt(key, locked), plain)
  with pytest.raises(ValueError, match="at least one pattern"):
    keyjax.partition({})


def test_a_key_that_is_an_argument_is_not_a_constant() -> None:
  """JAX may write compiled programs to a cache: no key may be in them."""
  scheme = keyjax.pixel_shuffle("shf", 4)
  images = jnp.zeros((1, 8, 8, 3))
  key = scheme.keygen(Secret.generate(), None, {"image": images})
  order = ", ".join(map(str, key.order.tolist()))

  def forward(key: Any, params: Any, x: Any) -> Any:
    return keyjax.authorize(scheme, key, lambda p, x: x)(params, x)

  passed = jax.jit(forward).lower(key, {}, images).as_text()
  closed = jax.jit(lambda p, x: forward(key, p, x)).lower({}, images).as_text()
  assert order not in passed
  assert order in closed  # so the test can fail


def test_keygen_needs_only_shapes() -> None:
  shapes = {"w": jax.ShapeDtypeStruct((8,), jnp.float32)}
  scheme = keyjax.chain(
    keyjax.identity(),
    keyjax.deep_lock(),
  )
  two = keyjax.partition({"v": keyjax.identity(), ".*": keyjax.deep_lock()})
  for made in (scheme, two):
    key = made.keygen(Secret.generate(), shapes, None)
    plain = {"w": jnp.arange(8.0)}
    trees.assert_same_bits(made.decrypt(key, made.encrypt(key, plain)), plain)


def test_authorize_decrypts_and_binds() -> None:
  images = jnp.asarray(np.random.default_rng(0).random((2, 4, 4, 1)), "float32")
  scheme = keyjax.chain(
    keyjax.pixel_shuffle("np", 2), keyjax.deep_lock("counter")
  )
  plain = {"w": jnp.float32(3)}
  key = scheme.keygen(Secret.generate(), plain, {"image": images})
  run = keyjax.authorize(scheme, key, lambda p, x, power: (p["w"] * x) ** power)
  want = (3 * keyjax.schemes.pixel_shuffle.transform(key[0], images)) ** 2
  np.testing.assert_array_equal(
    run(scheme.encrypt(key, plain), images, power=2), want
  )


def test_authorize_takes_the_key_before_the_function() -> None:
  scheme = keyjax.deep_lock()
  key = scheme.keygen(Secret.generate(), {"w": jnp.ones(4)}, None)
  with pytest.raises(TypeError, match="scheme, key, apply_fn.*ChainKey"):
    keyjax.authorize(scheme, len, key)


LOSS = keyjax.adv_params(lambda params, batch: jnp.float32(0))


@pytest.mark.parametrize(
  ("scheme", "name"),
  [
    (keyjax.deep_lock(), "deep_lock"),
    (keyjax.deep_lock("counter"), "deep_lock"),
    (keyjax.keyed_noise(), "keyed_noise"),
    (keyjax.hpnn(lambda params, x: x), "hpnn"),
    (keyjax.pixel_shuffle(), "pixel_shuffle"),
    (LOSS, "adv_params"),
  ],
)
def test_keygen_takes_a_secret(scheme: Scheme, name: str) -> None:
  plain = {"kernel": jnp.ones((4, 4))}
  with pytest.raises(TypeError, match=f"{name}: keygen takes a .*got a str"):
    scheme.keygen("hunter2", plain, {"image": jnp.ones((1, 4, 4, 1))})  # type: ignore[arg-type]


@pytest.mark.parametrize("batch", [None, jnp.ones((2, 4, 4, 1)), {"x": 1}])
@pytest.mark.parametrize("name", ["hpnn", "pixel_shuffle"])
def test_a_batch_without_images(name: str, batch: Any) -> None:
  made = {"pixel_shuffle": keyjax.pixel_shuffle()}
  made["hpnn"] = keyjax.hpnn(lambda params, x: x)
  with pytest.raises(
    ValueError, match=f"{name}: keygen looks at .*give a batch"
  ):
    made[name].keygen(Secret.generate(), {}, batch)
