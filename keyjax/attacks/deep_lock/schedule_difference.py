"""Two AES key schedules from their XOR only.

Two licensees hold the same weights under two master keys of the published
schedule. With the public S-box off, the XOR of their files is that of their
keystreams: the weights cancel. The schedule is linear except for one S-box step
in Nk words (two for 256-bit keys), w[i] = w[i - Nk] XOR S(w[i - 1]) XOR rcon,
and of that step the XOR gives the input and output difference:

    S(x) XOR S(x XOR d_in) = d_out

has two or four solutions for each byte x of w[i - 1], so about 16 for a word,
and the constant cancels. The last words of the quads, x_h = w[4 h + 3], obey
the schedule's own recursion

    x_{h + 1} = x_{h + 1 - Nk} XOR mix(x_h)

which pairs of schedules satisfy. Nk of them in a row give all Nk words of a
place, and the schedule runs backwards to the master key. The recursion ties a
byte of x_h to the next byte of x_{h - 1}, so bytes fall into four classes, and
in each the two schedules may change places: sixteen keys have the same XOR with
their partner. The right one leaves plausible weights, of which nothing has to
be known. It is textbook differential cryptanalysis of one S-box layer, with a
difference for every round.

References:
  Biham, Shamir, "Differential Cryptanalysis of DES-like Cryptosystems", J.
  Cryptology 4, 1991; FIPS 197, 5.2.
"""

import functools
import itertools
from collections.abc import Iterator

import numpy as np

from keyjax.aes.substitution import SBOX
from keyjax.attacks.deep_lock import key_schedule

_MOST = 1024  # Solutions for a word; more where a byte does not differ.


def states(apart: np.ndarray, nk: int) -> Iterator[tuple[int, np.ndarray]]:
  """Yield the candidates for both keystreams at the first place that allows it.

  Args:
    apart: uint32[n], the XOR of two keystreams, from the schedule's word Nk.
    nk: Words of a key, 4 or 8.

  Yields:
    A place of the stream and uint32[Nk], a keystream's words there, for each
    key that fits; nothing where none does.
  """
  # Indices as in FIPS 197: the stream begins at word Nk.
  apart = np.concatenate([np.zeros(nk, np.uint32), apart])
  if not _is_linear(apart, nk):
    return
  for first in range(2 * nk, len(apart) // 4 - nk):
    found = _chains(apart, first, nk)
    if found:
      for chain in found:
        last = 4 * (first + nk - 1) + 3
        yield last + 1 - 2 * nk, _words(np.array(chain, np.uint32), nk)
      return


def _is_linear(apart: np.ndarray, nk: int) -> bool:
  """Return whether most words satisfy w[i] = w[i - Nk] XOR w[i - 1]."""
  i = np.arange(2 * nk + 1, len(apart))
  i = i[i % 4 != 0]
  holds = apart[i] == apart[i - nk] ^ apart[i - 1]
  return bool(holds.size and holds.mean() > 0.5)


def _chains(apart: np.ndarray, first: int, nk: int) -> list[list[int]]:
  """Return x_first, ..., x_{first + Nk - 1} that fit the recursion."""
  chains: list[list[int]] = []
  for h in range(first, first + nk - 1):
    links = _links(apart, h, nk)
    if h == first:
      chains = [[a, b] for a, b in links]
    else:
      chains = [[*c, b] for c in chains for a, b in links if a == c[-1]]
    if not chains:
      break
  return chains


def _links(apart: np.ndarray, h: int, nk: int) -> list[tuple[int, int]]:
  """Return pairs (x_h, x_{h + 1}) for which some x_{h + 1 - Nk} fits."""
  before, now, then = (_solutions(apart, i, nk) for i in (h + 1 - nk, h, h + 1))
  if not (len(before) and len(now) and len(then)):
    return []
  old, new = (x.reshape(-1) for x in np.meshgrid(before, now))
  # The x obey the schedule's recursion: only the ends of a window count.
  made = key_schedule.after([*[old] * (nk - 1), new], np.array([4 * (h + 1)]))
  keep = np.isin(made, then)
  return sorted(set(zip(new[keep].tolist(), made[keep].tolist(), strict=True)))


def _solutions(apart: np.ndarray, h: int, nk: int) -> np.ndarray:
  """Return the values that x_h may have, uint32[m]; none if too many."""
  i = 4 * (h + 1)
  given = apart[i - 1]
  made = apart[i] ^ apart[i - nk]
  turn = 8 if i % nk == 0 else 0  # RotWord, at the first word of a group.
  given = _rotate(given, turn)
  parts = [
    _byte_solutions(int(a), int(b))
    for a, b in zip(_octets(given), _octets(made), strict=True)
  ]
  if not 0 < np.prod([len(p) for p in parts]) <= _MOST:
    return np.zeros(0, np.uint32)
  whole = np.array([*itertools.product(*parts)], np.uint8)
  words = whole.view(">u4").reshape(-1).astype(np.uint32)
  return np.asarray(_rotate(words, 32 - turn if turn else 0))


@functools.lru_cache(maxsize=1 << 16)
def _byte_solutions(given: int, made: int) -> tuple[int, ...]:
  """Return the x for which S(x) XOR S(x XOR given) is `made`."""
  x = np.arange(256)
  return tuple(np.flatnonzero(SBOX[x] ^ SBOX[x ^ given] == made).tolist())


def _octets(word: np.ndarray) -> bytes:
  return int(word).to_bytes(4, "big")


def _rotate(words: np.ndarray, left: int) -> np.ndarray:
  if not left:
    return words
  return (words << np.uint32(left)) | (words >> np.uint32(32 - left))


def _words(chain: np.ndarray, nk: int) -> np.ndarray:
  """Return w[i .. i + Nk - 1] from the last word of Nk quads.

  Inside a quad w[i] = w[i - Nk] XOR w[i - 1], so each word is the XOR of the
  next one and the word Nk before the next one.
  """
  step = nk // 4
  rows = [chain]
  for _ in range(3):
    rows.append(rows[-1][step:] ^ rows[-1][:-step])
  # [Nk / 4, 4] -> [Nk]
  return np.stack([r[-step:] for r in reversed(rows)], axis=1).reshape(-1)
