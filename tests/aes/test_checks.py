"""Arguments of another shape or dtype are refused, whatever the platform."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from keyjax import Secret, aes, keys, seal
from keyjax.aes import schedule
from keyjax.seal import device
from keyjax.seal.format import size_of_chunks

KEYS = aes.expand_key(bytes(16))
COUNTER = jnp.zeros(4, jnp.uint32)
DATA = jnp.zeros(20, jnp.uint8)
NONCE = jnp.zeros(12, jnp.uint8)
TAG = jnp.zeros(16, jnp.uint8)
WRONG_KEYS = (KEYS[:9], KEYS[:10], KEYS[None], KEYS.astype(jnp.int32))
WRONG_COUNTERS = (
  *(jnp.zeros(n, jnp.uint32) for n in (0, 1, 3, 5)),
  jnp.zeros(4, jnp.int32),
  jnp.zeros((1, 4), jnp.uint32),
)
WRONG_BYTES = (DATA[None], DATA.astype(jnp.int8), DATA.astype(jnp.uint32))
WRONG_NONCES = (NONCE[:3], NONCE[:0], TAG[:13], NONCE.astype(jnp.int8))
HEADER = jnp.zeros(56, jnp.uint8)
CHUNKS = jnp.zeros(size_of_chunks(20), jnp.uint8)
BLOCKS = jnp.zeros((2, 4), jnp.uint32)
# name: function of its arrays, right arrays, wrong values of each.
CALLS = {
  "keystream": (
    lambda k, c, impl: aes.keystream(k, c, 1, impl=impl),
    (KEYS, COUNTER),
    (WRONG_KEYS, WRONG_COUNTERS),
  ),
  "xor_words": (
    lambda k, c, x, impl: aes.xor_words(k, c, [x], impl=impl),
    (KEYS, COUNTER, DATA),
    (WRONG_KEYS, WRONG_COUNTERS, (DATA.astype(jnp.int8),)),
  ),
  "pads": (
    lambda k, c, impl: aes.pads(k, c, [DATA], impl=impl),
    (KEYS, COUNTER),
    (WRONG_KEYS, WRONG_COUNTERS),
  ),
  "encrypt_blocks": (
    aes.encrypt_blocks,
    (KEYS, BLOCKS),
    (WRONG_KEYS, (BLOCKS[0], BLOCKS[:, :3], BLOCKS.astype(jnp.int32))),
  ),
  "decrypt_blocks": (
    aes.decrypt_blocks,
    (KEYS, BLOCKS),
    (WRONG_KEYS, (BLOCKS[0], BLOCKS[:, :3], BLOCKS.astype(jnp.int32))),
  ),
  "gcm_seal": (
    aes.gcm_seal,
    (KEYS, NONCE, DATA, DATA),
    (WRONG_KEYS, (NONCE[:0], NONCE[None]), WRONG_BYTES, WRONG_BYTES),
  ),
  "gcm_open": (
    aes.gcm_open,
    (KEYS, NONCE, DATA, TAG, DATA),
    (
      WRONG_KEYS,
      (NONCE[:0], NONCE[None]),
      WRONG_BYTES,
      (TAG[:3], CHUNKS[:17], TAG.astype(jnp.int8), TAG[None]),
      WRONG_BYTES,
    ),
  ),
  "cmac": (
    aes.cmac,
    (KEYS, DATA[None]),
    (WRONG_KEYS, (DATA, DATA[None].astype(jnp.uint32))),
  ),
  "derive": (
    lambda k, c, impl: aes.derive(k, "label", 4, c, impl=impl),
    (KEYS, DATA),
    (WRONG_KEYS, WRONG_BYTES),
  ),
  "seal_chunks": (
    device.seal_chunks,
    (KEYS, NONCE, DATA, HEADER),
    (WRONG_KEYS, WRONG_NONCES, WRONG_BYTES, (HEADER[None],)),
  ),
  "open_chunks": (
    device.open_chunks,
    (KEYS, NONCE, CHUNKS),
    (WRONG_KEYS, WRONG_NONCES, (*WRONG_BYTES, DATA[:15])),
  ),
}


@pytest.mark.parametrize("impl", ["host", "device"])
@pytest.mark.parametrize("name", CALLS)
def test_other_shapes_and_dtypes_are_refused(name: str, impl: str) -> None:
  """At tracing: nothing is compiled, on no platform."""
  function, right, wrong = CALLS[name]
  if impl == "device":  # What is right is accepted; other tests run it.
    jax.eval_shape(lambda *args: function(*args, impl=impl), *right)
  for i, values in enumerate(wrong):
    for value in values:
      args = [*right[:i], value, *right[i + 1 :]]
      with pytest.raises(ValueError):
        function(*args, impl=impl)


@pytest.mark.parametrize("start", [0.5, True, -1, jnp.int32(-1), np.arange(2)])
def test_a_keystream_starts_at_a_block(start: object) -> None:
  with pytest.raises(ValueError, match=r"start is|cannot make blocks"):
    aes.keystream(KEYS, COUNTER, 1, start)  # type: ignore[arg-type]


def altered_schedules() -> list[np.ndarray]:
  """Return round keys with one bit of one word flipped, for every word."""
  out = []
  for word in range(KEYS.size):
    words = np.array(KEYS).reshape(-1)
    words[word] ^= np.uint32(1) << np.uint32(word % 32)
    out.append(words.reshape(KEYS.shape))
  return out


def test_altered_round_keys_are_no_schedule() -> None:
  schedule.check_expanded(KEYS)
  for words in altered_schedules():
    with pytest.raises(ValueError, match="round keys are not the schedule"):
      schedule.check_expanded(words)


def test_a_key_with_altered_round_keys_does_nothing(tmp_path) -> None:
  scheme, params = keyjax.deep_lock("counter"), {"w": jnp.ones(4)}
  key = scheme.keygen(Secret.generate(), params, None)
  locked = scheme.encrypt(key, params)
  words = key.round_keys.at[10, 3].set(key.round_keys[10, 3] ^ 1)
  altered = key.replace(round_keys=words)
  for use, tree in ((scheme.encrypt, params), (scheme.decrypt, locked)):
    with pytest.raises(ValueError, match="round keys are not the schedule"):
      use(altered, tree)
  keys.save(tmp_path / "key", altered)
  with pytest.raises(ValueError, match="does not hold a key"):
    keys.load(tmp_path / "key")


def test_altered_round_keys_give_the_same_bytes_everywhere() -> None:
  """A compiled program cannot refuse them; no platform may repair them."""
  words = jnp.asarray(altered_schedules()[43])
  streams = [
    aes.keystream(words, COUNTER, 3, impl=impl) for impl in ("host", "device")
  ]
  np.testing.assert_array_equal(*streams)
  assert (streams[0] != aes.keystream(KEYS, COUNTER, 3, impl="device")).any()


def test_an_altered_sealing_key_does_nothing() -> None:
  key = seal.seal_key(bytes(16))
  message = seal.seal_array(key, DATA)
  for altered, reason in (
    (key.replace(header=key.header[:1]), "header is"),
    (key.replace(base_nonce=key.base_nonce[:3]), "base_nonce is"),
  ):
    with pytest.raises(ValueError, match=reason):
      seal.seal_array(altered, DATA)
    with pytest.raises(ValueError, match=reason):
      seal.unseal_array(altered, message)
  altered = key.replace(round_keys=key.round_keys.at[9, 0].add(1))
  with pytest.raises(ValueError, match="round keys are not the schedule"):
    seal.seal_array(altered, DATA)
  assert not seal.unseal_array(altered, message)[1]
