"""A distinguisher: is a file locked by the published schedule, or noise?"""

from collections.abc import Iterator

import numpy as np

from keyjax.attacks import registry
from keyjax.attacks.deep_lock import peeled, search
from keyjax.attacks.deep_lock.search import SCHEMES
from keyjax.attacks.game import Attacker, Budget, Claim, Cost, Goal
from keyjax.attacks.views import View


@registry.register("three_words", Goal.DISTINGUISH, SCHEMES, Attacker())
def three_words(view: View, budget: Budget) -> Iterator[Claim]:
  """Tell a file from noise by the schedule's linear relation.

  w[i] = w[i - Nk] XOR w[i - 1] in most places of the schedule, so the XOR of
  three peeled words is that of three plain ones, whose high bytes are far
  from uniform. Chi-square of the high byte against uniform, at 2^-20.
  """
  stream = peeled.peel(view.locked, view.like)
  nk = search.key_words(view)
  w = stream.words
  i = np.arange(nk, len(w))
  i = i[(i % nk != 0) & ~((nk == 8) & (i % nk == 4))][:4096]
  top = (w[i] ^ w[i - 1] ^ w[i - nk]) >> np.uint32(24)
  observed = np.bincount(top, minlength=256)
  expected = len(i) / 256
  chi = float(((observed - expected) ** 2 / expected).sum())
  limit = 255 + 5 * np.sqrt(2 * 255)
  yield Claim(chi > limit, Cost(steps=1), {"chi_square": chi, "words": len(i)})
