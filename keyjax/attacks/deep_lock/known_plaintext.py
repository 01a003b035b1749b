"""Deep-Lock: from four known weights, or none, to the master key.

The published schedule is the AES key expansion run on, and an expansion runs
backwards: Nk consecutive keystream words give all others and the master key.
InvSbox(w') XOR w is a keystream word, so four known float32 weights do it,
wherever they are. Zero biases and scales of one are known; so are the weights
of a public base model that were frozen.

Two licensees need nothing known: the XOR of their files gives both schedules
(`schedule_difference`). With one file, the schedule's linear relation tells it
from noise (`three_words`): the high bytes of weights take few values.

Against the counter schedule the same attacks find nothing. What remains there
is malleability (`flip_sign`), a second file under the same nonce, and what no
encryption of parameters hides: paths, shapes, dtypes.
"""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from keyjax import tree
from keyjax.attacks import registry
from keyjax.attacks.deep_lock import key_schedule, peeled, schedule_difference
from keyjax.attacks.deep_lock.peeled import Prior, Stream
from keyjax.attacks.game import (
  Attacker,
  Budget,
  Claim,
  Cost,
  Forgery,
  Goal,
)
from keyjax.attacks.views import View
from keyjax.keys import Secret
from keyjax.schemes.deep_lock import ChainKey

NAME = "deep_lock"
_LOOK = 64  # Neighbours that speak for or against a candidate.
_SURE = 45.0  # Bits: 2^24 places, and less than 2^-20 wrong.
_HOPELESS = -8.0
_CROWD_AFTER, _CROWD = 8, 64
_CHUNK = 1 << 15


@registry.register(
  "known_plaintext", Goal.KEY, (NAME,), Attacker(known_weights=4)
)
def known_plaintext(view: View, budget: Budget) -> Iterator[Claim]:
  """Tries known weights at every place of their leaf."""
  assert view.leak is not None
  stream = peeled.peel(view.locked, view.like)
  leaf = stream.leaf(view.leak.path)
  nk, known = _num_words(view), peeled.octets(view.leak.values)
  at, words = [], []
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
    at.append(place)
    words.append(np.broadcast_to(inside[:, None], (nk, len(place))))
  if not at:
    more = {"needs_known_bytes": 4 * nk + 4 - leaf.itemsize}
    yield Claim(None, details=more)
    return
  found = _search(stream, np.concatenate(at), np.concatenate(words, 1))
  yield _claim(view, found, sum(map(len, at)))


