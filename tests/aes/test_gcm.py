"""AES-GCM: NIST CAVP, Wycheproof, OpenSSL, and tampering."""

import collections
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from keyjax import aes
from keyjax.aes import ghash
from keyjax.aes import library as libraries
from tests import memory, wycheproof
from tests.aes import frames

IMPLS = ("host", "device")
LOADED = [name for name in libraries.LIBRARIES if libraries.load(name)]


def array(data):
  return jnp.asarray(np.frombuffer(data, np.uint8))


def seal(key, nonce, data, aad, impl):
  args = map(array, (nonce, data, aad))
  sealed, tag = aes.gcm_seal(aes.expand_key(key), *args, impl=impl)
  return bytes(sealed), bytes(tag)


def unseal(key, nonce, sealed, tag, aad, impl):
  args = map(array, (nonce, sealed, tag, aad))
  data, valid = aes.gcm_open(aes.expand_key(key), *args, impl=impl)
  return bytes(data), bool(valid)


def batch(rows):
  return np.stack([np.frombuffer(row, np.uint8) for row in rows])


def schedules(keys):
  return np.stack([aes.expand_key(k) for k in keys])


def check_seal(cases, impl):
  """Check cases of one shape in one call."""
  key, nonce, data, aad, sealed, tag = zip(*cases, strict=True)
  got, tags = jax.vmap(lambda *x: aes.gcm_seal(*x, impl=impl))(
    schedules(key), *map(batch, (nonce, data, aad))
  )
  for i in range(len(cases)):
    assert bytes(np.asarray(got[i])) == sealed[i]
    assert bytes(np.asarray(tags[i]))[: len(tag[i])] == tag[i]


def check_open(cases, impl):
  """Check cases of one shape in one call; data is None if it must fail."""
  key, nonce, data, aad, sealed, tag = zip(*cases, strict=True)
  got, valid = jax.vmap(lambda *x: aes.gcm_open(*x, impl=impl))(
    schedules(key), *map(batch, (nonce, sealed, tag, aad))
  )
  got, valid = np.asarray(got), np.asarray(valid)
  for i, want in enumerate(data):
    assert valid[i] == (want is not None)
    assert bytes(got[i]) == (bytes(len(sealed[i])) if want is None else want)


def read_cavp(text):
  """Yield (key, nonce, data or None, aad, sealed, tag)."""
  for case in re.split(r"\nCount = ", text)[1:]:
    f = dict(re.findall(r"^(\w+) =[ ]?(\w*)", case, re.M))
    data = None if "FAIL" in case else bytes.fromhex(f["PT"])
    rest = [bytes.fromhex(f[k]) for k in ("AAD", "CT", "Tag")]
    yield bytes.fromhex(f["Key"]), bytes.fromhex(f["IV"]), data, *rest


def by_shape(cases, with_tag=True):
  groups = collections.defaultdict(list)
  for case in cases:
    key, nonce, _, aad, sealed, tag = case
    shape = (key, nonce, aad, sealed, tag) if with_tag else case[:2] + case[3:5]
    groups[tuple(map(len, shape))].append(case)
  return groups


def check_cavp(nist, bits, impl, to_seal, to_open, capsys):
  """Run the cases of some shapes: a slice of those to seal, and to open."""
  total = 0
  for name, check, some in (
    ("EncryptExtIV", check_seal, to_seal),
    ("Decrypt", check_open, to_open),
  ):
    cases = read_cavp(nist(f"GCM/gcm{name}{bits}.rsp"))
    groups = by_shape(cases, with_tag=check is check_open)
    for shape in sorted(groups)[some]:
      check(groups[shape], impl)
      total += len(groups[shape])
      memory.free_programs_if_many()
  with capsys.disabled():
    print(f"\nCAVP AES-{bits} GCM {impl}: {total} cases, 0 failures")
  return total


@pytest.mark.vectors
@pytest.mark.parametrize("bits", (128, 192, 256))
def test_cavp_host(bits, nist, capsys):
  to_seal = slice(None, None, 25)
  to_open = slice(None, None, 175)
  assert check_cavp(nist, bits, "host", to_seal, to_open, capsys) > 300


