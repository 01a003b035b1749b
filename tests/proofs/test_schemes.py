"""Schemes in docs/proofs.md at small sizes, most by exhaustion."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from keyjax.schemes import pixel_shuffle
from keyjax.schemes.feistel import _ffx, ffx_table

RNG = np.random.default_rng(0)


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
