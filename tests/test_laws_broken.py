"""Schemes that break a law: `laws.check` names it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from keyjax import Scheme, Secret, keys, laws, tree

pytestmark = pytest.mark.laws


# Schemes that break a law, and the error.
PLAIN = {"w": jnp.asarray(np.random.default_rng(0).normal(size=64), "float32")}


def broken(**functions: Any) -> Scheme:
  """A scheme that XORs a secret number to each weight, with other functions."""

  def keygen(secret: Secret, params: Any, batch: Any) -> jax.Array:
    return jnp.uint32(int.from_bytes(secret.derive("number", 3), "big"))

  def mix(key: jax.Array, params: Any) -> Any:
    return jax.tree.map(
      lambda x: tree.from_words(tree.as_words(x) ^ key, x.dtype), params
    )

  whole = {"keygen": keygen, "encrypt": mix, "decrypt": mix}
  return Scheme(**(whole | functions))


def constant(key: Any, params: Any) -> Any:
  return jax.tree.map(lambda x: -x, params)


def plain(key: Any, params: Any) -> Any:
  return params


def eager(key: Any, params: Any) -> Any:
  if isinstance(key, jax.core.Tracer):
    return params
  return constant(key, params)


@pytest.mark.parametrize(
  ("functions", "message"),
  [
    ({"decrypt": lambda key, params: params}, "law 1: .* at w"),
    ({"encrypt": lambda key, params: {"v": params["w"]}}, "law 2: .*structure"),
    ({"encrypt": lambda key, params: {"w": params["w"][:8]}}, "law 2: .*shape"),
    (
      {"encrypt": lambda key, params: {"w": params["w"].astype("bfloat16")}},
      "law 2: encrypt makes w bfloat16",
    ),
    ({"encrypt": eager, "decrypt": constant}, "law 4: encrypt .* under jit"),
    ({"keygen": lambda *_: 3}, "law 5: the key contains a int"),
    ({"encrypt": constant, "decrypt": constant}, "law 6: .* restores w"),
    ({"encrypt": plain, "decrypt": plain}, "law 6: nothing is locked"),
  ],
)
def test_a_broken_law_is_named(functions: dict[str, Any], message: str) -> None:
  laws.check(broken(), PLAIN)
  with pytest.raises(laws.LawError, match=message):
    laws.check(broken(**functions), PLAIN)


def test_5_a_static_key_is_compiled_again() -> None:
  def keygen(secret: Secret, params: Any, batch: Any) -> Any:
    return Static(number=int.from_bytes(secret.derive("n", 3)))

  def flip(key: Any, params: Any) -> Any:
    return jax.tree.map(
      lambda x: tree.from_words(
        tree.as_words(x) ^ np.uint32(key.number), x.dtype
      ),
      params,
    )

  with pytest.raises(laws.LawError, match="law 5: another key is compiled"):
    laws.check(Scheme(keygen, flip, flip), PLAIN)


@keys.key_dataclass
class Static(keys.Key):
  number: int = keys.static()


def test_6_something_is_locked() -> None:
  with pytest.raises(laws.LawError, match=r"nothing is .*locks_nothing=True"):
    laws.check(keyjax.identity(), PLAIN)
  laws.check(keyjax.identity(), PLAIN, locks_nothing=True)
  with pytest.raises(laws.LawError, match="locks something"):
    laws.check(keyjax.keyed_noise(".*"), PLAIN, locks_nothing=True)
  # `rolled` finds nothing in the words of a cipher.
  silent = broken(encrypt=plain, decrypt=plain)
  for parts, at in (
    ((silent, broken()), 0),
    ((keyjax.keyed_noise(".*"), silent), 1),
  ):
    with pytest.raises(laws.LawError, match=f"law 6: part {at} of the chain"):
      laws.check(keyjax.chain(*parts), PLAIN)
  noise = keyjax.keyed_noise(".*")
  for nested in (
    keyjax.chain(keyjax.chain(noise, silent), keyjax.deep_lock()),
    keyjax.chain(
      keyjax.partition({"w": noise, "v": silent}), keyjax.deep_lock()
    ),
  ):
    with pytest.raises(laws.LawError, match=r"law 6: part 0\.1 of the chain"):
      laws.check(nested, PLAIN | {"v": PLAIN["w"] + 1})


@pytest.mark.parametrize("last", [3, 25])
def test_6_a_lock_of_few_elements_depends_on_the_key(last: int) -> None:
  def few(key: Any, params: Any) -> Any:
    w = params["w"]
    return {"w": w.at[:last].multiply(-1)}

  def keyed(key: Any, params: Any) -> Any:
    # All 24 bits of a key: of one bit, half of the other keys have the same.
    bits = key >> (jnp.arange(64) % 24).astype(jnp.uint32) & 1
    return {"w": few(key, params)["w"] * (1 - 2 * bits.astype(jnp.float32))}

  with pytest.raises(laws.LawError, match="does not depend on the key"):
    laws.check(broken(encrypt=few, decrypt=few), PLAIN)
  laws.check(broken(encrypt=keyed, decrypt=keyed), PLAIN)


def test_6_and_8_a_bound_pass() -> None:
  """Schemes whose `bind` breaks a law."""

  def apply_fn(params: Any, x: jax.Array) -> jax.Array:
    return x @ params["w"].reshape(8, 8)

  def bound(change: Any) -> Scheme:
    def bind(key: Any, apply_fn: Any) -> Any:
      return lambda params, x: change(key, apply_fn(params, x))

    return broken(encrypt=plain, decrypt=plain, bind=bind)

  def check(scheme: Scheme, absorb: Any = None) -> None:
    batch = {"image": jnp.asarray(np.eye(8), "float32") + 1}
    laws.check(scheme, PLAIN, batch, apply_fn=apply_fn, absorb=absorb)

  def times(key: Any, y: jax.Array) -> jax.Array:
    return y * (1 + key.astype(jnp.float32))

  def eager_only(key: Any, y: jax.Array) -> jax.Array:
    return y if isinstance(key, jax.core.Tracer) else 2 * y

  check(bound(times))
  for change, message in (
    (lambda key, y: y, "law 6: nothing is locked"),
    (lambda key, y: -y, "law 6: .* same with a wrong key"),
    (eager_only, "law 4: the bound pass differs under jit"),
  ):
    with pytest.raises(laws.LawError, match=message):
      check(bound(change))
  with pytest.raises(laws.LawError, match="law 8: .* something else"):
    check(bound(times), absorb=plain)
  with pytest.raises(laws.LawError, match=r"pass apply_fn=model\.apply"):
    laws.check(bound(times), PLAIN)
  with pytest.raises(ValueError, match="absorb= needs apply_fn="):
    laws.check(broken(), PLAIN, absorb=plain)
