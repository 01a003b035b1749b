"""One keystream for a tree: the same bytes under any sharding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from keyjax import aes

IMPLS = ("host", "device")
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute")
KEY = bytes(range(16))
COUNTER = (0, 0, 0, 2**32 - 5)
# Shapes, dtypes and shardings over a mesh of x = 4 and y = 2.
LEAVES = (
  ((8, 6), np.uint32, P("x", "y")),
  ((4, 4, 16), np.uint8, P(None, "x", "y")),
  ((16,), np.uint16, P(("x", "y"))),
  ((3, 5), np.uint16, P()),
  ((8, 3), np.uint8, P("y")),
  ((8, 4), np.uint32, P("y", "x")),
  ((), np.uint32, P()),
  ((1, 7), np.uint8, P()),
)


def leaves():
  rng = np.random.default_rng(0)
  return [
    rng.integers(0, np.iinfo(t).max, shape, t, endpoint=True)
    for shape, t, _ in LEAVES
  ]


def expected():
  """XOR each leaf with OpenSSL's keystream, starting at a new block."""
  counter = b"".join(x.to_bytes(4, "big") for x in COUNTER)
  stream = Cipher(algorithms.AES(KEY), modes.CTR(counter)).encryptor()
  out = []
  for leaf in leaves():
    pad = stream.update(bytes(-(-leaf.nbytes // 16) * 16))[: leaf.nbytes]
    mixed = np.frombuffer(leaf.tobytes(), np.uint8) ^ np.frombuffer(
      pad, np.uint8
    )
    out.append(mixed.view(leaf.dtype).reshape(leaf.shape))
  return out


@pytest.fixture(scope="module")
def inputs():
  return aes.expand_key(KEY), jnp.asarray(np.array(COUNTER, np.uint32))


@pytest.mark.parametrize("impl", IMPLS)
def test_each_leaf_starts_at_a_new_block(inputs, impl):
  locked = aes.xor_words(*inputs, list(map(jnp.asarray, leaves())), impl=impl)
  for got, want in zip(locked, expected(), strict=True):
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("impl", IMPLS)
def test_a_sharded_tree_has_the_same_bytes_and_no_communication(inputs, impl):
  mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("x", "y"))
  shardings = [NamedSharding(mesh, spec) for _, _, spec in LEAVES]
  placed = jax.device_put(leaves(), shardings)
  fn = jax.jit(
    lambda k, c, x: aes.xor_words(k, c, x, shardings=shardings, impl=impl)
  )
  compiled = fn.lower(*inputs, placed).compile()
  assert not any(name in compiled.as_text() for name in COLLECTIVES)
  locked = compiled(*jax.device_put(inputs, NamedSharding(mesh, P())), placed)
  for got, want, sharding in zip(locked, expected(), shardings, strict=True):
    np.testing.assert_array_equal(got, want)
    assert got.sharding.is_equivalent_to(sharding, got.ndim)


def test_leaves_that_cannot_be_encrypted_are_refused(inputs):
  with pytest.raises(
    ValueError, match=r"a leaf is float32\[3\], not of unsigned"
  ):
    aes.xor_words(*inputs, [jnp.zeros(3)])
  huge = jax.ShapeDtypeStruct((2**20, 2**17), jnp.uint8)
  with pytest.raises(ValueError, match="64 GiB"):
    jax.eval_shape(lambda x: aes.xor_words(*inputs, [x]), huge)
  devices = np.array(jax.devices())
  meshes = [Mesh(devices[:4], "x"), Mesh(devices[4:], "x")]
  with pytest.raises(ValueError, match="one mesh"):
    aes.xor_words(
      *inputs,
      [jnp.zeros(4, jnp.uint8)] * 2,
      shardings=[NamedSharding(m, P("x")) for m in meshes],
    )


def test_shards_so_fine_that_the_keystream_would_repeat_are_refused(inputs):
  sharding = NamedSharding(Mesh(np.array(jax.devices()), "x"), P(None, "x"))

  def make(x):
    return aes.pads(*inputs, [x], shardings=[sharding])

  fine = jax.ShapeDtypeStruct((2**28, 8), jnp.uint8)  # 2 GiB, byte by byte.
  assert jax.eval_shape(make, fine)[0].shape == fine.shape
  # Row i + 2^29 would have the keystream of row i.
  finer = jax.ShapeDtypeStruct((2**30, 8), jnp.uint8)
  with pytest.raises(ValueError, match="runs of 1, too many of them"):
    jax.eval_shape(make, finer)
  wide = jax.ShapeDtypeStruct((2**20, 2**14), jnp.uint8)
  assert jax.eval_shape(make, wide)[0].shape == wide.shape


@pytest.mark.parametrize("impl", ("auto", *IMPLS))
def test_in_shard_map_results_vary_with_what_they_depend_on(inputs, impl):
  keys, counter = inputs
  mesh = Mesh(np.array(jax.devices()), ("x",))
  same = jnp.ones(3, jnp.uint32)

  def mix(words, index):
    mixed, alike = aes.xor_words(keys, counter, [words, same], impl=impl)
    own = aes.keystream(keys, counter, 1, index[0], impl=impl)
    blocks = aes.encrypt_blocks(keys, words, impl=impl)
    return mixed, own, blocks, alike

  words = jnp.arange(32, dtype=jnp.uint32).reshape(8, 4)
  index = jnp.arange(8, dtype=jnp.uint32)

  def run(specs):
    mapped = jax.shard_map(mix, mesh=mesh, in_specs=P("x"), out_specs=specs)
    return jax.jit(mapped)(words, index)

  _, own, blocks, alike = run((P("x"), P("x"), P("x"), P()))
  np.testing.assert_array_equal(own, aes.keystream(keys, counter, 8))
  np.testing.assert_array_equal(blocks, aes.encrypt_blocks(keys, words))
  whole = aes.xor_words(keys, counter, [words[:1], same])[1]
  np.testing.assert_array_equal(alike, whole)
  for i in range(3):  # What differs between devices is not taken for equal.
    specs = [P("x"), P("x"), P("x"), P()]
    specs[i] = P()
    with pytest.raises(ValueError, match="out_specs"):
      run(tuple(specs))