@registry.register("constant_leaves", Goal.KEY, (NAME,), Attacker())
def constant_leaves(view: View, budget: Budget) -> Iterator[Claim]:
  """Guesses that some vector of biases is zeros, or of scales ones."""
  stream, nk = peeled.peel(view.locked, view.like), _num_words(view)
  at, words = [], []
  for leaf in stream.leaves:
    place = leaf.start + np.arange(leaf.size * leaf.itemsize // 4 - nk + 1)
    if leaf.rank > 1 or not len(place):
      continue
    for value in (0, 1):
      pattern = np.full(16, value).astype(jax.numpy.dtype(leaf.dtype))
      inside = peeled.octets_to_words(peeled.octets(pattern))[:1]
      at.append(place)
      words.append(np.broadcast_to(inside[:, None], (nk, len(place))))
  if not at:
    yield Claim(None, details={"tried": 0})
    return
  found = _search(stream, np.concatenate(at), np.concatenate(words, 1))
  yield _claim(view, found, sum(map(len, at)))


@registry.register("base_model", Goal.KEY, (NAME,), Attacker(has_base=True))
def base_model(view: View, budget: Budget) -> Iterator[Claim]:
  """Guesses that four neighbours kept the values of a public base model."""
  stream, nk = peeled.peel(view.locked, view.like), _num_words(view)
  base = _words_of(view.base, stream)
  at = np.arange(len(base) - nk + 1)
  words = np.stack([base[i : i + len(at)] for i in range(nk)])
  found = _search(stream, at, words)
  yield _claim(view, found, len(at))


@registry.register(
  "two_time_pad", Goal.WEIGHTS, (NAME,), Attacker(has_base=True, copies=1)
)
def two_time_pad(view: View, budget: Budget) -> Iterator[Claim]:
  """Opens a file with another under the same keystream whose params are known.

  The S-boxes off, the XOR of two files is that of their params. `base` are
  the params of the other file, an older version that was published.
  """
  stream = peeled.peel(view.locked, view.like)
  other = peeled.peel(view.copies[0], view.like)
  keystream = other.words ^ _words_of(view.base, other)
  opened = peeled.plain(stream, keystream, view.locked, view.like)
  same = float((stream.words == other.words).mean())
  yield Claim(opened, Cost(steps=1), {"words_seen_to_be_equal": same})


@registry.register(
  "schedule_difference", Goal.KEY, (NAME,), Attacker(licensees=1)
)
def two_licensees(view: View, budget: Budget) -> Iterator[Claim]:
  """Opens the schedule with another licensee's file of the same weights.

  The XOR of the two files leaves sixteen keystreams
  (`schedule_difference`); the one that opens weights is the own.
  """
  stream, nk = peeled.peel(view.locked, view.like), _num_words(view)
  other = peeled.peel(view.licensed[0], view.like)
  found = [*schedule_difference.states(stream.words ^ other.words, nk)]
  if not found:
    yield Claim(None, details={"schedules": 0})
    return
  at = np.array([place for place, _ in found])
  words = np.stack([stream.words[p : p + nk] ^ w for p, w in found], axis=1)
  yield _claim(view, _search(stream, at, words), len(found))


@registry.register("flip_sign", Goal.FORGE, (NAME,), Attacker())
def flip_sign(view: View, budget: Budget) -> Iterator[Claim]:
  """Flips the sign bit of one parameter in the file, and so the parameter's."""
  stream = peeled.peel(view.locked, view.like)
  leaf = max(stream.leaves, key=lambda x: x.size)
  words = stream.words.copy()
  words[leaf.start] ^= np.uint32(1 << 31)
  forged = peeled.cover(stream._replace(words=words), view.locked, view.like)

  def edit(params: Any) -> Any:
    paths, leaves, treedef = tree.flatten(params)
    out = [
      _flip_first(x) if path == leaf.path else x
      for path, x in zip(paths, leaves, strict=True)
    ]
    return jax.tree.unflatten(treedef, out)

  yield Claim(Forgery(forged, edit), Cost(steps=1))


def _flip_first(x: jax.Array) -> jax.Array:
  words = tree.as_words(x)
  top = words.dtype.type(1 << (8 * words.dtype.itemsize - 1))
  flat = words.reshape(-1)
  flat = flat.at[0].set(flat[0] ^ top)
  return tree.from_words(flat.reshape(words.shape), x.dtype)


@registry.register("three_words", Goal.DISTINGUISH, (NAME,), Attacker())
def three_words(view: View, budget: Budget) -> Iterator[Claim]:
  """Tells a file from noise by the schedule's linear relation.

  w[i] = w[i - Nk] XOR w[i - 1] in most places of the schedule, so the XOR of
  three peeled words is that of three plain ones, whose high bytes are far
  from uniform. Chi-square of the high byte against uniform, at 2^-20.
  """
  stream, nk = peeled.peel(view.locked, view.like), _num_words(view)
  w, i = stream.words, np.arange(nk, len(stream.words))
  i = i[(i % nk != 0) & ~((nk == 8) & (i % nk == 4))][:4096]
  top = (w[i] ^ w[i - 1] ^ w[i - nk]) >> np.uint32(24)
  seen = np.bincount(top, minlength=256)
  expected = len(i) / 256
  chi = float(((seen - expected) ** 2 / expected).sum())
  limit = 255 + 5 * np.sqrt(2 * 255)
  yield Claim(chi > limit, Cost(steps=1), {"chi_square": chi, "words": len(i)})


def _num_words(view: View) -> int:
  return int(view.options.get("key_bits", 128)) // 32


def _words_of(params: Any, stream: Stream) -> np.ndarray:
  """Returns plain params as words of the stream."""
  paths, leaves, _ = tree.flatten(params)
  named = dict(zip(paths, leaves, strict=True))
  parts = [
    peeled.octets_to_words(peeled.octets(named[x.path])) for x in stream.leaves
  ]
  return np.concatenate(parts)


def _search(
  stream: Stream, at: np.ndarray, words: np.ndarray
) -> tuple[int, np.ndarray] | None:
  """Tries known plain words at places.

  Args:
    stream: the peeled file.
    at: int64[m], first word of each candidate.
    words: uint32[Nk, m], its plain words.

  Returns:
    The place and keystream words of a candidate whose neighbours, the
    schedule run on both ways, say for sure that it is right; or None.
  """
  prior, nk = peeled.prior(stream), len(words)
  for phase in range(nk):
    same = np.flatnonzero(at % nk == phase)
    for start in range(0, len(same), _CHUNK):  # What fits a cache.
      part = same[start : start + _CHUNK]
      place = at[part]
      window = [stream.words[place + t] ^ w[part] for t, w in enumerate(words)]
      total = _neighbours(stream, prior, place, window)
      top = int(np.argmax(total))
      if total[top] > _SURE:
        found = np.array([w[top] for w in window], np.uint32)
        return int(place[top]), found
  return None


def _neighbours(
  stream: Stream, prior: Prior, at: np.ndarray, first: list[np.ndarray]
) -> np.ndarray:
  """Runs the schedule on both ways and asks what the neighbours look like.

  Args:
    stream: the peeled file.
    prior: how plain words look.
    at: int64[m], all of one rest modulo Nk.
    first: Nk keystream words of each candidate.

  Returns:
    float32[m], bits of evidence; of those given up, what they had then.
  """
  nk, total = len(first), np.zeros(len(at), np.float32)
  keep = np.arange(len(at))
  for way in (1, -1):
    state = [w[keep] for w in first]
    for n in range(_LOOK):
      if not len(keep):
        return total
      # The stream begins at the schedule's word Nk.
      place = at[keep] + (nk + n if way > 0 else -n - 1)
      if way > 0:
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
        keep, state = keep[alive], [w[alive] for w in state]
  return total


def _claim(
  view: View, found: tuple[int, np.ndarray] | None, tried: int
) -> Claim:
  cost, details = Cost(steps=tried), {"places_tried": tried}
  if found is None or view.scheme is None:
    return Claim(None, cost, details)
  at, window = found
  key = view.scheme.keygen(Secret.generate(), view.like, None)
  if not isinstance(key, ChainKey):
    return Claim(None, cost, {**details, "no_chain": True})
  words = key_schedule.master(window, at + len(window))
  return Claim(key.replace(master=jax.numpy.asarray(words)), cost, details)  # type: ignore[attr-defined]
