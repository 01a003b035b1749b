"""One optimised point against a support vector machine, with its control.

100 training points of two classes, 500 for validation, where there are as many;
linear kernel, C = 1, as published. The control is where the ascent starts: a
clone of a training point with the other label.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.poisons import base
from keyjax.attacks.poisoning import svm

TITLE = "One point against a support vector machine"
SENTENCE = (
  "A single training point, moved by gradient ascent, multiplies the error of "
  "a support vector machine; the same wrong label on a clone does not."
)
DATASETS = ("digits", "mnist")
AXIS = "poisoned points among 100"

_PAIRS = ((7, 1), (9, 8), (4, 0))
_TRAIN, _HELD, _COST = 100, 500, 1.0
_POINTS = 6
_CLONED = 1
_PROTOTYPE = {
  ("mnist", 7, 1): (1.97, 1.89, 8.06, 19.9),
  ("mnist", 9, 8): (4.36, 4.44, 18.25, 35.5),
  ("mnist", 4, 0): (0.94, 1.03, 14.97, 41.0),
  ("digits", 9, 8): (2.6, None, 4.4, None),
}


class _Task(NamedTuple):
  """Points of two classes, float64[n, d] and labels 1 or -1."""

  train: tuple[np.ndarray, np.ndarray]
  held: tuple[np.ndarray, np.ndarray]
  test: tuple[np.ndarray, np.ndarray]


def run(lab: base.Lab) -> list[base.Figure]:
  """Return the error by number of points, optimised or cloned."""
  figures = []
  for pair in _PAIRS:
    figures += _linear(lab, pair)
  return [*figures, *_gaussian(lab, _PAIRS[1])]


def _linear(lab: base.Lab, pair: tuple[int, int]) -> list[base.Figure]:
  task, title = _task(lab, pair), "{} against {}".format(*pair)
  found = _attack(lab, task, svm.LINEAR, _POINTS)
  targets = _targets(lab, pair)
  shape = lab.train.image.shape[1:]
  pictures = np.stack([found.start[0], found.point[0]]).reshape(2, *shape)
  lab.show("svm", f"{title}: a clone, and what it becomes", pictures)
  curve = f"{title}: error"
  figures = [
    base.share(
      f"{title}, no point: error", _wrong(task), targets[0], curve, 0.0
    )
  ]
  for count in (1, _POINTS):
    many = f"{count} clone{'s'[: count > 1]}, other label"
    clones = _wrong(task, found.start[:count], found.label[:count])
    target = targets[1] if count == 1 else ""
    figures.append(base.share(f"{title}, {many}: error", clones, target))
  for count in range(1, _POINTS + 1):
    many = f"{count} optimised point{'s'[: count > 1]}"
    wrong = _wrong(task, found.point[:count], found.label[:count])
    target = {1: targets[2], _POINTS: targets[3]}.get(count, "")
    figures.append(
      base.share(f"{title}, {many}: error", wrong, target, curve, float(count))
    )
  return figures


def _gaussian(lab: base.Lab, pair: tuple[int, int]) -> list[base.Figure]:
  """Return the same for one point and a Gaussian kernel."""
  task = _task(lab, pair)
  # Twice the gamma that scikit-learn calls "scale".
  points = task.train[0]
  kernel = svm.Kernel(2 / float(points.shape[1] * points.var()))
  title = "{} against {}, Gaussian kernel".format(*pair)
  found = _attack(lab, task, kernel, 1)
  rows = {
    "no point": _wrong(task, kernel=kernel),
    "1 clone, other label": _wrong(task, found.start, found.label, kernel),
    "1 optimised point": _wrong(task, found.point, found.label, kernel),
  }
  return [base.share(f"{title}, {k}: error", v) for k, v in rows.items()]


def _targets(lab: base.Lab, pair: tuple[int, int]) -> list[str]:
  found = _PROTOTYPE.get((lab.dataset.name, *pair), (None,) * 4)
  return ["" if x is None else f"{x} % (prototype)" for x in found]


def _task(lab: base.Lab, pair: tuple[int, int]) -> _Task:
  def points(images: np.ndarray, labels: np.ndarray) -> tuple[Any, Any]:
    own = np.isin(labels, pair)
    flat = images[own].reshape(int(own.sum()), -1)
    return flat, np.where(labels[own] == pair[0], 1, -1)

  x, y = points(*lab.train)
  order = np.random.default_rng(lab.seed).permutation(len(y))
  cut = min(_TRAIN, len(y) // 2)
  train, held = order[:cut], order[cut : cut + _HELD]
  return _Task((x[train], y[train]), (x[held], y[held]), points(*lab.test))


def _attack(
  lab: base.Lab, task: _Task, kernel: svm.Kernel, points: int
) -> svm.Poison:
  return svm.attack(
    *task.train,
    *task.held,
    solve=solve,
    cost=_COST,
    kernel=kernel,
    points=points,
    rng=jax.random.fold_in(lab.rng, _CLONED),
  )


def solve(gram: np.ndarray, labels: np.ndarray) -> svm.Dual:
  """Train a support vector machine with scikit-learn, C = 1."""
  from sklearn.svm import SVC  # Here, because it takes seconds.

  machine = SVC(C=_COST, kernel="precomputed", tol=1e-5).fit(gram, labels)
  alpha = np.zeros(len(labels))
  alpha[machine.support_] = np.abs(machine.dual_coef_[0])
  return svm.Dual(alpha, float(machine.intercept_[0]))


def _wrong(
  task: _Task,
  points: np.ndarray | None = None,
  labels: np.ndarray | None = None,
  kernel: svm.Kernel = svm.LINEAR,
) -> np.ndarray:
  """Return which test points the machine gets wrong, bool[n]."""
  x, y = task.train
  if points is not None and labels is not None:
    x, y = np.concatenate([x, points]), np.append(y, labels)
  machine = solve(kernel.gram(x, x), y)
  scores = kernel.gram(task.test[0], x) @ (machine.alpha * y) + machine.bias
  return np.where(scores > 0, 1, -1) != task.test[1]
