"""One point against a support vector machine, moved by gradient ascent.

The attacker adds a point with a wrong label and moves it to where the hinge
loss on validation data is greatest. The solution of the machine moves with the
point: its derivative follows from the conditions that the margin support
vectors keep. The start, a clone of a training point with its label flipped, is
the control: what the wrong label alone does.

Needs: the training data, the machine and its settings. Cost: one training of
the machine for each step.

Reference:
  Battista Biggio, Blaine Nelson and Pavel Laskov, "Poisoning attacks against
  support vector machines", ICML 2012, arXiv:1206.6389.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from keyjax import labelled
from keyjax.arguments import describe, require_function, whole_number

_SHORT = 1e-3  # Share of the first step at which a point is done.
_FLAT = 1e-9  # Length of a gradient of which rounding is all that is left.
_MARGIN = 1e-6  # Multipliers this near to an end of their range are at it.


class Dual(NamedTuple):
  """A trained machine.

  Attributes:
    alpha: float64[n], multipliers of the training points, from 0 to C.
    bias: Constant of the decision function.
  """

  alpha: np.ndarray
  bias: float


# Function from a Gram matrix float64[n, n] and labels -1 or 1, float64[n].
Solve = Callable[[np.ndarray, np.ndarray], Dual]


class Kernel(NamedTuple):
  """A kernel K(a, b).

  Attributes:
    gamma: Of `exp(-gamma / 2 |a - b|^2)`; 0 for the linear one.
  """

  gamma: float = 0.0

  def gram(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return K of all pairs, float64[n, m]."""
    if not self.gamma:
      return a @ b.T
    squares = (a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2 * a @ b.T
    return np.exp(-0.5 * self.gamma * np.maximum(squares, 0))

  def gradient(self, a: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Return the derivatives of K(a, point) by the point, float64[n, d]."""
    if not self.gamma:
      return a
    values = self.gram(a, point[None])
    return self.gamma * values * (a - point)


LINEAR = Kernel()


class Poison(NamedTuple):
  """Points of an attack.

  Attributes:
    point: float64[p, d], the points.
    start: float64[p, d], where each began: clones, the control.
    label: int64[p], their labels, -1 or 1.
    loss: Validation hinge loss of each point's steps.
  """

  point: np.ndarray
  start: np.ndarray
  label: np.ndarray
  loss: list[np.ndarray]


class _Problem(NamedTuple):
  """Training points without the one that moves, and validation points."""

  inputs: np.ndarray
  labels: np.ndarray
  held: np.ndarray
  held_labels: np.ndarray
  kernel: Kernel
  solve: Solve
  cost: float
  gram: np.ndarray
  held_gram: np.ndarray


def attack(
  inputs: Any,
  labels: Any,
  held: Any,
  held_labels: Any,
  *,
  solve: Solve,
  cost: float,
  kernel: Kernel = LINEAR,
  attacked: int = 1,
  points: int = 1,
  step: float = 0.1,
  iterations: int = 80,
  bounds: tuple[float, float] = (0.0, 1.0),
  rng: jax.Array,
) -> Poison:
  """Find points that maximise the hinge loss on held-out data.

  They are found one after another: those that are found stay.

  Args:
    inputs: float[n, d], training points.
    labels: int[n], -1 or 1.
    held: float[m, d], validation points of the attacker.
    held_labels: int[m], -1 or 1.
    solve: Function that trains a machine; see `Solve`.
    cost: Its C, the greatest multiplier.
    kernel: Its kernel.
    attacked: Class whose points are cloned, -1 or 1.
    points: Number of points.
    step: Length of the first step; halved where the loss does not rise.
    iterations: Greatest number of steps of a point.
    bounds: Least and greatest value of a feature.
    rng: JAX PRNG key, of the points that are cloned.

  Raises:
    ValueError: If shapes, labels or numbers are wrong, or the class has too few
      points to clone.
    TypeError: If `solve` is no function.
  """
  require_function(solve, "svm: solve", "one that trains a machine")
  x, y = _points(inputs, labels, "inputs")
  v, w = _points(held, held_labels, "held")
  if v.shape[1] != x.shape[1]:
    raise ValueError(
      f"held have {v.shape[1]} features, and inputs {x.shape[1]}"
    )
  points = whole_number(points, "points")
  iterations = whole_number(iterations, "iterations")
  if not cost > 0 or not step > 0 or kernel.gamma < 0:
    raise ValueError(
      f"cost={cost}, step={step}, gamma={kernel.gamma}: above 0, gamma "
      "0 or more"
    )
  own = np.flatnonzero(y == attacked)
  if points > len(own):
    raise ValueError(
      f"points={points}: class {attacked} has {len(own)} points to clone"
    )
  clones = own[np.asarray(jax.random.permutation(rng, len(own)))[:points]]
  start, losses = x[clones], []
  for clone in start:
    problem = _Problem(
      x, y, v, w, kernel, solve, cost, kernel.gram(x, x), kernel.gram(v, x)
    )
    point, loss = _ascend(
      problem, clone, -float(attacked), step, iterations, bounds
    )
    x, y = np.vstack([x, point]), np.append(y, -attacked)
    losses.append(loss)
  return Poison(x[-points:], start, y[-points:].astype(np.int64), losses)


def _points(inputs: Any, labels: Any, name: str) -> tuple[Any, Any]:
  y = np.asarray(labels)
  if y.ndim != 1 or not len(y) or set(np.unique(y)) != {-1, 1}:
    raise ValueError(
      f"labels of {name} are {describe(y)}: pass -1 and 1, both at least once"
    )
  x = labelled.inputs(inputs, len(y), name)
  if x.ndim != 2:
    raise ValueError(f"{name} are {describe(x)}: pass float[n, d]")
  return x.astype(np.float64), y.astype(np.float64)


def _ascend(
  problem: _Problem,
  start: np.ndarray,
  label: float,
  step: float,
  iterations: int,
  bounds: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:
  """Return the best point, and the losses of the points that were tried.

  A step that does not raise the loss is taken again, half as long.
  """
  best, point, losses = start, start, [-np.inf]
  slope = np.zeros_like(start)
  length = step
  for _ in range(iterations + 1):
    loss, gradient = loss_and_gradient(problem, point, label)
    if loss > max(losses):
      best, slope = point, gradient
    else:
      length = length / 2
    losses.append(loss)
    size = np.linalg.norm(slope)
    if size < _FLAT or length < _SHORT * step:
      break
    point = np.clip(best + length * slope / size, *bounds)
  return best, np.asarray(losses[1:])


def loss_and_gradient(
  problem: _Problem, point: np.ndarray, label: float
) -> tuple[float, np.ndarray]:
  """Return the validation hinge loss with a point, and its derivative.

  Args:
    problem: Data and machine.
    point: float64[d].
    label: -1.0 or 1.0.
  """
  x = np.vstack([problem.inputs, point])
  y = np.append(problem.labels, label)
  kernel = problem.kernel
  column = kernel.gram(x, point[None])  # [n + 1, 1]
  gram = np.block([[problem.gram, column[:-1]], [column.T]])
  machine = problem.solve(gram, y)
  alpha = machine.alpha
  held_column = kernel.gram(problem.held, point[None])
  held_gram = np.hstack([problem.held_gram, held_column])
  slack = 1 - problem.held_labels * (held_gram @ (alpha * y) + machine.bias)
  wrong = slack > 0
  own = alpha[-1]
  # The point itself is taken to keep its multiplier.
  is_margin = (alpha > _MARGIN) & (alpha < problem.cost - _MARGIN)
  margin = np.flatnonzero(is_margin[:-1])
  q_wrong = problem.held_labels[wrong, None] * label * own  # [k, 1]
  slope = q_wrong * kernel.gradient(problem.held[wrong], point)
  if own > 0 and len(margin):
    q_margin = y[margin, None] * label * own
    moved = q_margin * kernel.gradient(x[margin], point)  # [s, d]
    signs = problem.held_labels[wrong, None] * y[margin]
    slope += (
      _response(
        gram[np.ix_(margin, margin)] * np.outer(y[margin], y[margin]),
        held_gram[np.ix_(np.flatnonzero(wrong), margin)] * signs,
        y[margin],
        problem.held_labels[wrong],
      )
      @ moved
    )
  return float(slack[wrong].sum()), -slope.sum(0)


def _response(
  q: np.ndarray, q_held: np.ndarray, y: np.ndarray, y_held: np.ndarray
) -> np.ndarray:
  """Return how held-out margins move with those of the point: M of eq. (9).

  The multipliers and the bias move so that margins stay 1 and multipliers stay
  balanced: one linear system, which has a solution where Q alone has none.

  Args:
    q: Q of the margin support vectors, [s, s].
    q_held: Q of held-out points and these, [k, s].
    y: Labels of the margin support vectors, [s].
    y_held: Labels of the held-out points, [k].
  """
  system = np.block([[np.zeros((1, 1)), y[None]], [y[:, None], q]])
  inverse = np.linalg.pinv(system, rcond=1e-10, hermitian=True)
  return -np.hstack([y_held[:, None], q_held]) @ inverse[:, 1:]
