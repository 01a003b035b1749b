"""Dataset inference: was a model made from the owner's training data?

Examples that a model was trained on are further from its decision boundary. The
owner measures distances under their own model, of training data and of data
that no model saw; a regressor learns to tell the two apart; and it is tried on
the distances under a suspect. If it is surer of the owner's data than of other
data, by a t-test, the suspect is said to be a copy.

It is no proof of ownership: it has false alarms by design, at the level of the
test, more where independent models learn from similar data (Szyller et al.),
and no power where a model is as sure of new data as of its own. Measure both
before any use (docs/attacks/copies.md). Marks (`keyjax.licensee_mark`) prove.

Needs: training data that nobody else has, and as much data that no model saw;
`blind_walk` needs classes alone, `margins` the suspect's weights.

References:
  Pratyush Maini, Mohammad Yaghini and Nicolas Papernot, "Dataset Inference:
  Ownership Resolution in Machine Learning", ICLR 2021. Sebastian Szyller, Rui
  Zhang, Jian Liu and N. Asokan, "On the Robustness of Dataset Inference", TMLR
  2023.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from keyjax.arguments import (
  describe,
  require_apply,
  seed_number,
  whole_number,
)
from keyjax.attacks.evasion.jacobian import gradients
from keyjax.attacks.privacy import signals, stacked
from keyjax.scheme import ApplyFn, PyTree

LAWS = ("uniform", "normal", "laplace")  # Of the directions of a walk.
_TINY = 1e-12


class Regressor(NamedTuple):
  """A linear function of distances: about 1 for training data, else -1.

  The authors use a linear network of two layers with a tanh; its ridge
  regression has one solution, and no seed.

  Attributes:
    mean: float64[f], of the distances that it was fitted on.
    scale: float64[f], their standard deviations.
    weights: float64[f + 1], the last for the constant.
  """

  mean: np.ndarray
  scale: np.ndarray
  weights: np.ndarray


class Decision(NamedTuple):
  """Result of the test of a suspect.

  Attributes:
    p: Probability of so large a difference if there is none, one-sided; 1
      if nothing can be compared.
    effect: Difference of the mean confidences, training data less other data.
  """

  p: float
  effect: float


def blind_walk(
  apply_fn: ApplyFn,
  params: PyTree,
  inputs: Any,
  *,
  directions: int = 5,
  steps: int = 20,
  step: float = 0.05,
  seed: int = 0,
  shared: Mapping[str, PyTree] | None = None,
) -> np.ndarray:
  """Return how far one walks in random directions until the class changes.

  It asks for `3 directions steps + 1` classes of each input, no more.

  Args:
    apply_fn: Forward pass, called as `apply_fn(variables, inputs)`.
    params: Variables of a model.
    inputs: float[n, ...] in [0, 1], where the walk stays.
    directions: Number of directions of each law in `LAWS`.
    steps: Number of steps.
    step: Root mean square of a step, over pixels.
    seed: Seed of the directions, which are the same for each model.
    shared: As in `privacy.shadows.train`, such as a key.

  Returns:
    float64[n, 3 directions], distances, as root mean squares; one step more
    than all where the class does not change.

  Raises:
    ValueError: If an argument is wrong, or the model answers NaN before the
      class changes: it has no class there, and the input would seem far from
      any other one.
    TypeError: If apply_fn is no function.

  Example:
    >>> far = jnp.full((1, 4), 0.9)
    >>> near = jnp.full((1, 4), 0.51)
    >>> def apply_fn(params, x):
    ...   return jnp.stack([x.mean(-1), params["bar"] - x.mean(-1)], -1)
    >>> walk = functools.partial(blind_walk, apply_fn, {"bar": jnp.ones(())})
    >>> bool(walk(far).mean() > walk(near).mean())
    True
  """
  require_apply(apply_fn, "blind_walk: apply_fn")
  directions = whole_number(directions, "directions")
  steps = whole_number(steps, "steps")
  size = signals.check_above(step, "step", 0)
  x = _inputs(inputs)
  shared = stacked.check_shared(shared)
  rng = np.random.default_rng(seed_number(seed))
  found = []
  for law in LAWS:
    for _ in range(directions):
      way = _direction(rng, law, x.shape)
      run = _walk(apply_fn, steps)
      walked = np.asarray(run(params, shared, x, size * way), np.float64)
      if np.isnan(walked).any():
        raise ValueError(
          f"blind_walk: the model answers NaN to {np.isnan(walked).sum()} of "
          f"{len(walked)} inputs, or on the way: it has no class there"
        )
      found.append(size * walked)
  return np.stack(found, 1)


def _direction(
  rng: np.random.Generator, law: str, shape: tuple[int, ...]
) -> np.ndarray:
  """Return directions, float32[n, ...], of root mean square 1 each."""
  draws: dict[str, Callable[[], np.ndarray]] = {
    "uniform": lambda: rng.uniform(-1, 1, shape),
    "normal": lambda: rng.standard_normal(shape),
    "laplace": lambda: rng.laplace(size=shape),
  }
  way = draws[law]()
  axes = tuple(range(1, len(shape)))
  size = np.sqrt((way**2).mean(axes, keepdims=True))
  return np.asarray(way / np.maximum(size, _TINY), np.float32)


@functools.lru_cache(maxsize=8)
def _walk(apply_fn: ApplyFn, steps: int) -> Callable[..., jax.Array]:
  """Return a compiled walk: the number of the step that changes the class.

  It is NaN if the model has no class before.
  """

  @jax.jit
  def walk(
    params: PyTree, shared: Any, x: jax.Array, way: jax.Array
  ) -> jax.Array:
    variables = stacked.with_shared(params, shared)

    def classes(at: jax.Array) -> tuple[jax.Array, jax.Array]:
      logits = apply_fn(variables, at)
      _require_logits(logits, len(at))
      return jnp.argmax(logits, -1), jnp.isnan(logits).any(-1)

    own, unknown = classes(x)

    def go(length: jax.Array, i: jax.Array) -> tuple[jax.Array, None]:
      found, lost = classes(jnp.clip(x + i * way, 0, 1))
      reached = jnp.where(lost, jnp.nan, i)
      moved = (lost | (found != own)) & (length > steps)
      return jnp.where(moved, reached, length), None

    start = jnp.where(unknown, jnp.nan, jnp.float32(steps + 1))
    counts = jnp.arange(1, steps + 1, dtype=jnp.float32)
    return jax.lax.scan(go, start, counts)[0]

  return walk


def margins(
  apply_fn: ApplyFn,
  params: PyTree,
  inputs: Any,
  *,
  shared: Mapping[str, PyTree] | None = None,
) -> np.ndarray:
  """Return the distance to each other class, of the linearised model.

  It is the first step of DeepFool: exact where the model is linear on the way.
  It needs the weights.

  Args:
    apply_fn: Forward pass, called as `apply_fn(variables, inputs)`.
    params: Variables of a model.
    inputs: float[n, ...] in [0, 1].
    shared: As in `privacy.shadows.train`, such as a key.

  Returns:
    float64[n, c - 1], Euclidean distances, least first.

  Raises:
    ValueError: If an argument is wrong, or logits or slopes are not finite.
    TypeError: If apply_fn is no function.

  Example:
    >>> weights = {"w": jnp.asarray([[3.0, 0.0], [4.0, 0.0]])}
    >>> found = margins(lambda p, x: x @ p["w"], weights, jnp.ones((1, 2)))
    >>> found.round(3).tolist()
    [[1.4]]
  """
  require_apply(apply_fn, "margins: apply_fn")
  run = _margins(apply_fn)
  shared = stacked.check_shared(shared)
  found = np.asarray(run(params, shared, _inputs(inputs)))
  bad = ~np.isfinite(found).all((0, 2))
  if bad.any():
    raise ValueError(
      f"margins: the model's logits, or their slopes, are NaN or infinite for "
      f"{bad.sum()} of {len(bad)} inputs: there is no distance"
    )
  own = found[0].argmax(-1)  # [2, n, c]: logits, distances.
  keep = np.arange(found.shape[-1]) != own[:, None]
  return np.sort(found[1][keep].reshape(len(own), -1), -1).astype(np.float64)


@functools.lru_cache(maxsize=8)
def _margins(apply_fn: ApplyFn) -> Callable[..., jax.Array]:
  @jax.jit
  def distances(params: PyTree, shared: Any, x: jax.Array) -> jax.Array:
    variables = stacked.with_shared(params, shared)
    forward = functools.partial(apply_fn, variables)
    made = jax.eval_shape(forward, x)
    _require_logits(made, len(x))
    classes = made.shape[-1]
    each = jnp.broadcast_to(
      jnp.eye(classes)[:, None], (classes, len(x), classes)
    )
    logits, slopes = gradients(forward, x, each)  # slopes: [c, n, ...]
    at = jnp.argmax(logits, -1)
    slopes = slopes.reshape(classes, len(x), -1)
    apart = slopes[at, jnp.arange(len(x))][None] - slopes
    rise = jnp.max(logits, -1, keepdims=True) - logits  # [n, c]
    size = jnp.linalg.norm(apart, axis=-1).T
    return jnp.stack([logits, rise / jnp.maximum(size, _TINY)])

  return distances


def fit(private: Any, other: Any, ridge: float = 1.0) -> Regressor:
  """Fit a regressor on distances under the owner's model.

  Args:
    private: float[n, f], distances of training data.
    other: float[m, f], those of data that it was not trained on.
    ridge: Penalty of the weights, above 0.

  Raises:
    ValueError: If distances are no finite tables with the same columns, or
      the penalty is not above 0, or too small to tell columns apart that depend
      on one another.

  Example:
    >>> far, near = np.array([[2.0], [3.0]]), np.array([[0.0], [1.0]])
    >>> confidence(fit(far, near), far).round(2).tolist()
    [0.32, 0.96]
  """
  ours, theirs = _pair(private, other)
  ridge = signals.check_above(ridge, "ridge", 0)
  x = np.concatenate([ours, theirs])
  mean, scale = x.mean(0), x.std(0)
  scale = np.where(scale > _TINY, scale, 1.0)
  wide = _standardised(x, mean, scale)
  y = np.repeat([1.0, -1.0], [len(ours), len(theirs)])
  penalty = ridge * np.eye(wide.shape[1])
  penalty[-1, -1] = 0  # Not of the constant.
  try:
    weights = np.linalg.solve(wide.T @ wide + penalty, wide.T @ y)
  except np.linalg.LinAlgError:
    raise ValueError(
      f"ridge={ridge:g}: too small, as columns of the distances depend on one "
      "another"
    ) from None
  return Regressor(mean, scale, weights)


def confidence(regressor: Regressor, distances: Any) -> np.ndarray:
  """Return the regressor's value for each row of distances, float64[n]."""
  found = signals.check_values(distances, "distances", (2,), finite=True)
  wide = _standardised(found, regressor.mean, regressor.scale)
  return np.asarray(wide @ regressor.weights)


