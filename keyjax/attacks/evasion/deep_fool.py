"""DeepFool: steps to the nearest boundary of a linearised model."""

from typing import NamedTuple

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
  per_example,
  refuse_nan,
  sizes,
)

_BEYOND = 1e-4  # Added to each step, as in the authors' code.
_TINY = 1e-8


class _State(NamedTuple):
  step: jax.Array
  change: jax.Array  # Sum of the steps, without overshoot.
  changed: jax.Array
  active: jax.Array
  queries: jax.Array
  finite: jax.Array


def deepfool(
  logits_fn: LogitsFn,
  inputs: jax.Array,
  labels: jax.Array,
  *,
  norm: str = "l2",
  steps: int = 50,
  overshoot: float = 0.02,
  candidates: int | None = 10,
  bounds: Bounds = (0.0, 1.0),
) -> Evasion:
  """Return inputs moved just over the nearest boundary: DeepFool.

  Each step goes to the nearest boundary of the model's linear approximation,
  among those to the candidates. An example stops at its first success.

  Args:
    logits_fn: Function from inputs to logits.
    inputs: float[n, ...].
    labels: int[n].
    norm: "l2" or "linf".
    steps: Greatest number of steps.
    overshoot: Share that is added to the sum of the steps.
    candidates: Number of classes that are compared, the label among them: those
      with the greatest logits of the unchanged input. None for all classes.
    bounds: Least and greatest value of a pixel.

  Returns:
    An `Evasion`. A step counts as one query for each candidate but the label.

  Raises:
    ValueError: If an argument is wrong, or a logit or gradient not finite.

  Reference:
    Seyed-Mohsen Moosavi-Dezfooli, Alhussein Fawzi and Pascal Frossard,
    "DeepFool: a simple and accurate method to fool deep neural networks",
    CVPR 2016.

  Example:
    >>> logits_fn = lambda x: (x - 0.4) @ jnp.asarray([[0.0, 3.0], [0.0, 4.0]])
    >>> found = deepfool(logits_fn, jnp.asarray([[0.5, 0.5]]), jnp.asarray([1]))
    >>> found.success.tolist(), round(float(found.distance[0]), 3)
    ([True], 0.143)
  """
  check(
    logits_fn,
    inputs,
    labels,
    norm=norm,
    norms=("l2", "linf"),
    bounds=bounds,
  )
  if steps < 1 or overshoot < 0:
    raise ValueError(
      f"steps {steps}, overshoot {overshoot}: pass 1 or more, 0 or more"
    )
  if candidates is not None and candidates < 2:
    raise ValueError(f"candidates is {candidates}: pass 2 or more, or None")
  found = search(
    logits_fn,
    inputs,
    labels,
    norm=norm,
    steps=steps,
    overshoot=overshoot,
    candidates=candidates,
    bounds=bounds,
  )
  return refuse_nan(found, "deepfool")


def search(
  logits_fn: LogitsFn,
  inputs: jax.Array,
  labels: jax.Array,
  *,
  norm: str,
  steps: int,
  overshoot: float,
  candidates: int | None,
  bounds: Bounds,
) -> Evasion:
  """Run DeepFool without checks of its arguments; see `deepfool`."""
  logits = as_float(logits_fn(inputs))
  classes = logits.shape[-1]
  count = classes if candidates is None else min(candidates, classes)
  # The first is the label wherever there is anything to do.
  others = jnp.argsort(-logits, axis=-1)[:, 1:count]
  weights = jax.nn.one_hot(others.T, classes, dtype=logits.dtype)
  weights -= jax.nn.one_hot(labels, classes, dtype=logits.dtype)[None]

  def step(state: _State) -> _State:
    logits, slopes = gradients(logits_fn, state.changed, weights)
    finite = all_finite(logits, jnp.moveaxis(slopes, 0, 1))
    active = state.active & finite & ~misclassified(logits, labels)
    gaps = (weights * logits[None]).sum(-1)  # [r, n], negative until success.
    change = state.change + _to_boundary(gaps, slopes, norm)
    moved = jnp.clip(inputs + (1 + overshoot) * change, *bounds)
    return _State(
      step=state.step + 1,
      change=choose(active, change, state.change),
      changed=choose(active, moved, state.changed),
      active=active,
      queries=state.queries + (count - 1) * state.active.astype(jnp.int32),
      finite=state.finite & (finite | ~state.active),
    )

  state = jax.lax.while_loop(
    lambda state: (state.step < steps) & state.active.any(),
    step,
    _State(
      step=jnp.int32(0),
      change=jnp.zeros_like(inputs),
      changed=inputs,
      active=~misclassified(logits, labels) & all_finite(logits),
      queries=jnp.ones_like(labels, jnp.int32),
      finite=all_finite(logits),
    ),
  )
  logits = as_float(logits_fn(state.changed))
  success = misclassified(logits, labels) & state.finite
  changed = choose(success, state.changed, inputs)
  return Evasion(
    inputs=changed,
    success=success,
    distance=sizes(changed - inputs, norm),
    queries=state.queries + state.active.astype(jnp.int32),
    finite=state.finite & all_finite(logits),
  )


def _to_boundary(gaps: jax.Array, slopes: jax.Array, norm: str) -> jax.Array:
  """Return the step to the nearest boundary.

  Args:
    gaps: float[r, n], logits of other classes minus that of the label.
    slopes: float[r, n, ...], their gradients.
    norm: "l2" or "linf".
  """
  dual = "l2" if norm == "l2" else "l1"
  lengths = jax.vmap(lambda slope: sizes(slope, dual))(slopes)  # [r, n]
  distances = jnp.abs(gaps) / (lengths + _TINY)
  nearest = jax.nn.one_hot(distances.argmin(0), len(gaps), axis=0, dtype=bool)
  mask = jnp.expand_dims(nearest, tuple(range(2, slopes.ndim)))
  slope = jnp.where(mask, slopes, 0).sum(0)  # [r, n, ...] -> [n, ...]
  distance = jnp.where(nearest, distances, 0).sum(0) + _BEYOND
  if norm == "linf":
    return per_example(distance, slope) * jnp.sign(slope)
  length = jnp.where(nearest, lengths, 0).sum(0) + _TINY
  return per_example(distance / length, slope) * slope
