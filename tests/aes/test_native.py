"""The compiled cipher: every size, vmap, threads, other buffers."""

import os
import shutil
import subprocess
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keyjax import aes
from keyjax.aes import library as libraries
from keyjax.aes import native
from keyjax.aes.substitution import SBOX
from keyjax.schemes.deep_lock import key_schedule
from tests.aes import frames

# Both forms of the cipher, if this processor can run them.
LOADED = [name for name in libraries.LIBRARIES if libraries.load(name)]
CHUNK = 1 << 14
GROUP = 512  # Bytes that the wide form processes at once.
TYPES = (
  "PRED S8 U8 U16 U32 F16 F32 BF16 F8E5M2 F8E4M3FN F8E4M3B11FNUZ F8E5M2FNUZ "
  "F8E4M3FNUZ F8E4M3 F8E3M4 F8E8M0FNU"
)
SIZES = (0, 1, 15, 16, 17, 127, 128, 129, 511, 512, 513, 1040, 5000)


@pytest.fixture(params=LOADED)
def library(request):
  return libraries.load(request.param)


def octets(data):
  return np.frombuffer(bytes(data), np.uint8)


def expand(key):
  return np.asarray(aes.expand_key(key))


def words(block):
  return np.frombuffer(block, ">u4").astype(np.uint32)


def encryptor(key, mode):
  return Cipher(algorithms.AES(key), mode).encryptor()


def run(library, name, args, results):
  assert frames.call(library, name, args, results) is None
  return results


def test_this_machine_has_a_compiled_cipher():
  if shutil.which("cc") is None:
    pytest.skip("no C compiler")
  assert native.available() == (os.environ.get("KEYJAX_NATIVE") != "0")


def test_handlers_declare_their_version(library):
  for name in native.NAMES:
    assert frames.version(library, name) == (0, 3)


