"""The chunks of a message on the host, by either cipher and on threads."""

import copy
import os
import pickle
import threading

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keyjax import seal
from keyjax.aes import library
from keyjax.errors import SealError
from keyjax.seal import chunks

CHUNK, TAG = seal.CHUNK_BYTES, seal.TAG_BYTES
SIZES = (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 7 * CHUNK + 100)


@pytest.fixture(params=[chunks.OpenSSL, chunks.Compiled])
def kind(request):
  if request.param is chunks.Compiled and library.find() is None:
    pytest.skip("no compiled cipher")
  return request.param


@pytest.fixture(params=[1, 3])
def cores(request, monkeypatch):
  monkeypatch.setattr(chunks, "_cores", lambda: request.param)
  monkeypatch.setattr(chunks, "_CHUNKS_PER_THREAD", 2)
  return request.param


def sealed_by(cipher, data):
  out = bytearray(len(data) + TAG * (len(data) // CHUNK + 1))
  cipher.seal(memoryview(data), memoryview(out))
  return out


def expected(key, nonce, data):
  parts = []
  for i in range(len(data) // CHUNK + 1):
    index = (int.from_bytes(nonce, "big") ^ i).to_bytes(12, "big")
    chunk = data[i * CHUNK : (i + 1) * CHUNK]
    parts.append(AESGCM(key).encrypt(index, chunk, None))
  return b"".join(parts)


@pytest.mark.parametrize("key_size", (16, 32))
def test_every_size(kind, cores, key_size):
  key, nonce = os.urandom(key_size), os.urandom(12)
  cipher = kind(key, nonce)
  for size in SIZES:
    data = os.urandom(size)
    sealed = sealed_by(cipher, data)
    assert sealed == expected(key, nonce, data)
    opened = bytearray(size)
    cipher.open(0, memoryview(sealed), memoryview(opened))
    assert opened == data


def test_chunks_from_the_middle(kind, cores):
  data, cipher = os.urandom(SIZES[-1]), kind(bytes(32), bytes(12))
  sealed = memoryview(sealed_by(cipher, data))
  opened = bytearray(len(data) - 2 * CHUNK)
  cipher.open(2, sealed[2 * (CHUNK + TAG) :], memoryview(opened))
  assert opened == data[2 * CHUNK :]
  with pytest.raises(SealError):
    cipher.open(3, sealed[2 * (CHUNK + TAG) :], memoryview(opened))


def test_any_altered_chunk_is_refused(kind, cores):
  data, cipher = os.urandom(SIZES[-1]), kind(bytes(16), bytes(12))
  sealed = sealed_by(cipher, data)
  for at in range(0, len(sealed), CHUNK // 2):
    sealed[at] ^= 1
    with pytest.raises(SealError):
      cipher.open(0, memoryview(sealed), memoryview(bytearray(len(data))))
    sealed[at] ^= 1
  cipher.open(0, memoryview(sealed), memoryview(bytearray(len(data))))


def test_without_a_thread_the_caller_does_it_all(kind, cores, monkeypatch):
  def refuse(self):
    raise RuntimeError("can't create new thread at interpreter shutdown")

  monkeypatch.setattr(threading.Thread, "start", refuse)
  data, cipher = os.urandom(SIZES[-1]), kind(bytes(16), bytes(12))
  assert sealed_by(cipher, data) == expected(bytes(16), bytes(12), data)


def test_buffers_that_no_message_has():
  key = os.urandom(32)
  message = memoryview(seal.seal(key, bytes(CHUNK + 5)))
  opener = seal.Opener(key, message[: seal.HEADER_BYTES])
  body = message[seal.HEADER_BYTES :]
  opener.open_into(0, body, bytearray(CHUNK + 5))
  with pytest.raises(SealError):
    opener.open_into(0, body[:0], bytearray())
  for cut in range(1, TAG):  # A last chunk without a whole tag.
    part = body[: CHUNK + TAG + cut]
    with pytest.raises(SealError):
      opener.open_into(0, part, bytearray(len(part) - 2 * TAG))
  plain = bytes(CHUNK + 5)  # Immutable: it must not be written to.
  with pytest.raises(ValueError, match="read-only"):
    opener.open_into(0, body, memoryview(plain))
  with pytest.raises(ValueError, match="read-only"):
    seal.seal_into(key, plain, memoryview(bytes(message)))
  assert plain == bytes(CHUNK + 5)


def test_buffers_of_any_type_but_not_in_pieces_or_one_on_another():
  key = os.urandom(32)
  data = os.urandom(CHUNK)
  message = bytearray(seal.seal(key, data))
  opener = seal.Opener(key, message[: seal.HEADER_BYTES])
  body = memoryview(message)[seal.HEADER_BYTES :]
  out = bytearray(CHUNK)
  opener.open_into(0, body.cast("Q"), out)
  assert out == data
  for pieces in (body[::-1], memoryview(bytes(2 * len(body)))[::2]):
    with pytest.raises(TypeError, match="contiguous"):
      opener.open_into(0, pieces, out)
  before = bytes(message)
  with pytest.raises(ValueError, match="overlaps"):
    opener.open_into(0, body, body[-CHUNK:])
  with pytest.raises(ValueError, match="overlaps"):
    seal.seal_into(key, memoryview(message)[:CHUNK], message)
  assert message == before


def test_no_thread_writes_after_an_interrupt(monkeypatch):
  monkeypatch.setattr(chunks, "_cores", lambda: 2)
  monkeypatch.setattr(chunks, "_CHUNKS_PER_THREAD", 1)
  begun, caught, ended = (threading.Event() for _ in range(3))

  def task(start, stop):
    if start == 0:
      assert begun.wait(10)
      raise KeyboardInterrupt
    begun.set()
    caught.wait(0.2)  # Not before this ends is the error raised.
    ended.set()
    return True

  with pytest.raises(KeyboardInterrupt):
    chunks._divide(task, 2)
  caught.set()
  assert ended.is_set()


def test_a_key_is_in_no_pickle_and_no_repr(kind):
  key = os.urandom(16)
  cipher = kind(key, bytes(12))
  message = seal.seal(key, b"")
  for value in (cipher, seal.Opener(key, message[: seal.HEADER_BYTES])):
    assert key.hex() not in repr(value) and str(key)[2:-1] not in repr(value)
    with pytest.raises(TypeError, match="pickle"):
      pickle.dumps(value)
    with pytest.raises(TypeError):
      copy.deepcopy(value)
