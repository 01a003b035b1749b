"""AES on blocks: FIPS 197, NIST CAVP and Monte Carlo, both implementations."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from keyjax import aes

IMPLS = ("host", "device")
BITS = (128, 192, 256)
# FIPS 197, appendix C.
PLAIN = "00112233445566778899aabbccddeeff"
CIPHER = {
  128: "69c4e0d86a7b0430d8cdb78070b4c55a",
  192: "dda97ca4864cdfe06eaf70a0ec0d7191",
  256: "8ea2b7ca516745bfeafc49904b496089",
}


def words(data):
  return np.frombuffer(data, ">u4").astype(np.uint32).reshape(-1, 4)


def to_bytes(blocks):
  return np.asarray(blocks).astype(">u4").tobytes()


def ecb(key, data):
  return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(data)


@pytest.mark.vectors
@pytest.mark.parametrize(
  ("bits", "impl"),
  (
    pytest.param(128, "device", marks=pytest.mark.slow),
    *((bits, "host") for bits in BITS),
  ),
)
def test_fips_197_appendix_c(bits, impl):
  # On the device, `test_cavp_ecb` includes all three keys in its programs.
  keys = aes.expand_key(bytes(range(bits // 8)))
  plain, cipher = (
    words(bytes.fromhex(PLAIN)),
    words(bytes.fromhex(CIPHER[bits])),
  )
  np.testing.assert_array_equal(
    aes.encrypt_blocks(keys, plain, impl=impl), cipher
  )
  np.testing.assert_array_equal(
    aes.decrypt_blocks(keys, cipher, impl=impl), plain
  )


@pytest.mark.vectors
def test_fips_197_key_expansion():
  # Appendix A: the last words of each schedule.
  cases = {
    "2b7e151628aed2a6abf7158809cf4f3c": 0xB6630CA6,
    "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b": 0x01002202,
    "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4": (
      0x706C631E
    ),
  }
  for key, last in cases.items():
    assert int(aes.expand_key(bytes.fromhex(key))[-1, -1]) == last


@pytest.mark.parametrize("size", (16, 24, 32))
def test_key_expansion_traced_equals_host_and_maps(size):
  keys = np.random.default_rng(size).integers(0, 256, (3, size), np.uint8)
  host = [aes.expand_key(k.tobytes()) for k in keys]
  traced = jax.jit(jax.vmap(aes.expand_key))(jnp.asarray(keys))
  np.testing.assert_array_equal(traced, np.stack(host))
  np.testing.assert_array_equal(aes.expand_key(keys[0]), host[0])


def test_keys_of_other_sizes_or_types_are_refused():
  with pytest.raises(ValueError, match="16, 24 or 32 bytes"):
    aes.expand_key(bytes(20))
  with pytest.raises(TypeError, match="uint8"):
    aes.expand_key(jnp.zeros(16, jnp.int32))
  with pytest.raises(ValueError, match="impl"):
    aes.encrypt_blocks(
      aes.expand_key(bytes(16)), jnp.zeros((1, 4), jnp.uint32), impl="gpu"
    )


def read_ecb(text, field):
  return [
    bytes.fromhex(x) for x in re.findall(rf"^{field} = (\w+)", text, re.M)
  ]


def check_ecb(keys, plain, cipher, impl):
  """Check all cases of a key size in one call, padded to one length."""
  most = max(map(len, plain))
  schedules = np.stack([aes.expand_key(k) for k in keys])
  for crypt, source, target in (
    (aes.encrypt_blocks, plain, cipher),
    (aes.decrypt_blocks, cipher, plain),
  ):
    blocks = np.stack([words(x.ljust(most, b"\0")) for x in source])
    got = jax.vmap(lambda k, x: crypt(k, x, impl=impl))(schedules, blocks)  # noqa: B023
    for row, want in zip(np.asarray(got), target, strict=True):
      assert to_bytes(row)[: len(want)] == want


@pytest.mark.vectors
@pytest.mark.parametrize(
  ("bits", "impl"),
  [
    # The circuit of another key size takes seconds to compile.
    pytest.param(
      bits,
      impl,
      marks=[pytest.mark.slow] if impl == "device" and bits != 128 else [],
    )
    for bits in BITS
    for impl in IMPLS
  ],
)
def test_cavp_ecb(bits, impl, nist, capsys):
  keys = [bytes(range(bits // 8))]
  plain, cipher = [bytes.fromhex(PLAIN)], [bytes.fromhex(CIPHER[bits])]
  for kind in ("GFSbox", "KeySbox", "VarKey", "VarTxt", "MMT"):
    text = nist(f"ECB/ECB{kind}{bits}.rsp")
    keys += read_ecb(text, "KEY")
    plain += read_ecb(text, "PLAINTEXT")
    cipher += read_ecb(text, "CIPHERTEXT")
  assert len(keys) == len(plain) == len(cipher) > 300
  check_ecb(keys, plain, cipher, impl)
  with capsys.disabled():
    print(
      f"\nCAVP AES-{bits} ECB {impl}: {len(keys)} cases both ways, 0 failures"
    )


def monte_carlo_host(key, block, rounds, inner):
  """Run the Monte Carlo test of AESAVS, section 6.4.1, with OpenSSL."""
  out = []
  for _ in range(rounds):
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    for _ in range(inner):
      before, block = block, encryptor.update(block)
    out.append(block)
    key = np.frombuffer(key, np.uint8)
    mix = np.frombuffer((before + block)[-key.size :], np.uint8)
    key = (key ^ mix).tobytes()
  return out


def monte_carlo(key, block, rounds, inner, impl):
  """Run the same test as one compiled program, key expansions included."""

  def encrypt(state, _):
    schedule, before, block = state
    out = aes.encrypt_blocks(schedule, block[None], impl=impl)[0]
    return (schedule, block, out), None

  def outer(state, _):
    key, block = state
    schedule = aes.expand_key(key)
    (_, before, block), _ = jax.lax.scan(
      encrypt, (schedule, block, block), length=inner
    )
    both = jnp.concatenate([before, block])
    shifts = np.array([[24, 16, 8, 0]], np.uint32)
    mix = (both[:, None] >> shifts).astype(jnp.uint8).reshape(-1)
    return (key ^ mix[32 - key.size :], block), block

  key = jnp.asarray(np.frombuffer(key, np.uint8))
  _, out = jax.jit(lambda k, b: jax.lax.scan(outer, (k, b), length=rounds))(
    key, words(block)[0]
  )
  return [to_bytes(x) for x in np.asarray(out)]


@pytest.mark.vectors
def test_monte_carlo_host_returns_the_first_published_answer():
  # ECBMCT128.rsp of NIST's AESAVS, encrypt, COUNT = 0.
  key = bytes.fromhex("139a35422f1d61de3c91787fe0507afd")
  block = bytes.fromhex("b9145a768b7dc489a096b546f43b231f")
  want = bytes.fromhex("d7c3ffac9031238650901e157364c386")
  assert monte_carlo_host(key, block, 1, 1000) == [want]


@pytest.mark.vectors
@pytest.mark.parametrize(
  "bits",
  (
    # `test_cavp_ecb` and `test_ctr.test_sp_800_38a` have these key sizes.
    pytest.param(128, marks=pytest.mark.slow),
    pytest.param(192, marks=pytest.mark.slow),
    256,
  ),
)
def test_monte_carlo(bits, capsys):
  rng = np.random.default_rng(bits)
  key, block = rng.bytes(bits // 8), rng.bytes(16)
  rounds, inner = 20, 100
  want = monte_carlo_host(key, block, rounds, inner)
  assert monte_carlo(key, block, rounds, inner, "device") == want
  with capsys.disabled():
    print(f"\nMonte Carlo AES-{bits} device: {rounds} x {inner}, 0 failures")


@pytest.mark.slow
@pytest.mark.vectors
@pytest.mark.parametrize("bits", BITS)
def test_monte_carlo_in_full(bits):
  rng = np.random.default_rng(bits)
  key, block = rng.bytes(bits // 8), rng.bytes(16)
  want = monte_carlo_host(key, block, 100, 1000)
  assert monte_carlo(key, block, 100, 1000, "device") == want


@pytest.mark.parametrize("impl", IMPLS)
def test_many_tiles_equal_openssl(impl):
  key = bytes(range(16))
  data = np.random.default_rng(0).bytes(16 * 33_000)
  got = aes.encrypt_blocks(aes.expand_key(key), words(data), impl=impl)
  assert to_bytes(got) == ecb(key, data)
