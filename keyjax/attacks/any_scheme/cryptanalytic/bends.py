"""Where a piecewise linear oracle bends along lines, and by how much.

Along a line, a network of ReLUs is a chain of straight pieces; a bend is where
a neuron switches. All arithmetic is in NumPy's float64, whatever the oracle's
precision: differences of logits would lose half of their digits in float32.
"""

from typing import NamedTuple

import jax
import numpy as np

from keyjax.attacks.views import Oracle

# Slopes are measured over an eighth at either end of an interval.
_END = 1 / 8
# Differences below this many times the rounding count as straight.
_SLACK = 64.0
_DEPTH = 40
_RANK = 0.05  # Largest share of a jump that is not of rank one.
_TRIES = 6  # Each with half the step of the one before.


class Unsuitable(Exception):
  """The oracle is of another kind, or allows no more queries."""


class FlatOracle:
  """An oracle over flat inputs in the unit cube.

  Attributes:
    shape: Shape of an image.
    size: Number of values of an image.
    noise: Rounding of a logit; `listen` measures it.
  """

  def __init__(self, oracle: Oracle, shape: tuple[int, ...]) -> None:
    """Wrap an oracle.

    Args:
      oracle: The authorised model.
      shape: Shape of one image.
    """
    self._oracle = oracle
    self.shape = shape
    self.noise = 0.0
    self.size = int(np.prod(shape))
    self._dtype = jax.dtypes.canonicalize_dtype(np.float64)

  def round(self, x: np.ndarray) -> np.ndarray:
    """Return float64 inputs that the oracle's precision holds exactly."""
    return x.astype(self._dtype).astype(np.float64)

  def __call__(self, x: np.ndarray) -> np.ndarray:
    """Return the logits, float64[n, classes], of float64[n, size].

    Raises:
      Unsuitable: If too few queries are left.
    """
    if len(x) > self._oracle.left:
      raise Unsuitable(f"the queries ran out: {self._oracle.used} were asked")
    images = x.reshape(-1, *self.shape).astype(self._dtype)
    parts = []
    start = 0
    while start < len(x):
      # Powers of two: a handful of compiled shapes, and no query wasted.
      count = 1 << ((len(x) - start).bit_length() - 1)
      parts.append(self._oracle(images[start : start + count]))
      start += count
    return np.concatenate(parts).astype(np.float64)

  def listen(self, rng: np.random.Generator) -> None:
    """Measure the rounding: second differences over steps too short to bend."""
    here = rng.random((16, 1, self.size)) * 0.5 + 0.25
    there = rng.normal(size=here.shape) * np.arange(5)[:, None] * 1e-4
    logits = self((here + there).reshape(-1, self.size)).reshape(16, 5, -1)
    second = np.abs(np.diff(logits, 2, axis=1)).max((1, 2))
    least = np.finfo(self._dtype).eps * np.abs(logits).max()
    self.noise = max(float(np.median(second)), float(least))


class Bends(NamedTuple):
  """Bends on lines.

  Attributes:
    point: float64[n, size].
    line: float64[n, size], from one end of the line to the other.
    jump: float64[n, classes], by which the slope along `line` changes.
    reach: float64[n], distance to the next bend or end, in units of `line`.
  """

  point: np.ndarray
  line: np.ndarray
  jump: np.ndarray
  reach: np.ndarray

  def take(self, which: np.ndarray | slice) -> "Bends":
    """Return some of the bends."""
    return Bends(*(x[which] for x in self))


def find(
  oracle: FlatOracle, start: np.ndarray, end: np.ndarray, most: int
) -> Bends:
  """Find where the logits bend between pairs of points.

  An interval with the same slope at both ends is straight; one whose ends,
  extended, meet in a point that the oracle confirms has one bend; any other is
  halved. All lines advance together.

  Args:
    oracle: The authorised model.
    start: float64[lines, size].
    end: float64[lines, size].
    most: Largest number of bends of a line: one for each neuron.

  Raises:
    Unsuitable: If too few queries are left, or the logits are not piecewise
      linear along lines, as with smooth activations.
  """
  way = end - start
  line = np.arange(len(start))
  low, high = np.zeros(len(start)), np.ones(len(start))
  found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
  for _ in range(_DEPTH):
    bent, meets, at, jump = _judge(oracle, start, way, line, low, high)
    found.append((line[meets], at[meets], jump[meets]))
    open_ = bent & ~meets
    middle = (low + high)[open_] / 2
    line = np.concatenate([line[open_]] * 2)
    low, high = (
      np.concatenate([low[open_], middle]),
      np.concatenate([middle, high[open_]]),
    )
    if not len(line):
      break
    if np.max(np.bincount(line)) > 2 * most + 2:
      raise Unsuitable("the logits are not piecewise linear along lines")
  lines, ats, jumps = (np.concatenate(x) for x in zip(*found, strict=True))
  return Bends(
    start[lines] + ats[:, None] * way[lines],
    way[lines],
    jumps,
    _reach(lines, ats),
  )


