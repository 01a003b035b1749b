"""Law 7: nothing shares a keystream, except the published chain."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from keyjax import Secret, aes, secrets, tree
from keyjax.aes import substitution
from keyjax.schemes import deep_lock

pytestmark = pytest.mark.laws


STREAM_CIPHERS = {
  "chain_128": keyjax.deep_lock("chain", 128),
  "chain_256": keyjax.deep_lock("chain", 256),
  "counter_128": keyjax.deep_lock("counter", 128),
  "counter_256": keyjax.deep_lock("counter", 256),
  "keyed_noise": keyjax.keyed_noise(".*"),
}


WITH_NONCE = ("counter_128", "counter_256", "keyed_noise")


@pytest.mark.parametrize("name", STREAM_CIPHERS)
def test_7_leaves_and_positions_share_no_keystream(name: str) -> None:
  """Under one secret; a leaf has 256 blocks."""
  scheme, secret = STREAM_CIPHERS[name], Secret.generate()
  plain = {"a": jnp.zeros(1024), "b": jnp.zeros(1024)}
  both = keyjax.chain(keyjax.masked(scheme, "a"), keyjax.masked(scheme, "b"))
  positions = both.keygen(secret, plain, None)
  assert_no_block_repeats([scheme.keygen(secret, plain, None), *positions])


@pytest.mark.parametrize("name", WITH_NONCE)
def test_7_encryptions_under_one_secret_share_no_keystream(name: str) -> None:
  scheme, secret = STREAM_CIPHERS[name], Secret.generate()
  plain = {"a": jnp.zeros(1024)}
  assert_no_block_repeats(
    [scheme.keygen(secret, plain, None) for _ in range(3)]
  )


@pytest.mark.parametrize("key_bits", [128, 256])
def test_7_fails_for_the_published_chain(key_bits: int) -> None:
  """Two files under one secret are a two-time pad: one reveals the other.

  The published schedule has no nonce, so law 7 holds within a file alone.
  """
  scheme, secret = STREAM_CIPHERS[f"chain_{key_bits}"], Secret.generate()
  rng = np.random.default_rng(0)
  known, hidden = (
    {"w": jnp.asarray(rng.normal(size=512).astype(np.float32))}
    for _ in range(2)
  )
  first, second = (
    scheme.encrypt(scheme.keygen(secret, plain, None), plain)
    for plain in (known, hidden)
  )
  with pytest.raises(AssertionError, match="share keystream"):
    assert_no_block_repeats(
      [scheme.keygen(secret, plain, None) for plain in (known, hidden)]
    )
  # Without any key: the public S-box undone, the keystream cancels out.
  pads = [substitution.sub_bytes(x["w"], inverse=True) for x in (first, second)]
  words = pads[0] ^ pads[1] ^ tree.as_words(known["w"])
  found = tree.from_words(words, jnp.float32)
  np.testing.assert_array_equal(found, hidden["w"])


def assert_no_block_repeats(made: list[Any]) -> None:
  streams = np.concatenate([_blocks(k, 512) for k in made])
  distinct = len(np.unique(streams, axis=0))
  assert distinct == len(streams), f"{len(made)} keys share keystream"


def _blocks(key: Any, count: int) -> np.ndarray:
  if isinstance(key, deep_lock.ChainKey):
    return np.asarray(deep_lock.keystream(key, 4 * count)).reshape(-1, 4)
  return np.asarray(aes.keystream(key.round_keys, key.nonce, count))


def test_7_leaves_take_consecutive_keystream() -> None:
  # Zeros show InvSbox(w') = k_i: every leaf must show another part of it.
  scheme = keyjax.deep_lock()
  plain = {"a": jnp.zeros(6), "b": jnp.zeros((2, 5), jnp.bfloat16)}
  key = scheme.keygen(Secret.generate(), plain, None)
  locked = scheme.encrypt(key, plain)
  stream = np.asarray(deep_lock.keystream(key, 11)).astype(">u4")
  found = [
    substitution.INV_SBOX[np.asarray(locked["a"]).astype(">u4").view(np.uint8)],
    substitution.INV_SBOX[
      np.asarray(locked["b"]).reshape(-1).astype(">u2").view(np.uint8)
    ],
  ]
  np.testing.assert_array_equal(np.concatenate(found), stream.view(np.uint8))


def test_7_labels_separate_everything_derived() -> None:
  secret = Secret.generate()
  labels = ["a", "b", "chain/0", "chain/1", "deep_lock/chain/128"]
  derived = {secret.derive(x, 32) for x in labels}
  derived |= {secret.child("x").derive(x, 32) for x in labels}
  assert len(derived) == 2 * len(labels)
  assert secrets.permutation(secret, "a", 64).tolist() != (
    secrets.permutation(secret, "b", 64).tolist()
  )
