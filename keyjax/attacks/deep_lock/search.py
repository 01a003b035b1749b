"""Known plain words tried at many places of the keystream."""

import jax.numpy as jnp
import numpy as np

from keyjax.attacks.deep_lock import key_schedule, peeled
from keyjax.attacks.deep_lock.peeled import Prior, Stream
from keyjax.attacks.game import Claim, Cost
from keyjax.attacks.views import View
from keyjax.schemes.deep_lock import ChainKey
from keyjax.secrets import Secret

SCHEMES = ("deep_lock",)
_NEIGHBOURS = 64  # Words before and after a candidate that are checked.
_SURE = 45.0  # Bits: 2^24 places, and less than 2^-20 wrong.
_HOPELESS = -8.0
# After this many neighbours, keep this many candidates at most.
_CROWD_AFTER = 8
_CROWD = 64
_CHUNK = 1 << 15


def key_words(view: View) -> int:
  """Return Nk, the number of words of the key: 4 or 8."""
  return int(view.options.get("key_bits", 128)) // 32


def claim(
  view: View, stream: Stream, places: np.ndarray, words: np.ndarray
) -> Claim:
  """Return the key that candidates lead to, or a claim of None.

  Args:
    view: View of the stolen file.
    stream: The peeled file.
    places: int64[m], first word of each candidate.
    words: uint32[Nk, m], its plain words.
  """
  cost = Cost(steps=len(places))
  details = {"places_tried": len(places)}
  found = _search(stream, places, words)
  if found is None or view.scheme is None:
    return Claim(None, cost, details)
  place, window = found
  key = view.scheme.keygen(Secret.generate(), view.like, None)
  if not isinstance(key, ChainKey):
    return Claim(None, cost, {**details, "no_chain": True})
  # The stream begins at the schedule's word Nk.
  master = key_schedule.master(window, place + len(window))
  return Claim(key.replace(master=jnp.asarray(master)), cost, details)  # type: ignore[attr-defined]


def _search(
  stream: Stream, places: np.ndarray, words: np.ndarray
) -> tuple[int, np.ndarray] | None:
  """Return the place and keystream words of a candidate that is surely right.

  A candidate is right when the schedule, run both ways from it, opens its
  neighbours to plausible weights.
  """
  prior = peeled.prior(stream)
  nk = len(words)
  for phase in range(nk):
    same = np.flatnonzero(places % nk == phase)
    for start in range(0, len(same), _CHUNK):  # Chunks that fit a cache.
      part = same[start : start + _CHUNK]
      place = places[part]
      window = [stream.words[place + t] ^ w[part] for t, w in enumerate(words)]
      total = _evidence(stream, prior, place, window)
      top = int(np.argmax(total))
      if total[top] > _SURE:
        found = np.array([w[top] for w in window], np.uint32)
        return int(place[top]), found
  return None


def _evidence(
  stream: Stream, prior: Prior, places: np.ndarray, first: list[np.ndarray]
) -> np.ndarray:
  """Run the schedule both ways and score the plain words that it opens.

  Args:
    stream: The peeled file.
    prior: Distribution of plain words.
    places: int64[m], all equal modulo Nk.
    first: Nk keystream words of each candidate.

  Returns:
    float32[m], bits of evidence; for candidates that were dropped, what they
    had then.
  """
  nk = len(first)
  total = np.zeros(len(places), np.float32)
  keep = np.arange(len(places))
  for forward in (True, False):
    state = [w[keep] for w in first]
    for n in range(_NEIGHBOURS):
      if not len(keep):
        return total
      # The stream begins at the schedule's word Nk.
      place = places[keep] + (nk + n if forward else -n - 1)
      if forward:
        new = key_schedule.after(state, place + nk)
        state = [*state[1:], new]
      else:
        new = key_schedule.before(state, place + nk + 1)
        state = [new, *state[:-1]]
      inside = (place >= 0) & (place < len(stream.words))
      safe = np.clip(place, 0, len(stream.words) - 1)
      score = prior.score(stream.words[safe] ^ new, safe)
      total[keep] += np.where(inside, score, 0)
      alive = total[keep] > _HOPELESS
      if n == _CROWD_AFTER and alive.sum() > _CROWD:  # Many are right.
        alive &= total[keep] >= np.partition(total[keep], -_CROWD)[-_CROWD]
      if not alive.all():
        keep = keep[alive]
        state = [w[alive] for w in state]
  return total