def _judge(
  oracle: FlatOracle,
  start: np.ndarray,
  way: np.ndarray,
  line: np.ndarray,
  low: np.ndarray,
  high: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """Return which intervals bend, which bend once, where, and by how much."""

  def at(times: np.ndarray, of: np.ndarray) -> np.ndarray:
    return oracle(start[of] + times[:, None] * way[of])

  width = high - low
  step = _END * width
  times = np.stack([low, low + step, high - step, high])
  a, b, c, d = np.split(at(times.ravel(), np.tile(line, 4)), 4)
  left, right = (b - a) / step[:, None], (d - c) / step[:, None]
  slack = _SLACK * oracle.noise
  bent = np.abs(a + left * width[:, None] - d).max(-1) > slack
  bent |= np.abs(a + right * width[:, None] - d).max(-1) > slack
  gap = left - right
  ahead = (gap * (d - a - right * width[:, None])).sum(-1)
  ahead = ahead / np.maximum((gap**2).sum(-1), 1e-300)
  meets = bent & (ahead > step) & (ahead < width - step)
  where = np.flatnonzero(meets)
  if len(where):
    # Before the meeting point one line must hold, after it the other.
    times = ahead[where] + step[where] * np.array([[-0.25], [0.0], [0.25]])
    lines = np.stack(
      [
        a[where] + left[where] * times[0, :, None],
        a[where] + left[where] * times[1, :, None],
        d[where] + right[where] * (times[2] - width[where])[:, None],
      ]
    )
    got = at((low[where] + times).ravel(), np.tile(line[where], 3))
    wrong = np.abs(got.reshape(lines.shape) - lines).max(-1)
    meets[where] = (wrong < slack).all(0)
  return bent, meets, low + ahead, -gap


def _reach(line: np.ndarray, at: np.ndarray) -> np.ndarray:
  """Return the distance of each bend from its neighbours on the line."""
  distance = np.empty(len(at))
  for one in np.unique(line):
    here = np.flatnonzero(line == one)
    here = here[np.argsort(at[here])]
    gaps = np.diff(np.concatenate([[0.0], at[here], [1.0]]))
    distance[here] = np.minimum(gaps[:-1], gaps[1:])
  return distance


def row(
  oracle: FlatOracle, found: Bends, index: int
) -> tuple[np.ndarray, float, np.ndarray] | None:
  """Read the neuron that switches at a bend.

  The gradient of the logits changes there by `w a^T`: the neuron's row times
  its outgoing weights, a matrix of rank one. Gradients are differences along
  the axes, on both sides of the bend.

  Args:
    oracle: The authorised model.
    found: Bends.
    index: Index of the bend to read.

  Returns:
    The row, of norm 1, its bias and the outgoing weights, all up to a common
    sign; None if other neurons are too near.

  Raises:
    Unsuitable: If too few queries are left.
  """
  point, line = found.point[index], found.line[index]
  aside = 0.5 * found.reach[index] * line
  step = min(0.5, 0.25 * found.reach[index] * float(np.linalg.norm(line)))
  for _ in range(_TRIES):
    ahead, behind = (
      _gradient(oracle, point + s * aside, step) for s in (1, -1)
    )
    if ahead is not None and behind is not None:
      left, size, right = np.linalg.svd(ahead - behind, full_matrices=False)
      if size[1:].sum() < _RANK * size[0]:
        return left[:, 0], -float(left[:, 0] @ point), size[0] * right[0]
    step /= 2
  return None


def _gradient(
  oracle: FlatOracle, point: np.ndarray, step: float
) -> np.ndarray | None:
  """Return the gradient, float64[size, classes]; None where it is not one."""
  point = oracle.round(point)
  inward = np.where(point < 0.5, step, -step)
  # Three more steps, each along a third of the axes, that it must predict.
  thirds = [inward * (np.arange(oracle.size) % 3 == i) for i in range(3)]
  other = np.stack(thirds) / np.sqrt(oracle.size)
  near = oracle.round(point + np.concatenate([np.diag(inward), other]))
  logits = oracle(np.concatenate([point[None], near]))
  change = logits[1:] - logits[0]
  moved = near - point
  gradient = change[:-3] / np.diag(moved)[:, None]
  error = np.abs(moved[-3:] @ gradient - change[-3:]).max()
  return gradient if error < _SLACK * oracle.noise else None
