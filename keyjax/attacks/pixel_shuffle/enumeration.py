"""Every key of SHF and of NP."""

import itertools
import math
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from keyjax.attacks.pixel_shuffle import block_keys
from keyjax.attacks.views import View
from keyjax.schemes import pixel_shuffle
from keyjax.schemes.pixel_shuffle import NpKey, ShfKey


def all_orders(view: View) -> tuple[int, Iterator[ShfKey]]:
  """Return the number of SHF's keys, and the keys one after the other.

  Example:
    >>> import types
    >>> data = types.SimpleNamespace(image=np.zeros((1, 4, 4, 1)))
    >>> view = types.SimpleNamespace(options={"block_size": 2}, data=data)
    >>> all_orders(view)[0]
    24
  """
  m = block_keys.block_size(view)
  size = block_keys.values_per_block(view)
  orders = itertools.permutations(range(size))
  keys = (ShfKey(order=jnp.asarray(o), block_size=m) for o in orders)
  return math.factorial(size), keys


def all_masks(view: View) -> tuple[int, Iterator[NpKey]]:
  """Return the number of NP's keys, and the keys one after the other."""
  m = block_keys.block_size(view)
  size = block_keys.values_per_block(view)
  ones = int(pixel_shuffle.balanced_mask(np.arange(size)).sum())

  def key(chosen: tuple[int, ...]) -> NpKey:
    mask = jnp.zeros(size, bool).at[jnp.array(chosen, int)].set(True)
    return NpKey(mask=mask, block_size=m)

  chosen = itertools.combinations(range(size), ones)
  return math.comb(size, ones), map(key, chosen)