@pytest.mark.vectors
@pytest.mark.parametrize(
  "bits",
  (
    128,
    pytest.param(192, marks=pytest.mark.slow),
    pytest.param(256, marks=pytest.mark.slow),
  ),
)
def test_cavp_device(bits, nist, capsys):
  # Every shape compiles for seconds: all of them are in the slow test. Here
  # nonces of 128 bytes seal and a nonce of 1 byte opens; the other tests of
  # the device have nonces of 12 bytes.
  to_seal = slice(-1, None)
  to_open = slice(1)
  assert check_cavp(nist, bits, "device", to_seal, to_open, capsys) >= 120


def arrays(key, *rest):
  """Return arguments of a handler."""
  keys = np.asarray(aes.expand_key(key))
  return [keys, *(np.frombuffer(x, np.uint8) for x in rest)]


def check_in_a_loop(cases, library):
  """Call the handlers themselves, without compiling each shape."""
  total = 0
  for key, nonce, data, aad, sealed, tag in cases:
    out, full = np.ones(len(sealed), np.uint8), np.zeros(16, np.uint8)
    if data is not None:
      args = arrays(key, nonce, data, aad)
      assert not frames.call(library, "keyjax_gcm_seal", args, [out, full])
      assert bytes(out) == sealed and bytes(full)[: len(tag)] == tag
    valid = np.ones((), np.bool_)
    args = arrays(key, nonce, sealed, tag, aad)
    assert not frames.call(library, "keyjax_gcm_open", args, [out, valid])
    assert valid == (data is not None)
    assert bytes(out) == (bytes(len(sealed)) if data is None else data)
    total += 1
  return total


@pytest.mark.slow
@pytest.mark.vectors
@pytest.mark.parametrize("name", LOADED)
@pytest.mark.parametrize("bits", (128, 192, 256))
def test_cavp_host_in_full(bits, name, nist, capsys):
  library, total = libraries.load(name), 0
  for name in ("EncryptExtIV", "Decrypt"):
    cases = read_cavp(nist(f"GCM/gcm{name}{bits}.rsp"))
    total += check_in_a_loop(cases, library)
  assert total == 15_750
  with capsys.disabled():
    print(f"\nCAVP AES-{bits} GCM host, in full: {total} cases, 0 failures")


@pytest.mark.slow
@pytest.mark.vectors
@pytest.mark.parametrize("bits", (128, 192, 256))
def test_cavp_device_in_full(bits, nist, capsys):
  # Every eighth shape to open covers all seven tag lengths.
  every_eighth = slice(None, None, 8)
  total = check_cavp(nist, bits, "device", slice(None), every_eighth, capsys)
  assert total == 7875 + 990


@pytest.fixture(scope="module")
def gcm_cases():
  """All cases in the form of `read_cavp`; invalid ones have no plaintext."""
  out = []
  for t in wycheproof.cases("aes_gcm_test.json"):
    fields = ("key", "iv", "msg", "aad", "ct", "tag")
    key, nonce, data, *rest = (bytes.fromhex(t[f]) for f in fields)
    out.append((key, nonce, data if t["result"] == "valid" else None, *rest))
  assert len(out) == 316
  return out


@pytest.mark.vectors
def test_wycheproof_host(gcm_cases, capsys):
  # An empty nonce is refused before a program is made.
  some = [c for c in gcm_cases if c[1]]
  for name in LOADED:
    total = check_in_a_loop(some, libraries.load(name))
    assert total == len(some) > 300
  usual = [
    c for c in gcm_cases if len(c[1]) in (0, 12) and len(c[4]) in (0, 16)
  ]
  assert check_wycheproof(usual, "host") == len(usual) > 100
  with capsys.disabled():
    print(f"\nWycheproof AES-GCM host: {total} cases, 0 failures")


@pytest.mark.vectors
def test_wycheproof_device(gcm_cases, capsys):
  some = [
    c
    for c in gcm_cases
    if len(c[0]) == len(c[4]) == 16 and len(c[1]) in (0, 12) and not c[3]
  ]
  total = check_wycheproof(some, "device")
  assert total == len(some) > 20
  with capsys.disabled():
    print(f"\nWycheproof AES-GCM device: {total} cases, 0 failures")


@pytest.mark.slow
@pytest.mark.vectors
@pytest.mark.parametrize("impl", IMPLS)
def test_wycheproof_in_full(gcm_cases, impl):
  assert check_wycheproof(gcm_cases, impl) == 316


