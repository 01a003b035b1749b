"""Sealed data: the c2sp vectors, tampering, slices and trees."""

import hashlib
import io
import os
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyjax import seal as s
from keyjax.secrets import Secret
from tests import wycheproof

CHUNK = 1 << 14
IMPLS = ("host", "device")
FLAT = "cannot open: the key or the context is wrong, or the data is damaged"


def cases(bits=128):
  """Yield the cases of Cobblestone-128 or Cobblestone-256."""
  name = f"c2sp_chunked_encryption_aes_{bits}_gcm_test.json"
  for t in wycheproof.cases(name):
    key = bytes.fromhex(t["key"])
    context = bytes.fromhex(t["ctx"])
    yield t, key, zlib.decompress(bytes.fromhex(t["ct"])), context


def matches(t, data):
  digest = hashlib.sha512(data).hexdigest()
  return (len(data), digest) == (t["msgLength"], t["msgSha512"])


@pytest.mark.vectors
@pytest.mark.parametrize("bits", (128, 256))
def test_wycheproof_on_the_host(bits, capsys):
  counts = {"valid": 0, "invalid": 0}
  for t, key, sealed, context in cases(bits):
    if t["result"] == "valid":
      data = s.unseal(key, sealed, context)
      assert matches(t, data)
      assert s.seal(key, data, context, salt=sealed[:24]) == sealed
    else:
      with pytest.raises(s.SealError) as caught:
        s.unseal(key, sealed, context)
      assert str(caught.value) == FLAT
    counts[t["result"]] += 1
  assert counts == {"valid": 10, "invalid": 25}
  with capsys.disabled():
    print(f"\nWycheproof Cobblestone-{bits} host: 35 cases, 0 failures")


@pytest.mark.vectors
@pytest.mark.parametrize("bits", (128, 256))
def test_wycheproof_as_a_stream(bits):
  for t, key, sealed, context in cases(bits):
    out = []
    failed = False
    try:
      reader = s.Reader(key, io.BytesIO(sealed), context)
      out += reader
    except s.SealError:
      failed = True
      for _ in range(2):
        with pytest.raises(s.SealError):
          next(reader)
    assert failed == (t["result"] == "invalid")
    if "PartialPlaintext" in t["flags"] or not failed:
      assert matches(t, b"".join(out))
    else:
      assert not out


def open_in_jit(key, sealed, context, impl):
  """Open with the array functions; return the plaintext or None."""
  try:
    derived = s.seal_key(key, context, salt=sealed[:24])
    data, valid = s.unseal_array(
      derived, jnp.asarray(np.frombuffer(sealed, np.uint8)), impl=impl
    )
  except (s.SealError, ValueError):
    return None
  if not valid:
    assert not np.asarray(data).any()
    return None
  return bytes(np.asarray(data))


@pytest.mark.vectors
@pytest.mark.parametrize(
  "impl", ["host", pytest.param("device", marks=pytest.mark.slow)]
)
def test_wycheproof_inside_jit(impl, capsys):
  total = 0
  for t, key, sealed, context in cases():
    # On the device each size compiles; the long ones are in the slow test.
    if impl == "device" and len(sealed) > 200 and t["tcId"] not in (3, 12):
      continue
    data = open_in_jit(key, sealed, context, impl)
    assert (data is None) == (t["result"] == "invalid")
    assert data is None or matches(t, data)
    total += 1
  assert total == 35 if impl == "host" else total > 15
  with capsys.disabled():
    print(
      f"\nWycheproof chunked encryption in jit, {impl}: {total} cases, "
      "0 failures"
    )


@pytest.mark.slow
@pytest.mark.vectors
def test_wycheproof_inside_jit_in_full():
  for t, key, sealed, context in cases():
    data = open_in_jit(key, sealed, context, "device")
    assert (data is None) == (t["result"] == "invalid")
    assert data is None or matches(t, data)


SIZES = (0, 1, 15, 16, 17, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 100_000)


