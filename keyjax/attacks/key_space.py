"""The size of a key space, and the cost of trying every key.

The entropy is that of the key an attacker has to guess: what the lock uses,
not what is stored. Each key class counts its own (`keyjax.keys.Key`).
"""

import math
from typing import Any

from keyjax.keys import Key

SECONDS_A_YEAR = 365.25 * 86400


def entropy_bits(key: Any) -> float:
  """Return the base-2 logarithm of the number of keys like this one.

  Args:
    key: Key of a scheme; the bits of the parts of a chain add up.

  Raises:
    TypeError: If the key's class does not define its key space.

  Example:
    >>> import numpy as np
    >>> from keyjax import Secret, pixel_shuffle
    >>> batch = {"image": np.zeros((1, 4, 4, 3), np.float32)}
    >>> for kind in ("shf", "np"):
    ...   key = pixel_shuffle(kind, 2).keygen(Secret.generate(), None, batch)
    ...   print(kind, round(entropy_bits(key), 1))
    shf 28.8
    np 9.6
  """
  if isinstance(key, tuple):
    return sum(map(entropy_bits, key))
  if not isinstance(key, Key):
    raise TypeError(f"no key space for a {type(key).__name__}")
  return key.entropy_bits()


def log10_years(bits: float, keys_a_second: float) -> float:
  """Return the decimal logarithm of the years it takes to try half the keys.

  Example:
    >>> round(log10_years(128, 1e9), 1)
    21.7
  """
  seconds = (bits - 1) * math.log10(2) - math.log10(keys_a_second)
  return seconds - math.log10(SECONDS_A_YEAR)
