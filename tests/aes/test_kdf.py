"""CMAC and SP 800-108 against the standards' examples and OpenSSL."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cryptography.hazmat.primitives import cmac as host_cmac
from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.kdf.kbkdf import (
  KBKDFCMAC,
  CounterLocation,
  Mode,
)

from keyjax import aes
from tests import wycheproof

IMPLS = ("host", "device")
# SP 800-38B, appendix D.1.
KEY = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
MESSAGE = bytes.fromhex(
  "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
  "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
)
EXAMPLES = {
  0: "bb1d6929e95937287fa37d129b756746",
  16: "070a16b46b4d4144f79bdd9dd04a287c",
  40: "dfa66747de9ae63030ca32611497c827",
  64: "51f0bebf7e3b9d92fc49741779363cfe",
}


def array(data):
  return jnp.asarray(np.frombuffer(data, np.uint8))


@pytest.mark.vectors
@pytest.mark.parametrize(
  ("impl", "size"),
  (
    *(("host", n) for n in EXAMPLES),
    # Padding does not depend on the implementation: the device has an example
    # with padding and one without.
    *(pytest.param("device", n, marks=pytest.mark.slow) for n in (0, 16)),
    ("device", 40),
    ("device", 64),
  ),
)
def test_cmac_sp_800_38b(impl, size):
  tag = aes.cmac(aes.expand_key(KEY), array(MESSAGE[:size])[None], impl=impl)
  assert bytes(tag[0]).hex() == EXAMPLES[size]


def test_cmac_of_many_messages_equals_openssl():
  rng = np.random.default_rng(0)
  key, messages = rng.bytes(32), rng.integers(0, 256, (5, 33), np.uint8)
  tags = np.asarray(aes.cmac(aes.expand_key(key), jnp.asarray(messages)))
  for message, tag in zip(messages, tags, strict=True):
    want = host_cmac.CMAC(algorithms.AES(key))
    want.update(message.tobytes())
    assert tag.tobytes() == want.finalize()


def cmac_wycheproof():
  """Return the cases by size of key and message, one compilation each."""
  groups = collections.defaultdict(list)
  for t in wycheproof.cases("aes_cmac_test.json"):
    key, message = bytes.fromhex(t["key"]), bytes.fromhex(t["msg"])
    groups[len(key), len(message)].append((key, message, t))
  return groups


def check_cmac(group):
  keys = np.stack([aes.expand_key(key) for key, _, _ in group])
  messages = np.stack([np.frombuffer(m, np.uint8) for _, m, _ in group])
  tags = jax.vmap(lambda k, m: aes.cmac(k, m[None], impl="host")[0])(
    keys, messages
  )
  for tag, (_, _, t) in zip(np.asarray(tags), group, strict=True):
    same = tag.tobytes().startswith(bytes.fromhex(t["tag"]))
    assert same == (t["result"] == "valid")
  return len(group)


@pytest.mark.vectors
def test_cmac_wycheproof(capsys):
  groups = cmac_wycheproof()
  many = [sizes for sizes, group in groups.items() if len(group) > 1]
  total = sum(check_cmac(groups[sizes]) for sizes in many)
  assert total == 252
  for (size, _), group in groups.items():
    if size not in (16, 24, 32):
      assert [t["result"] for _, _, t in group] == ["invalid"]
      with pytest.raises(ValueError, match="16, 24 or 32 bytes"):
        aes.expand_key(group[0][0])
  with capsys.disabled():
    print(f"\nWycheproof AES-CMAC: {total} cases, 0 failures")


@pytest.mark.slow
@pytest.mark.vectors
def test_cmac_wycheproof_in_full():
  groups = cmac_wycheproof().items()
  fit = [group for (size, _), group in groups if size in (16, 24, 32)]
  assert sum(map(check_cmac, fit)) == 306


@pytest.mark.parametrize(
  ("impl", "size", "length", "context"),
  (
    ("host", 16, 1, b""),
    ("host", 24, 16, b"nonce"),
    ("host", 32, 100, bytes(16)),
    ("device", 16, 17, b""),
    ("device", 32, 48, b"nonce"),
  ),
)
def test_derive_equals_openssl(impl, size, length, context):
  key = np.random.default_rng(size).bytes(size)
  where = (4, 4, CounterLocation.BeforeFixed, b"deep_lock/w", context, None)
  want = KBKDFCMAC(algorithms.AES, Mode.CounterMode, length, *where).derive(key)
  given = array(context) if context else None
  got = aes.derive(aes.expand_key(key), "deep_lock/w", length, given, impl=impl)
  assert bytes(np.asarray(got)) == want


def test_derived_bytes_work_as_a_key_inside_one_program():
  """Nonces that are traced lead to different keystreams."""

  @jax.jit
  def stream(master, nonce):
    key = aes.derive(aes.expand_key(master), "leaf/w", 32, nonce)
    return aes.keystream(aes.expand_key(key), jnp.zeros(4, jnp.uint32), 2)

  nonces = np.eye(3, 16, dtype=np.uint8)
  streams = {bytes(np.asarray(stream(array(KEY), n))) for n in nonces}
  assert len(streams) == 3
  again = stream(array(KEY), jnp.asarray(nonces[0]))
  assert bytes(np.asarray(again)) in streams


def test_labels_and_lengths_are_checked():
  keys = aes.expand_key(KEY)
  with pytest.raises(ValueError, match="zero byte"):
    aes.derive(keys, "a\0b", 16)
  for length in (0, 2**28 + 1):
    with pytest.raises(ValueError, match="1 to 2\\^28"):
      aes.derive(keys, "a", length)
