"""Communication between the processes of a run before a save.

Process 0 generates the checkpoint's id and data key. The others receive them
wrapped with HPKE for a key pair that each generates for this one save, through
the devices' collectives. So recording that traffic reveals nothing, now or
when a machine is stolen later. Nothing here authenticates the processes: an
attacker who can alter the traffic between them can substitute a key pair and
learn the data key. Such a network also carries the unencrypted weights, in
every training step.

References:
  R. Barnes et al., "Hybrid Public Key Encryption", RFC 9180, 2022.
"""

import functools
import os

import jax
import numpy as np
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from jax.experimental import multihost_utils

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_INFO = b"keyjax/checkpoint/1/share"
_ID_BYTES = 16


def new_id_and_data_key() -> tuple[str, bytes]:
  """Return a random checkpoint id and data key, the same in all processes."""
  shared = os.urandom(_ID_BYTES + 32)
  if jax.process_count() > 1:
    shared = _from_process_0(shared)
  return shared[:_ID_BYTES].hex(), shared[_ID_BYTES:]


def _from_process_0(own: bytes) -> bytes:
  """Return what process 0 drew; it travels wrapped."""
  private = x25519.X25519PrivateKey.generate()
  public = private.public_key().public_bytes_raw()
  # uint8[32] -> uint8[processes, 32]
  publics = multihost_utils.process_allgather(np.frombuffer(public, np.uint8))
  size = len(_SUITE.encrypt(own, private.public_key(), info=_INFO))
  rows = np.zeros((len(publics), size), np.uint8)
  if jax.process_index() == 0:
    for row, other in zip(rows, np.asarray(publics), strict=True):
      key = x25519.X25519PublicKey.from_public_bytes(other.tobytes())
      wrapped = _SUITE.encrypt(own, key, info=_INFO)
      row[:] = np.frombuffer(wrapped, np.uint8)
  rows = np.asarray(multihost_utils.broadcast_one_to_all(rows))
  mine = rows[jax.process_index()].tobytes()
  return _SUITE.decrypt(mine, private, info=_INFO)


def wait_for_all(what: str) -> None:
  """Return once all processes of the run have called this."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(f"keyjax/checkpoint/{what}")


def gather_bytes(mine: bytes) -> list[bytes]:
  """Return the bytes of every process, in their order."""
  if jax.process_count() == 1:
    return [mine]
  sizes = multihost_utils.process_allgather(np.int32(len(mine)))
  row = np.zeros(max(sizes), np.uint8)
  row[: len(mine)] = np.frombuffer(mine, np.uint8)
  # uint8[n] -> uint8[processes, n]
  rows = np.asarray(multihost_utils.process_allgather(row))
  return [one[:size].tobytes() for one, size in zip(rows, sizes, strict=True)]


def gather_digests(mine: dict[int, bytes], count: int) -> tuple[str, ...]:
  """Return the digests of all parts; each process knows its own.

  Args:
    mine: SHA-256 by the number of the part.
    count: Number of parts in all.
  """
  rows = np.zeros((count, 32), np.uint8)
  for number, digest in mine.items():
    rows[number] = np.frombuffer(digest, np.uint8)
  if jax.process_count() > 1:
    # uint8[count, 32] -> uint8[processes, count, 32] -> uint8[count, 32]
    every = np.asarray(multihost_utils.process_allgather(rows))
    rows = functools.reduce(np.bitwise_or, every)
  return tuple(row.tobytes().hex() for row in rows)
