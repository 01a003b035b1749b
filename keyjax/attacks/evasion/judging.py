"""Results judged on the true model, and the worst case over many attacks.

An attack reports what it did to the model that it saw. If that was not the
model that is served, only the served one says whether it succeeded.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from keyjax.attacks.evasion import checks, losses, problem
from keyjax.attacks.evasion.problem import Evasion, LogitsFn

_ROUNDING = 1e-5  # Of the size of a change, as a share of epsilon.


class WorstCase(NamedTuple):
  """Worst case of n inputs over an ensemble of attacks and attackers.

  Attributes:
    union: For each input the strongest change: a success, and among equals the
      smallest one; where all failed, the one inside the ball with the greatest
      margin. Its queries are those of all members, and it is finite where all
      are.
    members: The results one by one, judged in the same way.
  """

  union: Evasion
  members: dict[str, Evasion]


def judged(
  found: Evasion,
  logits_fn: LogitsFn,
  inputs: jax.Array,
  labels: jax.Array,
  *,
  targets: jax.Array | None = None,
) -> Evasion:
  """Return the result of an attack on another model, judged on the true one.

  Where the true model misclassifies the unchanged input, that is the result.
  Queries are those of the attack; the judge's are not added.

  Args:
    found: Result of an attack on any model.
    logits_fn: The true model: with a key, that of the right one.
    inputs: float[n, ...], the unchanged inputs.
    labels: int[n].
    targets: int[n], the classes to reach; None for any wrong class.

  Returns:
    The result; `finite` is also false where the true logits are not.

  Raises:
    ValueError: If the result is of other inputs, or the labels are wrong.

  Example:
    >>> from keyjax.attacks.evasion import fgsm
    >>> x, y = jnp.full((1, 2), 0.5), jnp.asarray([0])
    >>> found = fgsm(lambda x: 4 * x, x, y, epsilon=0.25)
    >>> true = judged(found, lambda x: jnp.asarray([[8.0, 1.0]]) * x, x, y)
    >>> found.success.tolist(), true.success.tolist()
    ([True], [False])
  """
  _check(found, logits_fn, inputs, labels, targets)
  clean = problem.as_float(logits_fn(inputs))
  already = problem.misclassified(clean, labels, targets)
  logits = problem.as_float(logits_fn(found.inputs))
  return Evasion(
    inputs=problem.choose(already, inputs, found.inputs),
    success=already | problem.misclassified(logits, labels, targets),
    distance=jnp.where(already, 0, found.distance),
    queries=found.queries,
    finite=found.finite & problem.all_finite(clean, logits),
  )


def worst_case(
  results: Mapping[str, Evasion],
  logits_fn: LogitsFn,
  inputs: jax.Array,
  labels: jax.Array,
  *,
  norm: problem.Norm = "linf",
  epsilon: Any = None,
  targets: jax.Array | None = None,
) -> WorstCase:
  """Return the worst case over attacks and attackers, on the true model.

  An input withstands the ensemble if it withstands every member, so that the
  robust accuracy, `1 - union.success.mean()`, is at most that of any of them.

  Args:
    results: Results on the same inputs, by name, on whatever models.
    logits_fn: The true model: with a key, that of the right one.
    inputs: float[n, ...], the unchanged inputs.
    labels: int[n].
    norm: Norm in which all changes are measured again.
    epsilon: Size above which a change is no success, for attacks that minimise
      it; None for no limit.
    targets: int[n], the classes to reach; None for any wrong class.

  Raises:
    ValueError: If there are no results, or they are of other inputs.

  Example:
    >>> from keyjax.attacks.evasion import fgsm
    >>> x, y = jnp.full((2, 2), 0.5), jnp.asarray([0, 0])
    >>> true = lambda x: 4 * x
    >>> found = worst_case(
    ...   {"right key": fgsm(true, x, y, epsilon=0.1),
    ...    "wrong key": fgsm(lambda x: -4 * x, x, y, epsilon=0.1)}, true, x, y)
    >>> found.union.success.tolist(), found.union.queries.tolist()
    ([True, True], [4, 4])
    >>> found.members["wrong key"].success.tolist()
    [False, False]
  """
  if not results:
    raise ValueError("results are empty: pass at least one")
  if norm not in problem.NORMS:
    raise ValueError(
      f"norm is {norm!r}: choose from {', '.join(problem.NORMS)}"
    )
  checks.check_epsilon(epsilon)
  union = _unchanged(logits_fn, inputs, labels, targets)
  strength = jnp.where(union.success, 0, -jnp.inf).astype(union.distance.dtype)
  members = {}
  for name, found in results.items():
    member = judged(found, logits_fn, inputs, labels, targets=targets)
    distance = problem.sizes(member.inputs - inputs, norm)
    inside = jnp.full_like(member.success, True)
    if epsilon is not None:
      inside = distance <= epsilon * (1 + _ROUNDING)
    member = member._replace(success=member.success & inside, distance=distance)
    margin = losses.margin(
      problem.as_float(logits_fn(member.inputs)), labels, targets
    )
    margin = jnp.where(inside & jnp.isfinite(margin), margin, -jnp.inf)
    own = jnp.where(member.success, -distance, margin.astype(distance.dtype))
    union, strength = _stronger((union, strength), (member, own))
    members[name] = member
  return WorstCase(union, members)


def _unchanged(
  logits_fn: LogitsFn,
  inputs: jax.Array,
  labels: jax.Array,
  targets: jax.Array | None,
) -> Evasion:
  """Return the result of an attack that does nothing."""
  logits = problem.as_float(logits_fn(inputs))
  success = problem.misclassified(logits, labels, targets)
  return Evasion(
    inputs=inputs,
    success=success,
    distance=jnp.zeros_like(success, inputs.dtype),
    queries=jnp.zeros_like(success, jnp.int32),
    finite=problem.all_finite(logits),
  )


def _stronger(
  best: tuple[Evasion, jax.Array], member: tuple[Evasion, jax.Array]
) -> tuple[Evasion, jax.Array]:
  """Return the stronger changes and their strengths; queries are added."""
  (old, least), (new, strength) = best, member
  higher = (new.success == old.success) & (strength > least)
  better = (new.success & ~old.success) | higher
  union = Evasion(
    inputs=problem.choose(better, new.inputs, old.inputs),
    success=old.success | new.success,
    distance=jnp.where(better, new.distance, old.distance),
    queries=old.queries + new.queries,
    finite=old.finite & new.finite,
  )
  return union, jnp.where(better, strength, least)


def _check(
  found: Evasion,
  logits_fn: LogitsFn,
  inputs: jax.Array,
  labels: jax.Array,
  targets: jax.Array | None,
) -> None:
  """Raise ValueError if a result cannot be judged with these arguments."""
  if found.inputs.shape != inputs.shape:
    raise ValueError(
      f"the result is of inputs {list(found.inputs.shape)}, and inputs are "
      f"{list(inputs.shape)}: pass those that were attacked"
    )
  classes = checks.count_classes(logits_fn, inputs)
  checks.check_classes("labels", labels, len(inputs), classes)
  if targets is not None:
    checks.check_classes("targets", targets, len(inputs), classes)
