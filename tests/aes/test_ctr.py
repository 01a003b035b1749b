"""Counter mode: standards, OpenSSL, slices, and JAX transformations."""

import functools
import re
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, PartitionSpec

from keyjax import aes
from keyjax.aes import ctr

IMPLS = ("host", "device")
# Bytes of the usual keystream, 33 blocks: more than one lane of 32.
SIZE = 528
# SP 800-38A, appendix F.5: the keys, the counter and the messages.
PLAIN = bytes.fromhex(
  "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
  "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
)
COUNTER = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
SP_800_38A = {
  "2b7e151628aed2a6abf7158809cf4f3c": (
    "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff"
    "5ae4df3edbd5d35e5b4f09020db03eab1e031dda2fbe03d1792170a0f3009cee"
  ),
  "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b": (
    "1abc932417521ca24f2b0459fe7e6e0b090339ec0aa6faefd5ccc2c6f4ce8e94"
    "1e36b26bd1ebc670d1bd1d665620abf74f78a7f6d29809585a97daec58c6b050"
  ),
  "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4": (
    "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
    "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"
  ),
}


def words(data):
  return np.frombuffer(data, ">u4").astype(np.uint32)


def stream(key, counter, size, start=0, impl="auto"):
  """Return bytes of a keystream from KeyJAX."""
  blocks = aes.keystream(
    aes.expand_key(key), words(counter), -(-size // 16), start, impl=impl
  )
  return np.asarray(blocks).astype(">u4").tobytes()[:size]


def openssl(key, counter, size, start=0):
  first = (int.from_bytes(counter, "big") + start) % 2**128
  mode = modes.CTR(first.to_bytes(16, "big"))
  return Cipher(algorithms.AES(key), mode).encryptor().update(bytes(size))


def xor(a, b):
  return bytes(x ^ y for x, y in zip(a, b, strict=True))


@pytest.mark.vectors
@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("key", SP_800_38A)
def test_sp_800_38a(key, impl):
  pad = stream(bytes.fromhex(key), COUNTER, SIZE, impl=impl)
  assert xor(PLAIN, pad[: len(PLAIN)]).hex() == SP_800_38A[key]


@pytest.mark.vectors
@pytest.mark.parametrize("impl", IMPLS)
def test_rfc_3686(impl, nist, capsys):
  count = 0
  for bits in (128, 192, 256):
    text = nist(f"CTR/aes-{bits}-ctr.txt")
    fields = [
      [bytes.fromhex(x) for x in re.findall(rf"^{name} = (\w+)", text, re.M)]
      for name in ("KEY", "IV", "PLAINTEXT", "CIPHERTEXT")
    ]
    for key, iv, plain, cipher in zip(*fields, strict=True):
      pad = stream(key, iv, SIZE, impl=impl)[: len(plain)]
      assert xor(plain, pad) == cipher
      count += 1
  assert count == 9
  with capsys.disabled():
    print(f"\nRFC 3686 AES-CTR {impl}: {count} cases, 0 failures")


# Sizes of keys and keystreams: the cipher compiles for each pair.
SIZES = st.sampled_from(
  (*((16, n) for n in (0, 1, 15, 16, SIZE)), (24, SIZE), (32, SIZE))
)
# Near a carry out of the last word, and out of all 128 bits.
COUNTERS = st.one_of(
  st.binary(min_size=16, max_size=16),
  st.builds(
    lambda high, back: high + (2**32 - back).to_bytes(4, "big"),
    st.sampled_from((bytes(12), b"\xff" * 12, b"\x00" * 11 + b"\x01")),
    st.integers(1, 40),
  ),
)


@pytest.mark.parametrize("impl", IMPLS)
@settings(max_examples=60, deadline=None)
@given(
  sizes=SIZES,
  seed=st.binary(min_size=32, max_size=32),
  counter=COUNTERS,
  start=st.one_of(st.integers(0, 40), st.integers(2**32 - 60, 2**32 - 40)),
)
def test_equals_openssl(impl, sizes, seed, counter, start):
  key, size = seed[: sizes[0]], sizes[1]
  got = stream(key, counter, size, start, impl)
  assert got == openssl(key, counter, size, start)


@pytest.mark.parametrize("impl", IMPLS)
def test_many_tiles(impl):
  key, counter = bytes(range(16)), b"\xff" * 15 + b"\x00"
  assert stream(key, counter, 600_001, 5, impl) == openssl(
    key, counter, 600_001, 5
  )


@pytest.mark.parametrize("impl", IMPLS)
def test_any_slice_can_be_computed_separately(impl):
  key = bytes(16)
  whole = openssl(key, COUNTER, 2 * SIZE)
  for start in (0, 1, 31, 32, 33):
    part = stream(key, COUNTER, SIZE, start, impl)
    assert part == whole[16 * start :][:SIZE]


def test_host_and_device_agree_with_the_default():
  key = bytes(range(32))
  default = stream(key, COUNTER, SIZE)
  assert default == stream(key, COUNTER, SIZE, impl="host")
  assert default == stream(key, COUNTER, SIZE, impl="device")


@pytest.mark.parametrize("impl", IMPLS)
def test_eager_jit_vmap_pmap_and_shard_map_agree(impl):
  devices = np.array(jax.devices())
  n = len(devices)
  schedules = np.stack([aes.expand_key(bytes([i]) * 16) for i in range(n)])
  counters = np.stack([words(bytes([i]) * 16) for i in range(n)])
  size = SIZE // 16
  one = functools.partial(aes.keystream, num_blocks=size, impl=impl)
  eager = np.stack(
    [one(k, c) for k, c in zip(schedules, counters, strict=True)]
  )
  np.testing.assert_array_equal(
    jax.jit(jax.vmap(one))(schedules, counters), eager
  )
  np.testing.assert_array_equal(jax.pmap(one)(schedules, counters), eager)
  # Each shard starts where the previous one ends.
  spec, mesh = PartitionSpec("x"), Mesh(devices, "x")

  @jax.jit
  @functools.partial(
    jax.shard_map, mesh=mesh, in_specs=(PartitionSpec(),) * 2, out_specs=spec
  )
  def sharded(schedule, counter):
    return one(schedule, counter, start=size * jax.lax.axis_index("x"))

  got = sharded(schedules[0], counters[0])
  assert len(got.sharding.device_set) == n
  whole = openssl(bytes(16), bytes(16), SIZE * n)
  assert np.asarray(got).astype(">u4").tobytes() == whole


def test_vmap_over_keys_or_counters_alone():
  schedules = np.stack([aes.expand_key(bytes([i]) * 16) for i in range(3)])
  counters = np.stack([words(bytes([i]) * 16) for i in range(3)])
  for impl in IMPLS:
    one = functools.partial(aes.keystream, num_blocks=SIZE // 16, impl=impl)
    by_key = jax.vmap(one, (0, None))(schedules, counters[1])
    by_counter = jax.vmap(one, (None, 0))(schedules[1], counters)
    np.testing.assert_array_equal(by_key[1], by_counter[1])
    np.testing.assert_array_equal(by_key[2], one(schedules[2], counters[1]))


def test_a_thousand_keys_at_once():
  keys = np.random.default_rng(0).integers(0, 256, (600, 16), np.uint8)
  schedules = jax.jit(jax.vmap(aes.expand_key))(jnp.asarray(keys))
  one = functools.partial(aes.keystream, num_blocks=1, impl="host")
  got = jax.vmap(one, (0, None))(schedules, jnp.zeros(4, jnp.uint32))
  for i in (0, 272, 273, 274, 599):
    want = openssl(keys[i].tobytes(), bytes(16), 16)
    assert np.asarray(got[i]).astype(">u4").tobytes() == want
  # Two axes at once.
  pair = np.stack([words(bytes([i]) * 16) for i in range(2)])
  both = jax.vmap(jax.vmap(one, (None, 0)), (0, None))(schedules[:3], pair)
  np.testing.assert_array_equal(both[2, 1], one(schedules[2], pair[1]))


def test_keystreams_do_not_share_a_buffer():
  keys = [aes.expand_key(bytes([i]) * 16) for i in range(2)]
  zero = jnp.zeros(4, jnp.uint32)
  first, second = (aes.keystream(k, zero, 5000, impl="host") for k in keys)
  for i, got in enumerate((first, second)):
    want = openssl(bytes([i]) * 16, bytes(16), 80_000)
    assert np.asarray(got).astype(">u4").tobytes() == want


def test_the_openssl_command_decrypts(tmp_path):
  program = shutil.which("openssl")
  if program is None:
    pytest.skip("no openssl command on this machine")
  key, plain = bytes(range(32)), b"weights " * 1000
  (tmp_path / "c").write_bytes(xor(plain, stream(key, COUNTER, len(plain))))
  args = ["enc", "-aes-256-ctr", "-d", "-K", key.hex(), "-iv", COUNTER.hex()]
  opened = subprocess.run(
    [program, *args, "-in", str(tmp_path / "c")],
    capture_output=True,
    check=True,
  )
  assert opened.stdout == plain


def test_blocks_of_one_key_and_counter_are_limited():
  keys, counter = aes.expand_key(bytes(16)), jnp.zeros(4, jnp.uint32)
  with pytest.raises(ValueError, match="64 GiB"):
    aes.keystream(keys, counter, 2, start=2**32 - 3)
  with pytest.raises(ValueError, match="64 GiB"):
    aes.keystream(keys, counter, 2**32)
  with pytest.raises(ValueError, match="64 GiB"):
    aes.keystream(keys, counter, 1, start=-1)


def test_other_keys_need_no_compilation():
  for impl in IMPLS:
    stream(bytes(16), COUNTER, SIZE, impl=impl)
    programs = ctr._keystream._cache_size()
    for i in range(1, 3):
      stream(bytes([i]) * 16, bytes([i]) * 16, SIZE, start=i, impl=impl)
    assert ctr._keystream._cache_size() == programs > 0
