"""How many keys there are, and what trying them all costs.

Entropy is that of the key which a guesser needs: what the lock uses, not what
is stored. Bits of HPNN that no neuron runs on do not count, and the map of FFX
counts as its mask alone, because half of the pixels meet no table.
"""

import math
from typing import Any

import numpy as np

from keyjax.attacks import near_keys
from keyjax.schemes import (
  adv_params,
  deep_lock,
  hpnn,
  keyed_noise,
  pixel_shuffle,
)

SECONDS_A_YEAR = 365.25 * 86400


def entropy_bits(key: Any) -> float:
  """Returns the base-2 logarithm of the number of keys like this one.

  Args:
    key: a scheme's key; of a chain, the bits of its parts add up.

  Raises:
    TypeError: the key's type is not known here.

  Example:
    >>> import numpy as np
    >>> from keyjax import Secret
    >>> batch = {"image": np.zeros((1, 4, 4, 3), np.float32)}
    >>> for kind in ("shf", "np"):
    ...   key = pixel_shuffle.pixel_shuffle(kind, 2).keygen(
    ...     Secret.generate(), None, batch)
    ...   print(kind, round(entropy_bits(key), 1))
    shf 28.8
    np 9.6
  """
  if isinstance(key, tuple):
    return sum(map(entropy_bits, key))
  if isinstance(key, pixel_shuffle.ShfKey):
    return math.lgamma(key.order.size + 1) / math.log(2)
  if isinstance(key, pixel_shuffle.NpKey | pixel_shuffle.FfxKey):
    return math.log2(math.comb(key.mask.size, int(key.mask.sum())))
  if isinstance(key, adv_params.AdvKey):
    return _positions(key)
  if isinstance(
    key,
    deep_lock.ChainKey
    | deep_lock.CounterKey
    | keyed_noise.NoiseKey
    | hpnn.HpnnKey,
  ):
    return float(near_keys.max_distance(key))
  raise TypeError(f"no key space for a {type(key).__name__}")


def _positions(key: adv_params.AdvKey) -> float:
  """Returns the bits of the places; the values come on top."""
  leaf = np.asarray(key.leaf)[np.asarray(key.flip) != 0]
  total = 0.0
  for i in np.unique(leaf):
    size = math.prod(key.spec[i].shape)
    total += math.log2(math.comb(size, int((leaf == i).sum())))
  return total


def log10_years(bits: float, keys_a_second: float) -> float:
  """Returns the decimal logarithm of a search's years: half of the keys.

  Example:
    >>> round(log10_years(128, 1e9), 1)
    21.7
  """
  seconds = (bits - 1) * math.log10(2) - math.log10(keys_a_second)
  return seconds - math.log10(SECONDS_A_YEAR)