@pytest.mark.parametrize(
  ("size", "n"), (*((32, n) for n in SIZES), (16, 17), (16, CHUNK + 1))
)
def test_bytes_and_arrays_agree(size, n):
  rng = np.random.default_rng(n)
  key = rng.bytes(size)
  data = rng.bytes(n)
  salt = rng.bytes(24)
  sealed = s.seal(key, data, b"here", salt=salt)
  assert len(sealed) == s.size_of_sealed(n)
  assert s.size_of_plain(len(sealed)) == n
  assert s.unseal(key, sealed, b"here") == data
  array = jnp.asarray(np.frombuffer(data, np.uint8))
  derived = s.seal_key(key, b"here", salt=salt)
  assert bytes(np.asarray(s.seal_array(derived, array))) == sealed
  assert open_in_jit(key, sealed, b"here", "auto") == data


# Messages of one chunk are in `test_wycheproof_inside_jit`, and sealed on a
# device in tests/checkpoint/test_save_and_restore.py.
@pytest.mark.parametrize(
  "n", (pytest.param(CHUNK - 1, marks=pytest.mark.slow), CHUNK + 1)
)
def test_the_device_seals_the_same_bytes(n):
  rng = np.random.default_rng(n)
  key = rng.bytes(32)
  data = rng.bytes(n)
  salt = rng.bytes(24)
  array = jnp.asarray(np.frombuffer(data, np.uint8))
  got = s.seal_array(s.seal_key(key, salt=salt), array, impl="device")
  assert bytes(np.asarray(got)) == s.seal(key, data, salt=salt)


