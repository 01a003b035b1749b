"""The chunks of one message on the host, by the compiled cipher or by OpenSSL.

The compiled cipher takes many chunks in one call, without Python's lock, and
long messages on several threads; OpenSSL takes them one at a time.
"""

import os
import threading
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keyjax.aes import library
from keyjax.errors import SealError
from keyjax.seal.format import (
  CHUNK_BYTES,
  SEALED_CHUNK_BYTES,
  chunk_nonce,
)

_CHUNKS_PER_THREAD = 64  # At least: 1 MiB, a few times the start of a thread.


class ChunkCipher(Protocol):
  """The cipher of one message: its key and base nonce."""

  def seal(self, plain: memoryview, out: memoryview) -> None:
    """Seal a whole message's plaintext into its chunks, tags included."""

  def open(self, first: int, chunks: memoryview, out: memoryview) -> None:
    """Open consecutive chunks into a buffer of the size of what they hold.

    Raises:
      SealError: If a chunk is damaged, or has another index; the buffer is not
        to be used then.
    """


def chunk_cipher(key: bytes, base_nonce: bytes) -> ChunkCipher:
  """Return the cipher of a message, the compiled one if there is one."""
  kind = OpenSSL if library.find() is None else Compiled
  return kind(key, base_nonce)


class OpenSSL:
  """Chunks one at a time."""

  def __init__(self, key: bytes, base_nonce: bytes):
    self._cipher = AESGCM(key)
    self._base_nonce = base_nonce

  def seal(self, plain: memoryview, out: memoryview) -> None:
    """See `ChunkCipher`."""
    for i in range(len(plain) // CHUNK_BYTES + 1):
      nonce = chunk_nonce(self._base_nonce, i)
      self._cipher.encrypt_into(nonce, _plain(plain, i), None, _sealed(out, i))

  def open(self, first: int, chunks: memoryview, out: memoryview) -> None:
    """See `ChunkCipher`."""
    for i in range(count_chunks(chunks)):
      nonce = chunk_nonce(self._base_nonce, first + i)
      try:
        self._cipher.decrypt_into(
          nonce, _sealed(chunks, i), None, _plain(out, i)
        )
      except (InvalidTag, ValueError):
        raise SealError from None


class Compiled:
  """Many chunks in one call; long messages on several threads.

  A single chunk is left to OpenSSL: a call of the library costs more than it,
  and lets other threads of Python in between.
  """

  def __init__(self, key: bytes, base_nonce: bytes):
    self._key = key
    self._base_nonce = base_nonce

  def __reduce_ex__(self, protocol: Any) -> NoReturn:
    raise TypeError("the cipher of a message is not pickled: it holds a key")

  def seal(self, plain: memoryview, out: memoryview) -> None:
    """See `ChunkCipher`."""
    count = len(plain) // CHUNK_BYTES + 1
    if count == 1:
      OpenSSL(self._key, self._base_nonce).seal(plain, out)
    elif not self._run("keyjax_seal_on_host", 0, count, plain, out):
      raise RuntimeError("the compiled cipher did not seal every chunk")

  def open(self, first: int, chunks: memoryview, out: memoryview) -> None:
    """See `ChunkCipher`."""
    count = count_chunks(chunks)
    if count == 1:
      OpenSSL(self._key, self._base_nonce).open(first, chunks, out)
    elif not self._run("keyjax_open_on_host", first, count, out, chunks):
      raise SealError

  def _run(
    self,
    name: str,
    first: int,
    count: int,
    plain: memoryview,
    sealed: memoryview,
  ) -> bool:
    """Call a function of the library; return whether all chunks succeeded."""
    function = getattr(library.find(), name)
    data, chunks = _array(plain), _array(sealed)
    head = (self._key, len(self._key), self._base_nonce)

    def some(start: int, stop: int) -> bool:
      held = data[start * CHUNK_BYTES : stop * CHUNK_BYTES]
      at = chunks.ctypes.data + start * SEALED_CHUNK_BYTES
      ends = (first + start, stop - start, held.ctypes.data, held.size, at)
      return bool(function(*head, *ends))

    return _divide(some, count)


def count_chunks(chunks: memoryview) -> int:
  """Return the number of chunks in a buffer, the last of which may be short."""
  return -(-len(chunks) // SEALED_CHUNK_BYTES)


def overlap(first: memoryview, second: memoryview) -> bool:
  """Return whether two contiguous buffers share a byte."""
  import numpy as np  # As in `_array`.

  return np.may_share_memory(_array(first), _array(second))


def _array(data: memoryview) -> Any:
  import numpy as np  # Not at the top: the command line can do without.

  return np.asarray(data)


def _plain(data: memoryview, i: int) -> memoryview:
  return data[i * CHUNK_BYTES : (i + 1) * CHUNK_BYTES]


def _sealed(data: memoryview, i: int) -> memoryview:
  return data[i * SEALED_CHUNK_BYTES : (i + 1) * SEALED_CHUNK_BYTES]


def _cores() -> int:
  try:
    return len(os.sched_getaffinity(0))
  except AttributeError:  # Not on macOS.
    return os.cpu_count() or 1


def _divide(task: Callable[[int, int], bool], count: int) -> bool:
  """Do a task over chunks 0 to `count`; return whether every part succeeded.

  The caller does the first part, and those for which no thread starts, as at
  the end of the interpreter.
  """
  parts = max(1, min(_cores(), count // _CHUNKS_PER_THREAD))
  bounds = [count * k // parts for k in range(parts + 1)]
  done = [False] * parts
  stopped = False

  def run(k: int) -> None:
    if not stopped:
      done[k] = task(bounds[k], bounds[k + 1])

  threads = [threading.Thread(target=run, args=(k,)) for k in range(1, parts)]
  try:
    for k, thread in enumerate(threads, 1):
      try:
        thread.start()
      except RuntimeError:
        run(k)
    run(0)
  except BaseException:  # A signal: no thread writes once the caller has it.
    stopped = True
    raise
  finally:
    for thread in threads:
      if thread.ident is not None:
        thread.join()
  return all(done)
