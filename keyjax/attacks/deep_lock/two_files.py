"""Two Deep-Lock files: of one licensee under one nonce, or of two licensees."""

from collections.abc import Iterator

import numpy as np

from keyjax.attacks import registry
from keyjax.attacks.deep_lock import peeled, schedule_difference, search
from keyjax.attacks.deep_lock.search import SCHEMES
from keyjax.attacks.game import Attacker, Budget, Claim, Cost, Goal
from keyjax.attacks.views import View


@registry.register(
  "two_time_pad", Goal.WEIGHTS, SCHEMES, Attacker(has_base=True, copies=1)
)
def two_time_pad(view: View, budget: Budget) -> Iterator[Claim]:
  """Open a file with another one under the same keystream, of known params.

  Without the S-boxes, the XOR of two files is that of their params. `base` are
  the params of the other file, an older version that was published.
  """
  stream = peeled.peel(view.locked, view.like)
  other = peeled.peel(view.copies[0], view.like)
  keystream = other.words ^ peeled.words_of(view.base, other)
  opened = peeled.plain(stream, keystream, view.locked, view.like)
  same = float((stream.words == other.words).mean())
  yield Claim(opened, Cost(steps=1), {"words_seen_to_be_equal": same})


@registry.register(
  "schedule_difference", Goal.KEY, SCHEMES, Attacker(licensees=1)
)
def two_licensees(view: View, budget: Budget) -> Iterator[Claim]:
  """Recover the schedule from another licensee's file of the same weights.

  The XOR of the two files leaves sixteen keystreams (`schedule_difference`);
  the one that opens plausible weights is this file's.
  """
  stream = peeled.peel(view.locked, view.like)
  other = peeled.peel(view.licensed[0], view.like)
  nk = search.key_words(view)
  found = [*schedule_difference.states(stream.words ^ other.words, nk)]
  if not found:
    yield Claim(None, details={"schedules": 0})
    return
  places = np.array([place for place, _ in found])
  # [schedules] of [Nk] -> [Nk, schedules]
  words = np.stack([stream.words[p : p + nk] ^ w for p, w in found], axis=1)
  yield search.claim(view, stream, places, words)