def damaged(sealed):
  """Yield what an attacker can make of a message of three chunks."""
  step = CHUNK + 16
  chunks = [sealed[56 + i * step : 56 + (i + 1) * step] for i in range(3)]
  header = sealed[:56]
  for bit in (
    0,
    23 * 8,
    24 * 8,
    56 * 8,
    (56 + step) * 8 + 5,
    len(sealed) * 8 - 1,
  ):
    flipped = bytearray(sealed)
    flipped[bit // 8] ^= 1 << bit % 8
    yield "flipped", bytes(flipped)
  yield "swapped", header + chunks[1] + chunks[0] + chunks[2]
  yield "repeated", header + chunks[0] + chunks[0] + chunks[2]
  yield "dropped", header + chunks[1] + chunks[2]
  yield "no last chunk", header + chunks[0] + chunks[1]
  yield "cut", sealed[:-1]
  yield "cut in a tag", header + chunks[0] + chunks[1][:-1]
  yield "longer", sealed + b"\0"
  yield "two ends", sealed + chunks[2]
  yield "empty", b""
  yield "header", header
  yield "short header", header[:-1]


@pytest.fixture(scope="module")
def message():
  rng = np.random.default_rng(3)
  key = rng.bytes(32)
  data = rng.bytes(2 * CHUNK + 100)
  return key, data, s.seal(key, data, b"ctx")


def test_all_damage_gives_the_same_error(message):
  key, data, sealed = message
  assert s.unseal(key, sealed, b"ctx") == data
  assert open_in_jit(key, sealed, b"ctx", "host") == data
  for name, bad in damaged(sealed):
    with pytest.raises(s.SealError) as caught:
      s.unseal(key, bad, b"ctx")
    assert str(caught.value) == FLAT, name
    assert caught.value.__cause__ is None
    assert open_in_jit(key, bad, b"ctx", "host") is None, name


def test_flips_and_swaps_give_zeros_on_the_device(message):
  key, data, sealed = message
  assert open_in_jit(key, sealed, b"ctx", "device") == data
  for name, bad in damaged(sealed):
    if len(bad) == len(sealed):
      assert open_in_jit(key, bad, b"ctx", "device") is None, name


def test_a_wrong_key_context_or_size_gives_the_same_error(message):
  key, _, sealed = message
  other = bytes([key[0] ^ 1]) + key[1:]
  for k, c in (
    (other, b"ctx"),
    (key, b"ctX"),
    (key, b""),
    (key[:16], b"ctx"),
    (key[:31], b"ctx"),
    (b"", b"ctx"),
  ):
    with pytest.raises(s.SealError) as caught:
      s.unseal(k, sealed, c)
    assert str(caught.value) == FLAT
  for k in (key[:15], key + b"\0"):
    with pytest.raises(ValueError, match="16 or 32 bytes"):
      s.seal(k, b"")
  with pytest.raises(ValueError, match="24 bytes"):
    s.seal(key, b"", salt=bytes(23))
  with pytest.raises(ValueError, match="2\\^38 chunks"):
    s.size_of_sealed(2**52)


def test_many_programs_at_once_do_not_wait_for_each_other():
  # A callback with a large argument could wait for threads that wait for it.
  # Twice as many programs as devices are in flight.
  n = len(jax.devices())
  rng = np.random.default_rng(0)
  data = jnp.asarray(rng.integers(0, 256, (n, 40 * CHUNK), np.uint8))
  keys = [s.seal_key(bytes([i]) * 16, salt=bytes(24)) for i in range(n)]
  stacked = jax.tree.map(lambda *x: np.stack(x), *keys)
  run = jax.pmap(lambda k, x: s.seal_array(k, x, impl="host"))
  first = run(stacked, data)
  second = run(stacked, data[::-1])
  want = s.seal(bytes([3]) * 16, bytes(np.asarray(data[3])), salt=bytes(24))
  assert bytes(np.asarray(first[3])) == want
  assert s.unseal(bytes(16), bytes(np.asarray(second[0]))) == bytes(
    np.asarray(data[-1])
  )


def test_a_chunk_of_another_message_does_not_fit(message):
  key, data, sealed = message
  other = s.seal(key, data, b"ctx")
  assert other != sealed
  with pytest.raises(s.SealError):
    s.unseal(key, sealed[:56] + other[56:], b"ctx")


@settings(max_examples=60, deadline=None)
@given(a=st.integers(0, 2 * CHUNK + 100), b=st.integers(0, 2 * CHUNK + 100))
def test_any_slice_opens_alone(message, a, b):
  key, data, sealed = message
  start = min(a, b)
  stop = max(a, b)
  got = s.unseal(key, sealed, b"ctx", start=start, stop=stop)
  assert got == data[start:stop]


def test_a_slice_needs_only_its_own_chunks(message):
  key, data, sealed = message
  bad = sealed[:-1] + bytes([sealed[-1] ^ 1])
  assert s.unseal(key, bad, b"ctx", start=5, stop=CHUNK) == data[5:CHUNK]
  with pytest.raises(s.SealError):
    s.unseal(key, bad, b"ctx", start=CHUNK, stop=len(data))
  with pytest.raises(s.SealError):
    s.unseal(key, bad, b"ctx", start=len(data), stop=len(data))
  with pytest.raises(ValueError, match="of a message of"):
    s.unseal(key, sealed, b"ctx", start=0, stop=len(data) + 1)


def test_a_finished_reader_stays_finished(message):
  key, data, sealed = message
  reader = s.Reader(key, io.BytesIO(sealed), b"ctx")
  assert b"".join(reader) == data
  assert list(reader) == []


@pytest.fixture
def params():
  return {
    "dense": {"kernel": jnp.arange(12, dtype=jnp.float32).reshape(3, 4)},
    "scale": jnp.ones((5,), jnp.bfloat16),
    "steps": np.int64(7),
    "on": np.array([True, False]),
    "none": jnp.zeros((0, 2)),
  }


def test_a_tree_is_restored_bit_for_bit(params):
  secret = Secret.generate()
  sealed = s.seal_tree(secret, params, b"step 1")
  assert jax.tree.structure(sealed) == jax.tree.structure(params)
  shapes = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params
  ) | {"steps": params["steps"]}
  for like in (params, shapes):
    back = s.unseal_tree(secret, sealed, like, b"step 1")
    for a, b in zip(
      jax.tree.leaves(back), jax.tree.leaves(params), strict=True
    ):
      assert a.dtype == b.dtype
      np.testing.assert_array_equal(a, b)


