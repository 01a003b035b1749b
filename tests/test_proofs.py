"""The statements of docs/proofs.md at small sizes, most by exhaustion."""

import itertools
import math
import re
from fractions import Fraction

import numpy as np
import pytest

from keyjax.aes import ctr
from keyjax.aes.substitution import SBOX
from keyjax.attacks.deep_lock import key_schedule
from keyjax.errors import SealError
from keyjax.schemes import counter, pixel_shuffle
from keyjax.schemes.feistel import _ffx, ffx_table
from keyjax.seal import format as sealed_format
from keyjax.seal import seal, unseal
from tests.conftest import ROOT

RNG = np.random.default_rng(0)


def test_every_statement_has_its_test() -> None:
  named = re.findall(r"\[`(\w+)`\]", (ROOT / "docs/proofs.md").read_text())
  tests = {name.removeprefix("test_") for name in globals()}
  assert len(named) > 15 and set(named) <= tests


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


# ------------------------------------------------------------- SHF, NP, FFX


def test_shuffles_that_act_alike() -> None:
  grey = np.array([[1, 1, 2, 2], [3, 3, 5, 5]])  # Classes of 2 and 2.
  cases = [
    (grey, math.factorial(4) // 4),
    (np.array([[1, 1, 1, 2]]), 4),
    (np.array([[1, 2, 3, 4]]), 24),
    (np.array([[1, 1, 2, 3], [4, 5, 5, 6]]), 24),  # No two are always equal.
  ]
  for images, count in cases:
    keys = list(itertools.permutations(range(4)))
    seen = {images[:, key].tobytes() for key in map(list, keys)}
    assert len(seen) == count
  block = np.array([7, 7, 9, 9])  # One pair leaves 2! 2! keys.
  shown = block[[2, 0, 3, 1]]
  fit = [
    k
    for k in itertools.permutations(range(4))
    if (block[list(k)] == shown).all()
  ]
  assert len(fit) == 4
  assert math.factorial(12) // 6**4 == 369_600


@pytest.mark.parametrize("n", [3, 4, 5, 6])
def test_masks(n: int) -> None:
  masks = [
    tuple(pixel_shuffle.balanced_mask(np.array(order)))
    for order in itertools.permutations(range(n))
  ]
  ones = n - 1 - n // 2
  distinct = set(masks)
  assert all(sum(m) == ones for m in distinct)
  assert len(distinct) == math.comb(n, ones)
  assert {masks.count(m) for m in distinct} == {
    math.factorial(n) // len(distinct)
  }
  # Two masks act alike where they differ only at values of one half.
  blocks = RNG.integers(0, 256, (3, n)) / 255
  for image in (blocks, np.where(np.arange(n) < 2, 0.5, blocks)):
    neutral = (image == 0.5).all(0)
    for a, b in itertools.combinations(map(np.array, sorted(distinct)), 2):
      alike = (
        np.where(a, 1 - image, image) == np.where(b, 1 - image, image)
      ).all()
      assert alike == neutral[a != b].all()


def test_ffx_tables() -> None:
  values = [_ffx(b"password", v) for v in range(1000)]
  assert sorted(values) == list(range(1000))
  assert values[:256] == ffx_table(b"password").tolist()
  # Three values, tables into four, a block of four with one place masked.
  keys = itertools.product(range(4), itertools.permutations(range(4), 3))
  seen: dict[tuple, list[tuple]] = {}
  for masked, table in keys:
    shown = tuple(
      Fraction(table[v] if place == masked else v, max(table))
      for place in range(4)
      for v in range(3)
    )
    seen.setdefault(shown, []).append(table)
  alike = [tables for tables in seen.values() if len(tables) > 1]
  assert alike == [[(0, 1, 2)] * 4]  # Only the identity hides its mask.


# ---------------------------------------------------------------------- HPNN


def test_signs_of_a_schedule() -> None:
  units, waves = 3, 2
  orders = list(itertools.permutations(range(units)))
  seen = {
    tuple(bits[u] for order in chosen for u in order)
    for bits in itertools.product((0, 1), repeat=units)
    for chosen in itertools.product(orders, repeat=waves)
  }
  assert len(seen) == sum(
    math.comb(units, t) ** waves for t in range(units + 1)
  )
  partial = {
    tuple(bits[u] for u in order[:2])
    for bits in itertools.product((0, 1), repeat=units)
    for order in orders
  }
  assert len(partial) == 2**2


def vectors(n: int) -> list[np.ndarray]:
  """Return all vectors of n signs."""
  return [np.array(s) for s in itertools.product((1, -1), repeat=n)]


def test_equivalent_signs() -> None:
  x = RNG.integers(-9, 10, (64, 2))
  inputs = np.concatenate([x, np.ones((64, 1), int)], axis=1)
  general = RNG.integers(1, 90, (4, 3))
  dead = general * [[1], [1], [1], [0]]
  opposite = np.array([[1, 2, 3], [2, 4, 6], [5, 1, 7], [3, 8, 2]])
  v = np.array([2, -1, 3, 1])
  classes = []
  for w in (general, dead, opposite):  # [neurons, inputs and bias]

    def out(signs: np.ndarray, w: np.ndarray = w) -> np.ndarray:
      return np.maximum(inputs @ w.T * signs, 0) @ v

    for a, b in itertools.product(vectors(4), repeat=2):
      linear = (np.where(a != b, a * v, 0)[:, None] * w).sum(0)
      assert (out(a) - out(b) == inputs @ linear).all()
      assert (out(a) == out(b)).all() == (linear == 0).all()
    classes.append(len({out(a).tobytes() for a in vectors(4)}))
  assert classes[0] == 16 and classes[1] == 8
  assert classes[2] < 16  # v_0 w_0 = -v_1 w_1: both or neither.


def test_flips_of_whole_layers() -> None:
  w = RNG.normal(size=(3, 2, 2))
  b = RNG.normal(size=(3, 2))
  x = RNG.normal(size=(16, 2))
  head = RNG.normal(size=2)

  def classes(activation, biases: np.ndarray) -> list[int]:
    seen: dict[tuple, int] = {}
    for signs in itertools.product(vectors(2), repeat=3):
      a = x
      for row, kernel, bias in zip(signs, w, biases, strict=True):
        a = activation(row * (a @ kernel + bias))
      shown = tuple(np.round(a @ head, 9) + 0.0)
      seen[shown] = seen.get(shown, 0) + 1
    return sorted(seen.values())

  first_bias = b * [[1], [0], [0]]
  assert classes(np.tanh, first_bias) == [4] * 16  # 2^(3 - 1).
  assert classes(np.tanh, b) == [1] * 64
  assert classes(lambda z: np.maximum(z, 0), first_bias) != [4] * 16
  assert classes(np.cos, b) == [64]


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


# ---------------------------------------------------------------- AdvParams


def test_values_of_a_changed_weight() -> None:
  low, high, step = -30, 30, 7
  for changes, plain in itertools.product(
    (1, 2, 3, 5), range(low, high + 1, 5)
  ):
    reached = set()
    for signs in itertools.product((1, -1), repeat=changes):
      value = plain
      for sign in signs:
        raw = value + sign * step
        value = min(max(raw, low), high)
        reached.add(value)
        if value != raw:
          break
    assert len(reached) <= 2 * changes + 3
    grid = {plain + j * step for j in range(-changes, changes + 1)}
    assert reached <= grid | {low, high}


@pytest.mark.parametrize("n, values", [(4, 5), (5, 4), (6, 3)])
def test_repeated_values(n: int, values: int) -> None:
  draws = list(itertools.product(range(values), repeat=n))
  most = [max(map(draw.count, draw)) for draw in draws]
  for r in range(2, n + 1):
    found = Fraction(sum(m >= r for m in most), len(draws))
    assert found <= math.comb(n, r) * Fraction(1, values) ** (r - 1)
  assert math.comb(10**5, 8) * Fraction(1, 2**20) ** 7 < Fraction(1, 2**22)


def test_repairs_add_up() -> None:
  n, v, changed = 12, 4, 3
  plain = RNG.integers(0, v, n)
  locked = plain.copy()
  locked[:changed] = (locked[:changed] + 1) % v
  evaluations = 0
  for _ in range(changed):
    losses = {}
    for i, value in itertools.product(range(n), range(v)):
      trial = locked.copy()
      trial[i] = value
      losses[i, value] = int((trial != plain).sum())
      evaluations += 1
    place, value = min(losses, key=lambda at: losses[at])
    locked[place] = value
  assert (locked == plain).all()
  assert evaluations == changed * n * v < math.comb(n, changed) * v**changed


def test_changes_in_range_are_at_the_ends() -> None:
  n, changed, theta = 10_000, 8, 0.1
  plain = RNG.normal(size=n)
  low, high = plain.min(), plain.max()
  band = theta * (high - low)

  def at_the_ends(w: np.ndarray) -> np.ndarray:
    return (w <= low + band) | (w >= high - band)

  places = np.flatnonzero(~at_the_ends(plain))[:changed]
  share = RNG.random(changed) * band
  locked = plain.copy()
  locked[places] = np.where(
    RNG.random(changed) < 0.5, low + share, high - share
  )
  found = at_the_ends(locked)
  assert found[places].all()
  assert found.sum() == changed + at_the_ends(plain).sum() < n // 100
  expected = 1e5 * math.erfc(4.4 * (1 - 2 * theta) / math.sqrt(2))
  assert 42 < expected < 44