def check_wycheproof(cases, impl):
  total = 0
  for (_, nonce_size, *_), group in by_shape(cases).items():
    memory.free_programs_if_many()  # On the device, two for each shape.
    if nonce_size == 0:  # "An empty nonce" must be refused.
      for key, nonce, data, aad, sealed, tag in group:
        assert data is None
        with pytest.raises(ValueError, match="at least one byte"):
          unseal(key, nonce, sealed, tag, aad, impl)
    else:
      check_open(group, impl)
      valid = [c for c in group if c[2] is not None]
      if valid:
        check_seal(valid, impl)
    total += len(group)
  return total


@pytest.mark.parametrize(
  ("impl", "size"),
  (
    *(("host", n) for n in (0, 1, 15, 16, 17)),
    ("device", 0),
    # A block exactly is in `test_wycheproof_device`, part of one in 17 bytes.
    *(pytest.param("device", n, marks=pytest.mark.slow) for n in (15, 16)),
    ("device", 17),
  ),
)
def test_seals_like_openssl_and_opens(impl, size):
  rng = np.random.default_rng(size)
  key, nonce, data, aad = map(rng.bytes, (16, 12, size, 20))
  sealed, tag = seal(key, nonce, data, aad, impl)
  assert sealed + tag == AESGCM(key).encrypt(nonce, data, aad)
  assert unseal(key, nonce, sealed, tag, aad, impl) == (data, True)


def test_seals_large_data_like_openssl():
  rng = np.random.default_rng(0)
  key, nonce, data = map(rng.bytes, (32, 12, 70_000))
  sealed, tag = seal(key, nonce, data, b"", "auto")
  assert sealed + tag == AESGCM(key).encrypt(nonce, data, None)
  assert unseal(key, nonce, sealed, tag, b"", "auto") == (data, True)


@pytest.mark.parametrize("impl", IMPLS)
def test_any_flipped_bit_returns_zeros_and_a_flag(impl):
  rng = np.random.default_rng(1)
  key, nonce, data, aad = map(rng.bytes, (16, 12, 17, 20))
  parts = [nonce, *seal(key, nonce, data, aad, impl), aad]
  for i, part in enumerate(parts):
    for bit in (0, 8 * len(part) - 1):
      flipped = bytearray(part)
      flipped[bit // 8] ^= 1 << bit % 8
      bad = [*parts[:i], bytes(flipped), *parts[i + 1 :]]
      assert unseal(key, *bad, impl) == (bytes(17), False)
  other = bytes([key[0] ^ 1]) + key[1:]
  assert unseal(other, *parts, impl) == (bytes(17), False)
  assert unseal(key, *parts, impl) == (data, True)


def test_other_arrays_are_refused():
  keys, nonce = aes.expand_key(bytes(16)), jnp.zeros(12, jnp.uint8)
  data = jnp.zeros(4, jnp.uint8)
  with pytest.raises(ValueError, match=r"data is uint32\[4\]"):
    aes.gcm_seal(keys, nonce, data.astype(jnp.uint32), data)
  with pytest.raises(ValueError, match="4 to 16 bytes"):
    aes.gcm_open(keys, nonce, data, data[:3], data)
  with pytest.raises(ValueError, match="at most"):
    jax.eval_shape(
      aes.gcm_seal, keys, nonce, jax.ShapeDtypeStruct((2**36,), jnp.uint8), data
    )


def multiply(x, y):
  """Multiply in GF(2^128), bit by bit (SP 800-38D, algorithm 1)."""
  z = 0
  for i in range(128):
    if x >> (127 - i) & 1:
      z ^= y
    y = (y >> 1) ^ (0xE1 << 120 if y & 1 else 0)
  return z


@settings(max_examples=20, deadline=None)
@given(
  key=st.binary(min_size=16, max_size=16),
  n=st.sampled_from((1, 2, 64, 65, 130)),
  seed=st.integers(0, 2**32),
)
def test_ghash_equals_its_definition(key, n, seed):
  data = np.random.default_rng(seed).bytes(16 * n)
  want = 0
  for i in range(n):
    block = int.from_bytes(data[16 * i :][:16], "big")
    want = multiply(want ^ block, int.from_bytes(key, "big"))
  got = hashed(
    np.frombuffer(key, np.uint32), np.frombuffer(data, np.uint32).reshape(n, 4)
  )
  assert np.asarray(got).tobytes() == want.to_bytes(16, "big")


@jax.jit
def hashed(key, blocks):
  tables = ghash.tables(key, blocks.shape[0])
  return ghash.ghash(tables, blocks[None])[0]
