"""Train copies of a model on what it answers, many of them side by side.

The copies may differ in their queries, in how many they have, and in what was
answered: each is trained on its own rows of one table. A step is that of `fit`,
which `any_scheme.extract` uses for one copy.

Needs: answers of a model, such as an API's. Cost: a training for each copy.

References:
  Tribhuvanesh Orekondy, Bernt Schiele and Mario Fritz, "Knockoff Nets: Stealing
  Functionality of Black-Box Models", CVPR 2019.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from keyjax import tasks
from keyjax.arguments import (
  describe,
  first_line,
  require_apply,
  require_function,
  seed_number,
)
from keyjax.attacks import fit
from keyjax.attacks.game import Examples
from keyjax.attacks.privacy import shadows, signals
from keyjax.scheme import ApplyFn, PyTree
from keyjax.tasks.task import Loss

_DEFAULT = fit.Recipe()
_LEAST = float(np.log(np.finfo(np.float32).tiny))  # A probability's logarithm.


class Read(NamedTuple):
  """Answers as an attacker reads them.

  Attributes:
    logits: float64[n, c], all finite.
    lost: Share of answers that said nothing.
  """

  logits: np.ndarray
  lost: float


def read(answers: Any) -> Read:
  """Return what answers say: all classes alike, where they say nothing.

  A model without its key may answer NaN; that tells an attacker nothing,
  but must not stop the training. Nor do positive infinity, and no class at all.
  Minus infinity is the logarithm of a probability of 0: it is read as one that
  a float32 just holds, next to that of the first class, or as the least of the
  answer's other numbers.

  Args:
    answers: float[n, c], logits or logarithms of probabilities.

  Raises:
    ValueError: If they are something else.

  Example:
    >>> read(np.array([[np.nan, 1.0], [0.0, 3.0]]))
    Read(logits=array([[0., 0.],
           [0., 3.]]), lost=0.5)
    >>> read(np.array([[-np.inf, 0.0]])).logits.round(1).tolist()
    [[-87.3, 0.0]]
  """
  found = signals.as_array(answers)
  if found.ndim != 2 or found.shape[-1] < 2 or found.dtype.kind != "f":
    raise ValueError(
      f"answers are {describe(answers)}: pass floats, [n, c], 2 or more classes"
    )
  found = found.astype(np.float64)
  is_zero = found == -np.inf
  known = (np.isfinite(found) | is_zero).all(-1, keepdims=True)
  known &= ~is_zero.all(-1, keepdims=True)
  logits = np.where(known & ~is_zero, found, 0.0)
  highest = np.where(is_zero, -np.inf, logits).max(-1, keepdims=True)
  lowest = np.where(is_zero, np.inf, logits).min(-1, keepdims=True)
  floor = np.minimum(highest + _LEAST, lowest)
  logits = np.where(known & is_zero, floor, logits)
  return Read(logits, float(1 - known.mean()) if len(found) else 0.0)


def swapped(answers: Any, seed: int = 0) -> np.ndarray:
  """Return the answers in another order: a control.

  They are those of a model, but each belongs to another query, and none to its
  own. What a copy still learns from them is what it would know without any
  answer.

  Args:
    answers: float[n, c], of 2 queries or more.
    seed: Seed of the order.

  Raises:
    ValueError: If there are fewer, or the seed is none.

  Example:
    >>> swapped(np.array([[1.0, 2.0], [3.0, 4.0]]))[:, 0].tolist()
    [3.0, 1.0]
  """
  found = np.asarray(answers)
  if found.ndim < 1 or len(found) < 2:
    raise ValueError(
      f"answers are {describe(found)}: pass those of 2 queries or more, or "
      "each would keep its own"
    )
  rng = np.random.default_rng(seed_number(seed))
  order = rng.permutation(len(found))
  own = np.flatnonzero(order == np.arange(len(order)))
  if len(own) == 1:  # It changes places with any other one.
    own = np.append(own, (own + 1) % len(order))
  order[own] = order[np.roll(own, 1)]
  return found[order]


def train(
  apply_fn: ApplyFn,
  init: Callable[[jax.Array], PyTree],
  answered: Examples,
  members: Any,
  recipe: fit.Recipe = _DEFAULT,
  seed: int = 0,
  *,
  steps: int = 500,
  chunk: int = 16,
  temperature: float = 1.0,
) -> PyTree:
  """Train k copies, each on its own rows of the answered queries.

  The loss is the cross-entropy to the answered probabilities. Copies with
  fewer rows than a batch train apart, in smaller batches, so that the others
  need not.

  Args:
    apply_fn: Forward pass of a copy, which need not be that of the model.
    init: Function from a PRNG key to the initial variables of a copy.
    answered: Queries [n, ...], and answers float[n, c], as logits.
    members: bool[k, n], the rows of each copy.
    recipe: Settings of training.
    seed: Seed of initial weights and orders.
    steps: Number of steps of each copy.
    chunk: Copies that are on the devices at the same time.
    temperature: What a copy's own logits are divided by in training, as in
      distillation: that of the answers, if an attacker knows it.

  Returns:
    Variables on the host, with a first axis over copies; see
    `privacy.stacked.answers`.

  Raises:
    ValueError: If an argument is wrong, a copy has no rows, an answer is not
      finite (see `read`), the temperature or the learning rate is not above 0,
      or a copy's weights become NaN.
    TypeError: If apply_fn or init is no function, answered no `Examples`, or
      recipe no `fit.Recipe`.

  Example:
    >>> x = np.eye(4, dtype=np.float32)
    >>> answered = Examples(x, 9 * np.eye(4)[:, ::-1])
    >>> init = lambda rng: {"w": 0.1 * jax.random.normal(rng, (4, 4))}
    >>> found = train(lambda params, x: x @ params["w"], init, answered,
    ...   np.ones((2, 4), bool), fit.Recipe(learning_rate=0.1), steps=50)
    >>> found["w"].argmax(-1).tolist()
    [[3, 2, 1, 0], [3, 2, 1, 0]]
  """
  require_apply(apply_fn, "knockoff: apply_fn")
  require_function(init, "knockoff: init", "one from a PRNG key to variables")
  shadows.check_kinds("knockoff", answered, recipe)
  seed = seed_number(seed)
  logits, lost = read(answered.label)
  n = tasks.num_examples(answered.image)
  if lost or len(logits) != n:
    raise ValueError(
      f"knockoff: {n} queries have {len(logits)} answers, {lost:.0%} of them "
      "not finite: pass what `read` returns"
    )
  found = np.asarray(members)
  k = len(found) if found.ndim == 2 else 1
  found = signals.check_members(found, (max(k, 1), n))
  counts = found.sum(1)
  if not counts.all():
    raise ValueError(
      f"knockoff: copy {np.argmin(counts)} has no answered query"
    )
  _check_classes(apply_fn, init, answered, logits.shape[-1])
  data = Examples(answered.image, logits.astype(np.float32))
  loss = _softened(signals.check_above(temperature, "temperature", 0))
  sizes = np.minimum(counts, recipe.batch_size)
  parts, places = [], []
  for size in np.unique(sizes):
    rows = np.flatnonzero(sizes == size)
    parts.append(
      shadows.train(
        apply_fn,
        init,
        data,
        found[rows],
        recipe,
        seed,
        steps=steps,
        each=0,
        chunk=chunk,
        loss=loss,
      ).params
    )
    places.append(rows)
  order = np.argsort(np.concatenate(places))
  return jax.tree.map(lambda *x: np.concatenate(x)[order], *parts)


@functools.lru_cache(maxsize=8)  # One function, or each would compile again.
def _softened(temperature: float) -> Loss:
  """Return the cross-entropy of logits that are divided by a temperature."""
  if temperature == 1:
    return fit.cross_entropy

  def loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return fit.cross_entropy(logits / temperature, labels)

  return loss


def _check_classes(
  apply_fn: ApplyFn,
  init: Callable[[jax.Array], PyTree],
  answered: Examples,
  classes: int,
) -> None:
  """Raise ValueError if a copy has other classes than the answers."""
  first = tasks.take(answered.image, slice(1))
  try:
    made = jax.eval_shape(
      lambda rng, x: apply_fn(init(rng), x), jax.random.key(0), first
    )
  except Exception as error:
    raise ValueError(
      f"knockoff: apply_fn fails on what init returns ({first_line(error)})"
    ) from error
  if getattr(made, "shape", ()) != (1, classes):
    raise ValueError(
      f"knockoff: a copy returns {describe(made)}: the answers need "
      f"[1, {classes}]"
    )
