"""JSMA: pairs of features by the Jacobian's saliency map."""

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from keyjax.attacks.evasion.jacobian import gradients
from keyjax.attacks.evasion.problem import (
  Bounds,
  Evasion,
  LogitsFn,
  all_finite,
  as_float,
  check,
  choose,
  misclassified,
  refuse_nan,
)

_PAIRS = 2**24  # Pairs of a block of the table, over all examples.


class _State(NamedTuple):
  step: jax.Array
  changed: jax.Array
  live: jax.Array  # bool[n, features], whether a feature may change.
  active: jax.Array
  queries: jax.Array
  finite: jax.Array


def jsma(
  logits_fn: LogitsFn,
  inputs: jax.Array,
  labels: jax.Array,
  *,
  targets: jax.Array,
  jacobian: Literal["logits", "softmax"] = "logits",
  theta: float = 1.0,
  upsilon: float = 0.145,
  bounds: Bounds = (0.0, 1.0),
) -> Evasion:
  """Return inputs with few changed features that reach their targets: JSMA.

  Each step changes by theta the two features p, q that maximise
  -(a_p + a_q)(b_p + b_q), where a is the gradient of the target's output, b the
  one of the sum of all others, a_p + a_q > 0 and b_p + b_q < 0 (for theta < 0
  the signs are swapped). Features at the edge of the box are left out. An
  example stops at its target, or where no pair is left.

  Args:
    logits_fn: Function from inputs to logits.
    inputs: float[n, ...].
    labels: int[n], only compared with the targets.
    targets: int[n], the classes to reach.
    jacobian: Outputs that are differentiated: "logits", or "softmax", whose
      gradients vanish in a distilled model.
    theta: Change of a feature in a step.
    upsilon: Greatest share of the features that change, for the number of
      steps: features * upsilon / 2.
    bounds: Least and greatest value of a pixel.

  Returns:
    An `Evasion` whose distance is the number of changed features. Inputs are
    unchanged where the target was not reached. A step counts as two queries.

  Raises:
    ValueError: If an argument is wrong, or a logit or gradient not finite.

  Reference:
    Nicolas Papernot, Patrick McDaniel, Somesh Jha, Matt Fredrikson, Z. Berkay
    Celik and Ananthram Swami, "The limitations of deep learning in adversarial
    settings", IEEE EuroS&P 2016.

  Example:
    >>> weights = jnp.asarray([[-1.0, 3.0], [-1.0, 4.0], [1.0, 0.0]])
    >>> found = jsma(lambda x: x @ weights, jnp.asarray([[0.0, 0.0, 0.5]]),
    ...   jnp.asarray([0]), targets=jnp.asarray([1]), upsilon=1.0)
    >>> found.inputs.tolist(), found.distance.tolist()
    ([[1.0, 1.0, 0.5]], [2.0])
  """
  check(logits_fn, inputs, labels, targets=targets, bounds=bounds)
  if targets is None:
    raise ValueError("targets is None: JSMA needs classes to reach")
  if jacobian not in ("logits", "softmax"):
    raise ValueError(f"jacobian is {jacobian!r}: pass 'logits' or 'softmax'")
  features = math.prod(inputs.shape[1:])
  steps = math.floor(features * upsilon / 2)
  if not theta or not 0 < upsilon <= 1 or features < 2 or not steps:
    raise ValueError(
      f"theta {theta}, upsilon {upsilon}, {features} features: theta must not "
      "be 0, and features * upsilon / 2 must be 1 or more, with upsilon <= 1"
    )

  def outputs(x: jax.Array) -> jax.Array:
    logits = as_float(logits_fn(x))
    return logits if jacobian == "logits" else jax.nn.softmax(logits)

  def step(state: _State) -> _State:
    found, slopes = gradients(outputs, state.changed, weights)
    finite = all_finite(found, jnp.moveaxis(slopes, 0, 1))
    slopes = slopes.reshape(2, len(inputs), features) * math.copysign(1, theta)
    first, second, any_left = best_pair(slopes[0], slopes[1], state.live)
    active = state.active & finite & any_left
    active &= ~misclassified(found, labels, targets)
    pair = jax.nn.one_hot(first, features, dtype=bool)
    pair |= jax.nn.one_hot(second, features, dtype=bool)
    pair &= active[:, None]
    moved = state.changed + theta * pair.reshape(inputs.shape).astype(
      inputs.dtype
    )
    changed = choose(active, jnp.clip(moved, *bounds), state.changed)
    return _State(
      step=state.step + 1,
      changed=changed,
      live=state.live & ~(pair & at_edge(changed)),
      active=active,
      queries=state.queries + 2 * state.active.astype(jnp.int32),
      finite=state.finite & (finite | ~state.active),
    )

  def at_edge(x: jax.Array) -> jax.Array:
    flat = x.reshape(len(x), features)
    return flat >= bounds[1] if theta > 0 else flat <= bounds[0]

  logits = as_float(logits_fn(inputs))
  target = jax.nn.one_hot(targets, logits.shape[-1], dtype=logits.dtype)
  weights = jnp.stack([target, 1 - target])
  state = jax.lax.while_loop(
    lambda state: (state.step < steps) & state.active.any(),
    step,
    _State(
      step=jnp.int32(0),
      changed=inputs,
      live=~at_edge(inputs),
      active=~misclassified(logits, labels, targets) & all_finite(logits),
      queries=jnp.ones_like(labels, jnp.int32),
      finite=all_finite(logits),
    ),
  )
  logits = as_float(logits_fn(state.changed))
  success = misclassified(logits, labels, targets) & state.finite
  changed = choose(success, state.changed, inputs)
  different = (changed != inputs).sum(tuple(range(1, inputs.ndim)))
  found = Evasion(
    inputs=changed,
    success=success,
    distance=different.astype(inputs.dtype),
    queries=state.queries + state.active.astype(jnp.int32),
    finite=state.finite & all_finite(logits),
  )
  return refuse_nan(found, "jsma")


