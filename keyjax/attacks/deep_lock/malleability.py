"""Forgery: Deep-Lock encrypts, and authenticates nothing."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from keyjax import tree
from keyjax.attacks import registry
from keyjax.attacks.deep_lock import peeled
from keyjax.attacks.deep_lock.search import SCHEMES
from keyjax.attacks.game import Attacker, Budget, Claim, Cost, Forgery, Goal
from keyjax.attacks.views import View


@registry.register("flip_sign", Goal.FORGE, SCHEMES, Attacker())
def flip_sign(view: View, budget: Budget) -> Iterator[Claim]:
  """Flip the sign bit of one parameter in the file, and so in the params."""
  stream = peeled.peel(view.locked, view.like)
  leaf = max(stream.leaves, key=lambda x: x.size)
  words = stream.words.copy()
  words[leaf.start] ^= np.uint32(1 << 31)
  forged = peeled.cover(stream._replace(words=words), view.locked, view.like)

  def edit(params: Any) -> Any:
    paths, leaves, treedef = tree.flatten(params)
    edited = [
      _flip_first(x) if path == leaf.path else x
      for path, x in zip(paths, leaves, strict=True)
    ]
    return jax.tree.unflatten(treedef, edited)

  yield Claim(Forgery(forged, edit), Cost(steps=1))


def _flip_first(x: jax.Array) -> jax.Array:
  words = tree.as_words(x)
  top = words.dtype.type(1 << (8 * words.dtype.itemsize - 1))
  flat = words.reshape(-1)  # [...] -> [size]
  flat = flat.at[0].set(flat[0] ^ top)
  return tree.from_words(flat.reshape(words.shape), x.dtype)
