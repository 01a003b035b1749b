"""The table of FFX: a Feistel network over the digits of a pixel value.

Source: Bellare, Rogaway, Spies, "The FFX Mode of Operation for
Format-Preserving Encryption", 2010, as the pixel shuffle's authors use it.
"""

import hashlib
import hmac
import struct

import numpy as np

_ROUNDS = 10


def ffx_table(password: bytes) -> np.ndarray:
  """Return T(0..255), the FFX encryption of three-digit decimals.

  Example:
    >>> ffx_table(b"password")[:4].tolist()
    [355, 522, 858, 133]
  """
  return np.array([_ffx(password, v) for v in range(256)], np.int32)


def _ffx(password: bytes, value: int) -> int:
  """Encrypt one of 0..999: a Feistel network over digits, split 1 | 2."""
  digits = [value // 100, value // 10 % 10, value % 10]
  a, b = digits[:1], digits[1:]
  for i in range(_ROUNDS):
    # One digest has 48 decimal digits, so its block counter stays 0.
    message = struct.pack(f"<{len(b) + 2}I", i, *b, 0)
    number = int.from_bytes(hmac.digest(password, message, hashlib.sha1), "big")
    c = []
    for digit in a:
      number, r = divmod(number, 10)
      c.append((digit + r) % 10)
    a, b = b, c
  x, y, z = a + b
  return 100 * x + 10 * y + z
