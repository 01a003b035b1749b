"""Secrets, and what is derived from them by label.

A `Secret` is 32 bytes from the operating system. Everything else is derived
from it with HKDF-SHA-256 (RFC 5869) under a label, so that two uses never
share a key. Nothing here prints key material: `repr` shows a fingerprint, and
errors contain no key bytes.
"""

import hmac
import os
import re
from typing import TYPE_CHECKING, Any, NoReturn

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from keyjax import arguments, private_files

if TYPE_CHECKING:
  import numpy as np

SECRET_BYTES = 32
_HEX = re.compile(rb"[0-9a-fA-F]{64}")
_ZERO_COUNTER = bytes(16)


class Secret:
  """32 uniformly random bytes from which keys are derived by label.

  A secret cannot be printed, pickled or hashed by accident.

  Example:
    >>> secret = Secret.generate()
    >>> secret.child("model-a") == secret.child("model-a")
    True
    >>> secret.child("model-a") == secret.child("model-b")
    False
    >>> len(secret.derive("aes", 16))
    16
  """

  __slots__ = ("_bytes",)

  def __init__(self, data: bytes):
    """Wrap 32 bytes; `Secret.generate` makes fresh ones.

    Args:
      data: Exactly 32 uniformly random bytes.

    Raises:
      ValueError: If `data` is not 32 bytes long.
      TypeError: If `data` is not bytes.
    """
    if not isinstance(data, bytes | bytearray):
      raise TypeError(
        f"a secret is made of bytes, got {arguments.describe(data)}: "
        "Secret.generate() makes one, Secret.load reads a file, and "
        "bytes.fromhex reads digits"
      )
    if len(data) != SECRET_BYTES:
      raise ValueError(
        f"a secret has exactly {SECRET_BYTES} bytes, got {len(data)}"
      )
    self._bytes = bytes(data)

  @classmethod
  def generate(cls) -> "Secret":
    """Return a fresh secret from the operating system."""
    return cls(os.urandom(SECRET_BYTES))

  @classmethod
  def load(cls, path: str | os.PathLike[str]) -> "Secret":
    """Read a secret that `save` wrote.

    Args:
      path: File of 64 hexadecimal digits that only its owner can read.

    Raises:
      PermissionError: If a group or everyone can read the file.
      ValueError: If the file does not hold a secret.
    """
    # No error may contain the text, as a UnicodeDecodeError would.
    data = private_files.read(path)
    text = private_files.as_utf8(data).strip()
    if not _HEX.fullmatch(text):
      hint = private_files.other_reader(data)
      raise ValueError(f"{path} does not hold a secret{hint}")
    return cls(bytes.fromhex(text.decode("ascii")))

  def save(self, path: str | os.PathLike[str]) -> None:
    """Write the secret to a new file with mode 600.

    Args:
      path: Path of the file, which must not exist and must not be in the
        folder of a checkpoint.

    Raises:
      FileExistsError: If `path` exists: a secret is never overwritten.
      KeyringError: If `path` is inside a checkpoint.
    """
    private_files.refuse_checkpoint_folder(path)
    text = self._bytes.hex().encode("ascii") + b"\n"
    private_files.create(path, text, "key")

  def derive(self, label: str, length: int) -> bytes:
    """Return `length` bytes (at most 8160) bound to `label`."""
    hkdf = HKDF(hashes.SHA256(), length, salt=None, info=_info(label))
    return hkdf.derive(self._bytes)

  def child(self, label: str) -> "Secret":
    """Return a derived secret, different for each label."""
    return Secret(self.derive(label, SECRET_BYTES))

  def fingerprint(self) -> str:
    """Return a public name such as `6883-5749-5462-97e0` (64 bits)."""
    digest = self.derive("fingerprint", 8).hex()
    return "-".join(digest[i : i + 4] for i in range(0, 16, 4))

  def stream(self, label: str, length: int) -> bytes:
    """Return any number of pseudorandom bytes (AES-256-CTR)."""
    key = self.derive(f"stream/{label}", 32)
    encryptor = Cipher(
      algorithms.AES256(key), modes.CTR(_ZERO_COUNTER)
    ).encryptor()
    return encryptor.update(bytes(length))

  def __eq__(self, other: object) -> bool:
    if not isinstance(other, Secret):
      return NotImplemented
    return hmac.compare_digest(self._bytes, other._bytes)

  __hash__ = None  # type: ignore[assignment]

  def __repr__(self) -> str:
    return f"<Secret {self.fingerprint()}>"

  def __reduce_ex__(self, protocol: Any) -> NoReturn:
    raise TypeError("a Secret is not pickled or copied; use Secret.save")


def require_secret(value: Any, what: str) -> None:
  """Raise a TypeError unless a value is a `Secret`.

  Args:
    value: The argument.
    what: What takes it, for the error.
  """
  if not isinstance(value, Secret):
    raise TypeError(
      f"{what} takes a keyjax.Secret, got {arguments.describe(value)}; "
      "Secret.generate() makes one"
    )


def _info(label: str) -> bytes:
  if not isinstance(label, str):
    raise TypeError(f"a label is text, got {arguments.describe(label)}")
  return b"keyjax/1/" + label.encode("utf-8")


def permutation(secret: Secret, label: str, n: int) -> "np.ndarray":
  """Return a uniform permutation of `n` items.

  Items are sorted by 128-bit random values; two of them are equal with a
  probability below n^2 / 2^129, and the result is then still a permutation.

  Args:
    secret: Secret to derive it from.
    label: Purpose; each label has its own permutation.
    n: Number of items.

  Returns:
    int32[n], each of 0 .. n-1 once.

  Example:
    >>> sorted(permutation(Secret.generate(), "demo", 4).tolist())
    [0, 1, 2, 3]
  """
  import numpy as np  # Not at the top: the command line can do without.

  words = np.frombuffer(secret.stream(label, 16 * n), np.uint64).reshape(2, n)
  return np.lexsort((words[0], words[1])).astype(np.int32)


def bits(secret: Secret, label: str, n: int) -> "np.ndarray":
  """Return `n` uniform bits, uint8[n] of 0 and 1."""
  import numpy as np  # As in `permutation`.

  stream = np.frombuffer(secret.stream(label, -(-n // 8)), np.uint8)
  return np.unpackbits(stream)[:n]