def test_a_tree_opens_only_as_it_was(params):
  secret = Secret.generate()
  sealed = s.seal_tree(secret, params, b"step 1")
  wrong_shape = params | {"scale": jnp.ones((1, 5), jnp.bfloat16)}
  wrong_dtype = params | {"scale": jnp.ones((5,), jnp.float16)}
  swapped = sealed | {"on": sealed["scale"], "scale": sealed["on"]}
  missing = {k: v for k, v in sealed.items() if k != "on"}
  for who, tree, like, context in (
    (Secret.generate(), sealed, params, b"step 1"),
    (secret, sealed, params, b"step 2"),
    (secret, sealed, wrong_shape, b"step 1"),
    (secret, sealed, wrong_dtype, b"step 1"),
    (secret, swapped, params, b"step 1"),
    (secret, missing, params, b"step 1"),
  ):
    with pytest.raises(s.SealError):
      s.unseal_tree(who, tree, like, context)


@pytest.mark.parametrize("context", [b"", b"step 1"])
def test_a_tree_accepts_no_leaf_of_another_tree(context):
  secret = Secret.generate()
  old, new = (
    s.seal_tree(secret, {"a": np.full(3, n), "b": np.full(3, n)}, context)
    for n in (1, 2)
  )
  like = {"a": np.zeros(3, int), "b": np.zeros(3, int)}
  for mixed in (new | {"a": old["a"]}, new | {"b": old["b"]}):
    with pytest.raises(s.SealError):
      s.unseal_tree(secret, mixed, like, context)
  # One salt for all leaves, and no two keystreams.
  assert len({bytes(x[:24]) for x in new.values()}) == 1
  assert len({bytes(x[24:]) for x in new.values()}) == 2
  with pytest.raises(s.SealError):  # A tree of one leaf is no leaf.
    only = s.seal_tree(secret, {"a": np.full(3, 1)}, context)
    s.unseal_tree(secret, new | only, like, context)


def test_trees_of_earlier_releases_open():
  secret = Secret.generate()
  key = secret.derive("seal/cobblestone-256", 32)
  for tree in ({"w": np.arange(3)}, {"v": np.ones(2), "w": np.arange(3)}):
    sealed = {
      name: np.frombuffer(
        s.seal(key, x.data, bytes(8) + f"{name}|{x.dtype}|{x.shape}".encode()),
        np.uint8,
      )
      for name, x in tree.items()
    }
    back = s.unseal_tree(secret, sealed, tree)
    for name, x in tree.items():
      np.testing.assert_array_equal(back[name], x)


def test_a_tree_of_prng_keys_is_refused():
  with pytest.raises(TypeError, match="rng"):
    s.seal_tree(Secret.generate(), {"rng": jax.random.key(0)})


def test_a_key_does_not_show_itself():
  key = os.urandom(32)
  text = repr(s.seal_key(key))
  assert "not shown" in text and "Array" not in text


def test_buffers_and_indices_that_no_message_has():
  key = os.urandom(32)
  message = memoryview(s.seal(key, bytes(CHUNK)))
  opener = s.Opener(key, message[: s.HEADER_BYTES])
  chunks = message[s.HEADER_BYTES :]
  for size in (0, CHUNK - 1, CHUNK + 1, 2 * CHUNK):
    with pytest.raises(s.SealError):
      opener.open_into(0, chunks, bytearray(size))
  opener.open_into(0, chunks, bytearray(CHUNK))
  for index in (-1, 2**38):
    with pytest.raises(ValueError, match=r"a message has chunks 0 to 2\^38"):
      opener.open_chunk(index, chunks)
