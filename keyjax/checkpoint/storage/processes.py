"""What the processes of a run tell each other before a save.

Process 0 makes the checkpoint's id and data key. The others get them wrapped
with HPKE for a key pair that each makes for this one save, by way of the
devices' collectives. So whoever records that traffic learns nothing, now or
when a machine is stolen later. Nothing here proves who takes part: whoever can
alter the traffic between the processes can give them a key pair of their own
and learn the data key. Such a network also carries the weights in the clear,
in every step of the training.

References:
  R. Barnes et al., "Hybrid Public Key Encryption", RFC 9180, 2022.
"""

import os

import jax
import numpy as np
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from jax.experimental import multihost_utils

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_INFO = b"keyjax/checkpoint/1/share"
_ID = 16


def new_checkpoint() -> tuple[str, bytes]:
  """Returns a fresh id and data key, the same in all processes."""
  made = os.urandom(_ID + 32)
  if jax.process_count() > 1:
    made = _from_first(made)
  return made[:_ID].hex(), made[_ID:]


def _from_first(made: bytes) -> bytes:
  """Returns what process 0 made, wrapped on its way."""
  private = x25519.X25519PrivateKey.generate()
  public = private.public_key().public_bytes_raw()
  publics = multihost_utils.process_allgather(np.frombuffer(public, np.uint8))
  size = len(_SUITE.encrypt(made, private.public_key(), info=_INFO))
  rows = np.zeros((len(publics), size), np.uint8)
  if jax.process_index() == 0:
    for row, other in zip(rows, np.asarray(publics), strict=True):
      key = x25519.X25519PublicKey.from_public_bytes(other.tobytes())
      wrapped = _SUITE.encrypt(made, key, info=_INFO)
      row[:] = np.frombuffer(wrapped, np.uint8)
  rows = np.asarray(multihost_utils.broadcast_one_to_all(rows))
  mine = rows[jax.process_index()].tobytes()
  return _SUITE.decrypt(mine, private, info=_INFO)


def gather_digests(mine: dict[int, bytes], count: int) -> tuple[str, ...]:
  """Returns the digests of all parts; each process knows its own.

  Args:
    mine: SHA-256 by number.
    count: how many there are in all.
  """
  rows = np.zeros((count, 32), np.uint8)
  for number, digest in mine.items():
    rows[number] = np.frombuffer(digest, np.uint8)
  if jax.process_count() > 1:
    every = np.asarray(multihost_utils.process_allgather(rows))
    rows = np.bitwise_or.reduce(every, axis=0)
  return tuple(row.tobytes().hex() for row in rows)
