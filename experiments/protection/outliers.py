"""Changed weights that leave the range of the unlocked layer.

An attacker sees them without a key or an image, so a lock of a few weights is
judged with and without them.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import tree


class Outliers(NamedTuple):
  """Changed weights against the unlocked weights of their leaf.

  Attributes:
    outside: Number of changed weights outside the leaf's range.
    ratio: Largest |changed weight| as a multiple of its leaf's largest one;
      leaves of zeros do not count.
  """

  outside: int
  ratio: float


def find(prepared: Any, locked: Any) -> Outliers | None:
  """Compare locked params with the unlocked ones.

  Returns:
    None if no leaf of floats changed: words of a ciphertext have no range.
  """
  pairs = zip(jax.tree.leaves(prepared), jax.tree.leaves(locked), strict=True)
  found = [
    _of_leaf(a, b)
    for a, b in pairs
    if a.dtype == b.dtype and jnp.issubdtype(a.dtype, jnp.floating)
  ]
  changed = [x for x in found if x]
  if not changed:
    return None
  return Outliers(
    sum(x.outside for x in changed), max(x.ratio for x in changed)
  )


def _of_leaf(before: Any, after: Any) -> Outliers | None:
  changed = tree.bits(before) != tree.bits(after)
  if not changed.any():
    return None
  plain = np.asarray(before, np.float64)
  moved = np.asarray(after, np.float64)[changed]
  inside = (moved >= plain.min()) & (moved <= plain.max())
  largest = float(np.abs(plain).max())
  ratio = float(np.abs(moved).max()) / largest if largest else 0.0
  return Outliers(int((~inside).sum()), ratio)