def test_the_interface_is_that_of_jaxlib(tmp_path):
  if shutil.which("cc") is None:
    pytest.skip("no C compiler")
  ours = {
    "Version": "XLA_FFI_Api_Version: major_version minor_version",
    "Metadata": "XLA_FFI_Metadata: api_version",
    "Extension": "XLA_FFI_Metadata_Extension: metadata",
    "ErrorArgs": "XLA_FFI_Error_Create_Args: message code/errc",
    "ErrorDestroyArgs": "XLA_FFI_Error_Destroy_Args: error",
    "PoolSizeArgs": "XLA_FFI_ThreadPool_NumThreads_Args: threads/num_threads",
    "PoolArgs": "XLA_FFI_ThreadPool_Schedule_Args: context/ctx task data",
    "Api": "XLA_FFI_Api: api_version error_create/XLA_FFI_Error_Create "
    "error_destroy/XLA_FFI_Error_Destroy "
    "pool_schedule/XLA_FFI_ThreadPool_Schedule "
    "pool_size/XLA_FFI_ThreadPool_NumThreads",
    "Buffer": "XLA_FFI_Buffer: dtype data rank dims",
    "Buffers": "XLA_FFI_Args: size types items/args",
    "Frame": "XLA_FFI_CallFrame: extension_start api stage args rets",
  }
  lines = ["#include <xla/ffi/api/c_api.h>", '#include "xla.h"']
  for name, line in ours.items():
    theirs, fields = line.split(": ")
    for field in fields.split():
      mine, _, other = field.partition("/")
      a, b = f"{name}, {mine}", f"{theirs}, {other or mine}"
      lines.append(f'_Static_assert(offsetof({a}) == offsetof({b}), "{a}");')
  for name, value in (
    ("EXTENSION_METADATA", "XLA_FFI_Extension_Metadata"),
    ("STAGE_EXECUTE", "XLA_FFI_ExecutionStage_EXECUTE"),
    ("CODE_INTERNAL", "XLA_FFI_Error_Code_INTERNAL"),
    ("API_MAJOR", "XLA_FFI_API_MAJOR"),
    *((f"TYPE_{x}", f"XLA_FFI_DataType_{x}") for x in TYPES.split()),
  ):
    lines.append(f'_Static_assert((int){name} == (int){value}, "{name}");')
  source = tmp_path / "check.c"
  source.write_text("\n".join(lines) + "\n")
  folders = [f"-I{jax.ffi.include_dir()}", f"-I{libraries.FOLDER}"]
  command = ["cc", "-std=c11", "-fsyntax-only", *folders, str(source)]
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("key_size", (16, 24, 32))
def test_counter_mode_of_every_size(library, key_size):
  rng = np.random.default_rng(key_size)
  key = rng.bytes(key_size)
  keys = expand(key)
  # The counter wraps around in each word, inside a group and at its end.
  for high in (bytes(8), b"\xff" * 8):
    for low in (0, 2**32 - 3, 2**64 - 32, 2**64 - 9, 2**64 - 1):
      counter = high + low.to_bytes(8, "big")
      whole = encryptor(key, modes.CTR(counter)).update(bytes(4 * GROUP))
      for size in (16, GROUP - 16, GROUP, 3 * GROUP + 48):
        out = np.zeros((size // 16, 4), np.uint32)
        for name, dtype in (("", "<u4"), ("_swapped", ">u4")):
          run(library, f"keyjax_keystream{name}", [keys, words(counter)], [out])
          assert out.astype(dtype).tobytes() == whole[:size]
  counter = words(bytes(12) + b"\xff\xff\xff\xfe")
  stream = encryptor(key, modes.CTR(counter.astype(">u4").tobytes()))
  leaves = [octets(rng.bytes(size)) for size in SIZES]
  made = [np.zeros_like(x) for x in leaves]
  run(library, "keyjax_xor", [keys, counter, *leaves], made)
  for x, got in zip(leaves, made, strict=True):
    assert got.tobytes() == stream.update(x.tobytes())
    stream.update(bytes(-x.size % 16))


def test_leaves_of_every_size_through_the_s_box(library):
  rng = np.random.default_rng(1)
  key, counter = rng.bytes(16), words(bytes(12) + b"\xff\xff\xff\xfe")
  stream = encryptor(key, modes.CTR(counter.astype(">u4").tobytes()))
  # float32 leaves take words like any other.
  leaves = [octets(rng.bytes(4 * size)).view(np.float32) for size in SIZES]
  locked = [np.zeros(x.shape, np.uint32) for x in leaves]
  run(library, "keyjax_counter_lock", [expand(key), counter, *leaves], locked)
  for x, got in zip(leaves, locked, strict=True):
    pad = octets(stream.update(x.tobytes()))
    assert got.tobytes() == SBOX[pad].tobytes()
    stream.update(bytes(-x.nbytes % 16))
  opened = [np.zeros_like(x) for x in leaves]
  run(library, "keyjax_counter_unlock", [expand(key), counter, *locked], opened)
  for x, got in zip(leaves, opened, strict=True):
    assert got.tobytes() == x.tobytes()


@pytest.mark.parametrize("length", (4, 8))
@pytest.mark.parametrize("dtype", (np.uint8, np.uint16, np.uint32))
def test_leaves_under_a_schedule_that_goes_on(library, length, dtype):
  rng = np.random.default_rng(length)
  master = rng.integers(0, 2**32, length, np.uint32)
  leaves = [octets(rng.bytes(4 * n)).view(dtype)[n % 3 :] for n in SIZES]
  taken = [-(-x.nbytes // 4) for x in leaves]
  chain = key_schedule(jnp.asarray(master), -(-sum(taken) // length))
  stream = iter(np.asarray(chain).reshape(-1))
  locked = [np.zeros_like(x) for x in leaves]
  run(library, "keyjax_chain_lock", [master[None], *leaves], locked)
  for x, count, got in zip(leaves, taken, locked, strict=True):
    own = np.array([next(stream) for _ in range(count)], ">u4")
    # The first parameter of a word has its high bits.
    pad = own.view(np.dtype(dtype).newbyteorder(">")).astype(dtype)
    mixed = x ^ pad[: x.size]
    assert got.tobytes() == SBOX[mixed.view(np.uint8)].tobytes()
  opened = [np.zeros_like(x) for x in leaves]
  run(library, "keyjax_chain_unlock", [master[None], *locked], opened)
  for x, got in zip(leaves, opened, strict=True):
    np.testing.assert_array_equal(got, x)


@pytest.mark.parametrize("key_size", (16, 24, 32))
def test_blocks_of_every_number(library, key_size):
  rng = np.random.default_rng(key_size)
  key = rng.bytes(key_size)
  for n in (0, 1, 7, 8, 9, 31, 32, 33, 100):
    blocks = np.frombuffer(rng.bytes(16 * n), np.uint32).reshape(n, 4)
    sealed, opened = np.zeros_like(blocks), np.zeros_like(blocks)
    run(library, "keyjax_ecb_encrypt", [expand(key), blocks], [sealed])
    want = encryptor(key, modes.ECB()).update(blocks.tobytes())
    assert sealed.tobytes() == want
    run(library, "keyjax_ecb_decrypt", [expand(key), sealed], [opened])
    assert opened.tobytes() == blocks.tobytes()


@pytest.mark.parametrize("key_size", (16, 24, 32))
def test_gcm_of_every_size(library, key_size):
  rng = np.random.default_rng(key_size)
  key = rng.bytes(key_size)
  for size in SIZES:
    for nonce_size, aad_size in ((12, 0), (12, size), (8, 1), (128, 20)):
      parts = map(rng.bytes, (nonce_size, size, aad_size))
      nonce, data, aad = parts
      out, tag = np.ones(size, np.uint8), np.zeros(16, np.uint8)
      args = [expand(key), octets(nonce), octets(data), octets(aad)]
      run(library, "keyjax_gcm_seal", args, [out, tag])
      want = AESGCM(key).encrypt(nonce, data, aad)
      assert out.tobytes() + tag.tobytes() == want
      opened, valid = np.ones(size, np.uint8), np.zeros((), np.bool_)
      args = [*args[:2], out, tag, octets(aad)]
      run(library, "keyjax_gcm_open", args, [opened, valid])
      assert valid and opened.tobytes() == data


@pytest.mark.parametrize("chunks", (0, 1, 2))
def test_any_altered_chunk_is_refused(library, chunks):
  rng = np.random.default_rng(chunks)
  keys, base = expand(rng.bytes(32)), octets(rng.bytes(12))
  data = octets(rng.bytes(chunks * (1 << 14) + 600))
  size = data.size + 16 * (chunks + 1)
  sealed = np.zeros(size, np.uint8)
  empty = np.zeros(0, np.uint8)
  run(library, "keyjax_chunks_seal", [keys, base, data, empty], [sealed])
  for at in (None, 0, size // 2, size - 1):
    altered = sealed.copy()
    if at is not None:
      altered[at] ^= 128
    out, valid = np.ones_like(data), np.ones((), np.bool_)
    run(library, "keyjax_chunks_open", [keys, base, altered], [out, valid])
    assert valid == (at is None)
    assert out.tobytes() == (data if at is None else 0 * data).tobytes()


def in_line(task):
  task()
  return True


def in_threads(task):
  threading.Thread(target=task).start()
  return True


def refused(task):
  return False


class Late:
  """A pool whose threads begin when the call is over."""

  def __init__(self):
    self.tasks = []

  def __call__(self, task):
    self.tasks.append(task)
    return True


@pytest.mark.parametrize("pool", (in_line, in_threads, refused, Late))
def test_large_calls_are_divided_among_threads(library, pool):
  pool = Late() if pool is Late else pool
  rng = np.random.default_rng(0)
  key, counter = rng.bytes(16), b"\xff" * 14 + b"\x00\x07"
  keys, first = expand(key), words(counter)
  data = octets(rng.bytes((5 << 19) + 24))  # Slices of 1 MiB.
  out = np.zeros_like(data)
  leaves, results = [data[:40], data], [out[:40].copy(), out]
  args = [keys, first, *leaves]
  assert not frames.call(library, "keyjax_xor", args, results, pool=pool)
  stream = encryptor(key, modes.CTR(counter))
  assert results[0].tobytes() == stream.update(data[:40].tobytes())
  stream.update(bytes(8))
  assert out.tobytes() == stream.update(data.tobytes())

  base, header = octets(rng.bytes(12)), octets(b"header")
  chunks = data.size // CHUNK + 1
  sealed = np.zeros(data.size + 16 * chunks + 6, np.uint8)
  args = [keys, base, data, header]
  assert not frames.call(
    library, "keyjax_chunks_seal", args, [sealed], pool=pool
  )
  for i in (0, 64, chunks - 1):  # Also the first chunk of a slice.
    nonce = bytes(base[:8]) + bytes(base[8:] ^ octets(i.to_bytes(4, "big")))
    want = AESGCM(key).encrypt(nonce, data[i * CHUNK : (i + 1) * CHUNK], None)
    assert sealed[6 + i * (CHUNK + 16) :][: len(want)].tobytes() == want
  for at in (None, 0, 100 * CHUNK, -1):
    altered = sealed[6:].copy()
    if at is not None:
      altered[at] ^= 1
    opened, valid = np.ones_like(data), np.ones((), np.bool_)
    args, made = [keys, base, altered], [opened, valid]
    assert not frames.call(library, "keyjax_chunks_open", args, made, pool=pool)
    assert valid == (at is None)
    assert (opened == (data if at is None else 0)).all()
  for task in getattr(pool, "tasks", ()):
    task()  # It finds nothing to do, and the last one frees what they shared.


def test_axes_of_vmap_are_mapped_in_either_argument(library):
  rng = np.random.default_rng(0)
  keys = np.stack([expand(rng.bytes(16)) for _ in range(3)])[:, None]
  counters = rng.integers(0, 2**32, (1, 2, 4), np.uint32)
  out = np.zeros((3, 2, 40, 4), np.uint32)
  run(library, "keyjax_keystream", [keys, counters], [out])
  for i in range(3):
    for j in range(2):
      one = np.zeros((40, 4), np.uint32)
      args = [keys[i, 0], counters[0, j]]
      run(library, "keyjax_keystream", args, [one])
      np.testing.assert_array_equal(out[i, j], one)
  none = np.zeros((0, 2, 40, 4), np.uint32)
  run(library, "keyjax_keystream", [keys[:0], counters], [none])


def test_other_buffers_are_errors_and_change_nothing(library):
  keys, nonce = expand(bytes(16)), np.zeros(12, np.uint8)
  data, tag = np.zeros(40, np.uint8), np.zeros(16, np.uint8)
  flag, empty = np.zeros((), np.bool_), np.zeros(0, np.uint8)
  good = [keys, nonce, data, tag, empty]
  many = np.zeros(1 << 16, np.uint8)
  floats = np.zeros(40, np.float32)
  no_end = many[: (1 << 14) + 16]  # A full chunk is never the last one.
  for i, wrong in (
    (0, keys[:-1]),
    (0, keys.astype(np.float32)),
    (0, keys[0]),
    (1, empty),
    (2, data[:-1]),
    (2, np.zeros((2, 20), np.float32)),
    (3, tag[:3]),
    (3, np.zeros(17, np.uint8)),
  ):
    out, valid = np.full(40, 7, np.uint8), flag.copy()
    args = [*good[:i], wrong, *good[i + 1 :]]
    assert frames.call(library, "keyjax_gcm_open", args, [out, valid])
    assert (out == 7).all() and not valid
  for name, args, results in (
    ("keyjax_gcm_open", good[:-1], [data, flag]),
    ("keyjax_gcm_open", good, [data]),
    ("keyjax_gcm_open", [], [data, flag]),
    ("keyjax_gcm_open", good, []),
    ("keyjax_chunks_open", [keys, nonce, data], [data, flag]),
    ("keyjax_chunks_open", [keys, nonce[:11], data], [data[:24], flag]),
    (
      "keyjax_chunks_open",
      [keys, nonce, no_end],
      [many[: (1 << 14) - 16], flag],
    ),
    ("keyjax_chunks_seal", [keys, nonce, data, tag], [data]),
    ("keyjax_xor", [keys, words(bytes(16)), data], [data[1:]]),
    ("keyjax_xor", [keys, words(bytes(16)), data, data], [data]),
    ("keyjax_xor", [keys, words(bytes(16)), floats], [floats]),
    ("keyjax_counter_lock", [keys, floats[:4], floats], [floats]),
    ("keyjax_counter_lock", [keys, words(bytes(16)), floats], [data]),
    ("keyjax_chain_lock", [keys[:1], floats, floats], [floats]),
    ("keyjax_chain_lock", [keys, floats], [floats]),
    ("keyjax_chain_lock", [floats[None, :4], floats], [floats]),
    ("keyjax_ecb_encrypt", [keys, data], [data]),
    ("keyjax_keystream", [keys, words(bytes(12))], [keys]),
    ("keyjax_keystream", [keys[None][[0, 0]], keys[None, 0]], [keys[None]]),
  ):
    assert frames.call(library, name, args, results), name


def test_other_stages_do_nothing(library):
  keys, out = expand(bytes(16)), np.full((2, 4), 7, np.uint32)
  args = [keys, words(bytes(16))]
  for stage in (0, 1, 2):
    assert frames.call(library, "keyjax_keystream", args, [out], stage) is None
  assert (out == 7).all()


def test_an_error_reaches_the_caller_of_a_program():
  keys, counter = aes.expand_key(bytes(16)), jnp.zeros(4, jnp.uint32)
  out = [jax.ShapeDtypeStruct((2, 4), jnp.uint32)]

  @jax.jit
  def fails(keys, counter):
    return native.call("keyjax_keystream", out, keys, counter)[0]

  with pytest.raises(jax.errors.JaxRuntimeError, match="sizes do not match"):
    jax.block_until_ready(fails(keys[:-1], counter))
  assert fails(keys, counter).shape == (2, 4)  # Later calls work.


def test_large_results_on_every_device_at_once():
  n = jax.local_device_count()
  counters = jnp.arange(4 * n, dtype=jnp.uint32).reshape(n, 4)
  keys = jnp.stack([aes.expand_key(bytes(16))] * n)
  x = jnp.ones((n, 1 << 20), jnp.uint32)
  out = jax.pmap(lambda k, c, x: aes.xor_words(k, c, [x])[0])(keys, counters, x)
  for i in (0, n - 1):
    want = aes.keystream(keys[i], counters[i], 1 << 18, impl="host")
    want = np.asarray(want).byteswap().reshape(-1) ^ 1
    np.testing.assert_array_equal(out[i], want)
