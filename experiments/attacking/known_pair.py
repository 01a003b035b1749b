"""Files of many networks under one secret, opened with a known one.

Without its S-boxes Deep-Lock is a stream cipher. One file and the weights in it
give its keystream: that of all files under the secret, if they share it.
"""

from typing import Any

import jax
import numpy as np

import keyjax
from keyjax.attacks.deep_lock import peeled


def opened(scheme: keyjax.Scheme, known: Any, params: Any) -> Any:
  """Lock networks under one secret; return what a known file makes of them.

  Args:
    scheme: Deep-Lock.
    known: Networks of the attacker, of which the first is locked by the owner:
      tree with a first axis over networks.
    params: The owner's networks, likewise.

  Returns:
    Tree like `params`: the same weights, or noise.

  Example:
    >>> known, secret = ({"w": np.full((2, 4), x, np.float32)} for x in (1, 2))
    >>> found = opened(keyjax.deep_lock("chain"), known, secret)
    >>> found["w"].tolist() == secret["w"].tolist()
    True
    >>> found = opened(keyjax.deep_lock("counter"), known, secret)
    >>> found["w"].tolist() == secret["w"].tolist()
    False
  """
  secret = keyjax.Secret.generate()

  def lock(one: Any) -> Any:
    return scheme.encrypt(scheme.keygen(secret, one, None), one)

  first = _take(known, 0)
  file = peeled.peel(lock(first), first)
  keystream = file.words ^ peeled.words_of(first, file)

  def open_one(one: Any) -> Any:
    locked = lock(one)
    return peeled.plain(peeled.peel(locked, one), keystream, locked, one)

  count = len(jax.tree.leaves(params)[0])
  found = [open_one(_take(params, i)) for i in range(count)]
  return jax.tree.map(lambda *x: np.stack(x), *found)


def _take(params: Any, i: int) -> Any:
  return jax.tree.map(lambda x: x[i], params)