def decide(regressor: Regressor, private: Any, other: Any) -> Decision:
  """Test if a suspect is surer of the owner's data: Welch's t-test, one-sided.

  Args:
    regressor: Result of `fit`, on other rows than these.
    private: float[n, f], distances of the owner's data under the suspect.
    other: float[m, f], those of data that no model saw.

  Raises:
    ValueError: If distances are no finite tables with the same columns.

  Example:
    >>> far, near = np.array([[2.0], [3.0]]), np.array([[0.0], [1.0]])
    >>> found = decide(fit(far, near), far, near)
    >>> bool(found.p < 0.1), bool(found.effect > 0)
    (True, True)
  """
  ours, theirs = _pair(private, other)
  a, b = (confidence(regressor, x) for x in (ours, theirs))
  effect = float(a.mean() - b.mean())
  # Equal distances of a model that says one class to all: nothing differs.
  if min(len(a), len(b)) < 2 or np.ptp(np.concatenate([a, b])) < _TINY:
    return Decision(1.0, effect)
  found = scipy.stats.ttest_ind(a, b, equal_var=False, alternative="greater")
  return Decision(float(found.pvalue), effect)


def _standardised(
  x: np.ndarray, mean: np.ndarray, scale: np.ndarray
) -> np.ndarray:
  if x.shape[1] != len(mean):
    raise ValueError(
      f"distances have {x.shape[1]} columns; the regressor has {len(mean)}"
    )
  return np.concatenate([(x - mean) / scale, np.ones((len(x), 1))], 1)


def _pair(private: Any, other: Any) -> tuple[np.ndarray, np.ndarray]:
  ours = signals.check_values(private, "private", (2,), finite=True)
  theirs = signals.check_values(other, "other", (2,), finite=True)
  if ours.shape[1] != theirs.shape[1]:
    raise ValueError(
      f"private has {ours.shape[1]} columns of distances, other has "
      f"{theirs.shape[1]}"
    )
  return ours, theirs


def _require_logits(found: Any, n: int) -> None:
  """Raise a ValueError unless a model returns two classes or more."""
  shape: tuple[int, ...] = getattr(found, "shape", ())
  if len(shape) != 2 or shape[0] != n or shape[1] < 2:
    raise ValueError(
      f"apply_fn returns {describe(found)}: expected [{n}, classes], 2 classes "
      "or more"
    )


def _inputs(values: Any) -> jax.Array:
  found = signals.as_array(values)
  if found.ndim < 2 or 0 in found.shape or found.dtype.kind != "f":
    raise ValueError(f"inputs are {describe(found)}: pass floats, [n, ...]")
  if not (found.min() >= 0 and found.max() <= 1):
    raise ValueError("inputs must be in [0, 1]")
  return jnp.asarray(found, jnp.float32)
