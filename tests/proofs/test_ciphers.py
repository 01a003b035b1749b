"""Ciphers in docs/proofs.md at small sizes, most by exhaustion."""

import itertools
import math
import pathlib
import re
from fractions import Fraction

import numpy as np
import pytest

from keyjax.aes import ctr
from keyjax.aes.substitution import SBOX
from keyjax.attacks.deep_lock import key_schedule
from keyjax.errors import SealError
from keyjax.schemes import counter
from keyjax.seal import format as sealed_format
from keyjax.seal import seal, unseal
from tests.conftest import ROOT

RNG = np.random.default_rng(0)


def test_every_statement_has_its_test() -> None:
  named = re.findall(r"\[`(\w+)`\]", (ROOT / "docs/proofs.md").read_text())
  files = pathlib.Path(__file__).parent.glob("test_*.py")
  tests = re.findall(r"def test_(\w+)", "".join(f.read_text() for f in files))
  assert len(named) > 15 and set(named) <= set(tests)


# -------------------------------------------------------------- counter mode


@pytest.mark.parametrize("n, q", [(4, 2), (6, 3), (5, 4)])
def test_switching(n: int, q: int) -> None:
  tuples = list(itertools.product(range(n), repeat=q))
  distinct = math.perm(n, q)
  both = [
    (Fraction(int(len(set(t)) == q), distinct), Fraction(1, n**q))
    for t in tuples
  ]
  distance = sum(abs(a - b) for a, b in both) / 2
  assert (
    distance == 1 - Fraction(distinct, n**q) <= Fraction(q * (q - 1), 2 * n)
  )
  # The test "has a repetition" is as good as any.
  repeated = sum(
    b for t, (_, b) in zip(tuples, both, strict=True) if len(set(t)) < q
  )
  assert repeated == distance


def test_counter_mode_limits() -> None:
  q = ctr.MAX_BLOCKS
  assert q == 2**32 - 2
  assert Fraction(q * (q - 1), 2**129) < Fraction(1, 2**65)
  ctr.check_length(0, q)
  for start, blocks in ((0, q + 1), (1, q)):
    with pytest.raises(ValueError, match="at most"):
      ctr.check_length(start, blocks)
  block = np.asarray(counter.first_block(b"\xff" * 12))
  assert block.tolist() == [2**32 - 1] * 3 + [0]  # Nonce, then a counter of 0.


def test_counters_are_disjoint() -> None:
  nonces, values = 8, 4  # 3 bits and 2 bits.
  for length in range(1, values + 2):
    blocks = [
      {(nonce * values + i) % (nonces * values) for i in range(length)}
      for nonce in range(nonces)
    ]
    meet = any(a & b for a, b in itertools.combinations(blocks, 2))
    assert meet == (length > values)


def test_a_bijection_keeps_the_pad() -> None:
  octets = np.arange(256, dtype=np.uint8)
  locked = SBOX[octets[:, None] ^ octets[None]]  # [words, pads]
  assert (np.sort(locked, axis=1) == octets).all()
  mask = np.uint8(0b10000111)  # A sign and a mantissa of three bits.
  noise = octets[:, None] ^ (octets[None] & mask)
  assert (noise & ~mask == octets[:, None] & ~mask).all()
  for row in noise & mask:
    assert (np.unique(row, return_counts=True)[1] == 256 // 16).all()


# ------------------------------------------------------------------- sealing


def test_sealing_limits() -> None:
  def last_term(messages: int, size: int) -> Fraction:
    blocks = (sealed_format.CHUNK_BYTES // 16 + 1) * (
      size // sealed_format.CHUNK_BYTES
    ) + 1
    return Fraction(messages * blocks * (blocks - 1), 2**129)

  for messages, size in ((2**45, 2**30), (2**25, 2**40)):
    assert (
      Fraction(99, 100) < last_term(messages, size) * 2**32 < Fraction(101, 100)
    )
    assert Fraction(messages**2, 2**193) < Fraction(1, 2**100)
  nonces = {sealed_format.chunk_nonce(b"\x5a" * 12, i) for i in range(1000)}
  assert len(nonces) == 1000
  assert 8 * sealed_format.SALT_BYTES == 192
  largest = sealed_format.MAX_CHUNKS * sealed_format.CHUNK_BYTES
  with pytest.raises(ValueError, match="2\\^38 chunks"):
    sealed_format.size_of_sealed(largest)


def times(a: int, b: int) -> int:
  """Multiply in GF(2^4), modulo x^4 + x + 1."""
  out = 0
  for i in range(4):
    out ^= (a << i) * (b >> i & 1)
  for i in (6, 5, 4):
    out ^= (0b10011 << (i - 4)) * (out >> i & 1)
  return out


def test_ghash_differences() -> None:
  blocks = 2
  found = [
    m for n in range(blocks + 1) for m in itertools.product(range(16), repeat=n)
  ]
  hashes = np.zeros((len(found), 16), np.uint8)  # [messages, hash keys]
  for row, message in zip(hashes, found, strict=True):
    for key in range(16):
      state = 0
      for x in (*message, len(message)):
        state = times(state ^ x, key)
      row[key] = state
  most = 0
  for i, row in enumerate(hashes):
    differences = hashes[i + 1 :] ^ row
    for d in range(16):
      hits = (differences == d).sum(1)
      most = max(most, int(hits.max(initial=0)))
  assert most == blocks + 1  # The bound is reached.


def test_no_prefix_is_a_message() -> None:
  key = bytes(32)
  message = seal(key, b"weights")
  for size in range(len(message)):
    with pytest.raises(SealError):
      unseal(key, message[:size])
  chunk = sealed_format.SEALED_CHUNK_BYTES
  for size in (0, chunk, 2 * chunk):
    with pytest.raises(ValueError, match="not full"):
      sealed_format.size_in_chunks(size)


# ---------------------------------------------------------------- Deep-Lock

TOY_BOX = np.array([12, 5, 6, 11, 9, 0, 10, 13, 3, 14, 15, 8, 4, 7, 1, 2])


def toy_step(state: tuple[int, int], i: int) -> tuple[int, int]:
  """Return the next state of a schedule with two words of 4 bits."""
  turned = (state[1] << 1 | state[1] >> 3) & 15
  return state[1], state[0] ^ int(TOY_BOX[turned]) ^ i


def test_chains_run_backwards() -> None:
  states = list(itertools.product(range(16), repeat=2))
  for i in range(16):
    assert len({toy_step(s, i) for s in states}) == len(states)
  words = RNG.integers(0, 2**32, (4, 3), np.uint32)  # [Nk, candidates]
  at = np.full(3, 4)
  following = key_schedule.after(list(words), at)
  window = [*words[1:], following]
  back = key_schedule.before(window, at - 3)
  assert (back == words[0]).all()


def test_known_words_leave_keys() -> None:
  place = 3  # The keystream is words 2, 3, ... of the schedule.
  streams: dict[tuple[int, ...], list[tuple[int, int]]] = {}
  for key in itertools.product(range(16), repeat=2):
    state = key
    for i in range(place):
      state = toy_step(state, i)
    for known in (state[:1], state):
      streams.setdefault(known, []).append(key)
  for known, keys in streams.items():
    assert len(keys) == 16 ** (2 - len(known))
