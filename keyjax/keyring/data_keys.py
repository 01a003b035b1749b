"""The data key of a checkpoint, and one key for each leaf and purpose."""

import os
import re

from keyjax.errors import KeyringError
from keyjax.secrets import SECRET_BYTES, Secret

_PURPOSE = re.compile(r"[a-z0-9-]{1,64}")


def new_data_key() -> bytes:
  """Return a fresh data key of 32 bytes, for one checkpoint.

  Example:
    >>> len(new_data_key())
    32
  """
  return os.urandom(SECRET_BYTES)


def leaf_key(data_key: bytes, purpose: str, path: str) -> bytes:
  """Derive the key of one leaf for one purpose (HKDF-SHA-256).

  Args:
    data_key: Data key of the checkpoint, 32 bytes.
    purpose: Name such as "weights" or "names": letters a-z, digits, `-`.
    path: Path of the leaf, any text.

  Returns:
    32 bytes, which differ for every purpose and path.

  Raises:
    KeyringError: If the purpose has other characters.
    ValueError: If the data key is not 32 bytes.

  Example:
    >>> data_key = new_data_key()
    >>> a = leaf_key(data_key, "weights", "dense/kernel")
    >>> a == leaf_key(data_key, "weights", "dense/bias")
    False
  """
  if not _PURPOSE.fullmatch(purpose):
    raise KeyringError("a purpose has letters a-z, digits and - only")
  return Secret(data_key).derive(f"keyring/leaf/{purpose}/{path}", 32)
