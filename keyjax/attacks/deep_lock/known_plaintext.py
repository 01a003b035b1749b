"""From four known or guessed weights to Deep-Lock's master key.

Zero biases and unit scales are known; so are the weights of a public base
model that were frozen.
"""

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from keyjax.attacks import registry
from keyjax.attacks.deep_lock import peeled, search
from keyjax.attacks.deep_lock.search import SCHEMES
from keyjax.attacks.game import Attacker, Budget, Claim, Goal
from keyjax.attacks.views import View


@registry.register(
  "known_plaintext", Goal.KEY, SCHEMES, Attacker(known_weights=4)
)
def known_plaintext(view: View, budget: Budget) -> Iterator[Claim]:
  """Try known weights at every place of their leaf."""
  assert view.leak is not None
  stream = peeled.peel(view.locked, view.like)
  leaf = stream.leaf(view.leak.path)
  nk = search.key_words(view)
  known = peeled.octets(view.leak.values)
  places, words = [], []
  # A parameter of 8 or 16 bits may begin inside a word.
  for phase in range(0, 4, leaf.itemsize):
    skip = -phase % 4
    part = known[skip : skip + 4 * nk]
    if len(part) < 4 * nk:
      continue
    inside = peeled.octets_to_words(part)
    spare = (len(known) - skip - 4 * nk) > 0
    last = leaf.words - nk - spare + 1
    place = leaf.start + np.arange(skip > 0, max(last, 0))
    places.append(place)
    # [Nk] -> [Nk, places]
    words.append(np.broadcast_to(inside[:, None], (nk, len(place))))
  if not places:
    details = {"needs_known_bytes": 4 * nk + 4 - leaf.itemsize}
    yield Claim(None, details=details)
    return
  yield search.claim(view, stream, np.concatenate(places), _joined(words))


@registry.register("constant_leaves", Goal.KEY, SCHEMES, Attacker())
def constant_leaves(view: View, budget: Budget) -> Iterator[Claim]:
  """Guess that some vector of biases is all zeros, or of scales all ones."""
  stream = peeled.peel(view.locked, view.like)
  nk = search.key_words(view)
  places, words = [], []
  for leaf in stream.leaves:
    place = leaf.start + np.arange(leaf.size * leaf.itemsize // 4 - nk + 1)
    if leaf.rank > 1 or not len(place):
      continue
    for value in (0, 1):
      pattern = np.full(16, value).astype(jnp.dtype(leaf.dtype))
      inside = peeled.octets_to_words(peeled.octets(pattern))[:1]
      places.append(place)
      # [1] -> [Nk, places]
      words.append(np.broadcast_to(inside[:, None], (nk, len(place))))
  if not places:
    yield Claim(None, details={"tried": 0})
    return
  yield search.claim(view, stream, np.concatenate(places), _joined(words))


@registry.register("base_model", Goal.KEY, SCHEMES, Attacker(has_base=True))
def base_model(view: View, budget: Budget) -> Iterator[Claim]:
  """Guess that neighbouring weights kept the values of a public base model."""
  stream = peeled.peel(view.locked, view.like)
  nk = search.key_words(view)
  base = peeled.words_of(view.base, stream)
  places = np.arange(len(base) - nk + 1)
  # [n] -> [Nk, places]
  words = np.stack([base[i : i + len(places)] for i in range(nk)])
  yield search.claim(view, stream, places, words)


def _joined(words: list[np.ndarray]) -> np.ndarray:
  """Return candidates side by side, uint32[Nk, all places]."""
  return np.concatenate(words, axis=1)
