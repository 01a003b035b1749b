"""The kernel for TPUs, interpreted on a CPU, and where it is used."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from keyjax import aes
from keyjax.aes import tpu
from tests.aes.test_ctr import COUNTER, PLAIN, SP_800_38A

# The counters that follow, in blocks of a tile, carry out of 32, 64 and 128
# bits, or never.
COUNTERS = (
  COUNTER,
  bytes(11) + b"\x01" + b"\xff" * 3 + b"\xf0",
  bytes(7) + b"\x01" + b"\xff" * 7 + b"\xf0",
  b"\xff" * 15 + b"\xf0",
)
# Blocks by key size: more than a tile of the kernel, and a part of one.
SIZES = {16: 8200, 24: 600, 32: 40}


def openssl(key, counter, size):
  mode = modes.CTR(counter)
  return Cipher(algorithms.AES(key), mode).encryptor().update(bytes(size))


# Interpreted, a kernel takes XLA 15 s to compile.
@pytest.mark.slow
@pytest.mark.vectors
@pytest.mark.parametrize(
  ("key", "flat"), list(zip(SP_800_38A, (True, False, True), strict=True))
)
def test_keystream(key, flat):
  raw = bytes.fromhex(key)
  num_blocks = SIZES[len(raw)]
  one = functools.partial(tpu.keystream, num_blocks, True, flat, interpret=True)
  counters = np.stack([np.frombuffer(x, ">u4") for x in COUNTERS])
  got = jax.jit(jax.vmap(one, (None, 0)))(
    aes.expand_key(raw), counters.astype(np.uint32)
  )
  shape = (4 * num_blocks,) if flat else (num_blocks, 4)
  assert got.shape == (len(COUNTERS), *shape)
  for stream, counter in zip(np.asarray(got), COUNTERS, strict=True):
    want = openssl(raw, counter, 16 * num_blocks)
    assert stream.astype(">u4").tobytes() == want
  pad = np.asarray(got[0]).astype(">u4").tobytes()
  cipher = bytes(x ^ y for x, y in zip(PLAIN, pad, strict=False))
  assert cipher.hex() == SP_800_38A[key]


@pytest.mark.slow
def test_blocks():
  keys = aes.expand_key(bytes(range(16)))
  blocks = np.random.default_rng(0).integers(0, 2**32, (8200, 4), np.uint32)
  fn = functools.partial(tpu.encrypt_blocks, interpret=True)
  got = jax.jit(fn)(keys, blocks)
  want = aes.encrypt_blocks(keys, blocks.byteswap())
  np.testing.assert_array_equal(np.asarray(got).byteswap(), want)


KEYS = jax.ShapeDtypeStruct((11, 4), jnp.uint32)
FIRST = jax.ShapeDtypeStruct((4,), jnp.uint32)


def kernels(fn, *args, platform="tpu"):
  """Return the number of kernels in a program lowered for a platform."""
  lowered = jax.jit(fn).trace(*args).lower(lowering_platforms=(platform,))
  return lowered.as_text().count("@tpu_custom_call")


def test_a_tpu_runs_one_kernel_and_a_cpu_none():
  fn = functools.partial(aes.keystream, num_blocks=33)
  assert kernels(fn, KEYS, FIRST) == 1
  assert kernels(fn, KEYS, FIRST, platform="cpu") == 0


def test_a_program_that_xla_divides_runs_the_circuit():
  mesh = Mesh(np.array(jax.devices()[:2]), "x")
  whole = NamedSharding(mesh, PartitionSpec())
  args = [
    jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole)
    for x in (KEYS, FIRST)
  ]
  fn = functools.partial(aes.keystream, num_blocks=33)
  assert kernels(fn, *args) == 0
  leaves = [jax.ShapeDtypeStruct((64,), jnp.uint32)]
  shardings = [NamedSharding(mesh, PartitionSpec("x"))]
  pads = functools.partial(aes.pads, leaves=leaves, shardings=shardings)
  assert kernels(pads, *args) == 1