def best_pair(
  target: jax.Array, others: jax.Array, live: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Return the pair of features with the greatest saliency.

  The table of all pairs is made in blocks of its rows, so that it fits.

  Args:
    target: float[n, features], gradient of the target's output.
    others: float[n, features], gradient of the sum of all other outputs.
    live: bool[n, features], whether a feature may change.

  Returns:
    int32[n] twice, the pair, and bool[n], whether there is one.

  Example:
    >>> a, b = jnp.asarray([[1.0, 2.0, 3.0]]), -jnp.ones((1, 3))
    >>> best_pair(a, b, jnp.asarray([[True, True, True]]))[:2]
    (Array([1], dtype=int32), Array([2], dtype=int32))
  """
  n, features = target.shape
  rows = max(1, min(features, _PAIRS // (n * features)))
  blocks = -(-features // rows)
  padding = ((0, 0), (0, blocks * rows - features))

  def cut(x: jax.Array) -> jax.Array:
    # [n, features] -> [blocks, n, rows]
    return jnp.moveaxis(jnp.pad(x, padding).reshape(n, blocks, rows), 1, 0)

  def block(best: tuple, part: tuple) -> tuple[tuple, None]:
    start, target_rows, other_rows, live_rows = part
    a = target_rows[:, :, None] + target[:, None, :]  # [n, rows, features]
    b = other_rows[:, :, None] + others[:, None, :]
    allowed = (a > 0) & (b < 0) & live_rows[:, :, None] & live[:, None, :]
    row = start + jnp.arange(rows)
    allowed &= (row[:, None] < jnp.arange(features)[None])[None]
    scores = jnp.where(allowed, -a * b, -1).reshape(n, rows * features)
    index = scores.argmax(-1).astype(jnp.int32)
    found = (scores.max(-1), start + index // features, index % features)
    better = found[0] > best[0]
    return tuple(
      jnp.where(better, new, old) for new, old in zip(found, best, strict=True)
    ), None

  none = jnp.zeros_like(target[:, 0], jnp.int32)
  start = (jnp.full_like(target[:, 0], -1), none, none)
  starts = jnp.arange(blocks, dtype=jnp.int32) * rows
  parts = (starts, cut(target), cut(others), cut(live))
  (score, first, second), _ = jax.lax.scan(block, start, parts)
  return first, second, score >= 0
