"""The optimizer of a config: schedule, decay, clipping, averaged params."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from keyjax import tree


def make_optimizer(
  config: ConfigDict, steps: int
) -> optax.GradientTransformation:
  """Build the optimizer and its schedule from `config.train`.

  Gradients are clipped first. `adam` and `sgd` add the decay to the gradients
  (L2); `adamw` decays the weights separately (Loshchilov, Hutter,
  arXiv:1711.05101).

  Args:
    config: `config.train`.
    steps: Number of steps of the whole run.

  Raises:
    ValueError: If the optimizer or the schedule is unknown, or (in `init`) if
      the pattern of leaves to decay matches none.
  """
  rate = make_schedule(config, steps)
  decay: dict[str, Any] = {
    "weight_decay": config.weight_decay,
    "mask": _matching(config.decay_leaves, config.weight_decay > 0),
  }
  l2 = optax.add_decayed_weights(**decay)
  rules: dict[str, Callable[[], list[optax.GradientTransformation]]] = {
    "adam": lambda: [l2, optax.adam(rate)],
    "adamw": lambda: [optax.adamw(rate, **decay)],
    "sgd": lambda: [l2, optax.sgd(rate, momentum=0.9)],
  }
  if config.optimizer not in rules:
    raise ValueError(f"unknown optimizer {config.optimizer!r}: {[*rules]}")
  parts = rules[config.optimizer]()
  if config.clip:
    parts = [optax.clip_by_global_norm(config.clip), *parts]
  if config.ema:
    parts = [*parts, average_params(config.ema)]
  return optax.chain(*parts)


def make_schedule(config: ConfigDict, steps: int) -> optax.Schedule:
  """Build the schedule of the learning rate from `config.train`.

  Raises:
    ValueError: If the schedule is unknown.
  """
  peak = config.learning_rate
  warmup = max(1, int(config.warmup * steps))
  schedules: dict[str, Callable[[], optax.Schedule]] = {
    "constant": lambda: optax.constant_schedule(peak),
    "cosine": lambda: optax.warmup_cosine_decay_schedule(
      0.0, peak, warmup, max(steps, warmup + 1)
    ),
    # CyclicLR of the block-wise papers' recipe: linear up, linear down.
    "triangle": lambda: optax.join_schedules(
      [
        optax.linear_schedule(0.0, peak, max(1, steps // 2)),
        optax.linear_schedule(peak, 0.0, max(1, steps - steps // 2)),
      ],
      [max(1, steps // 2)],
    ),
  }
  if config.schedule not in schedules:
    raise ValueError(f"unknown schedule {config.schedule!r}: {[*schedules]}")
  return schedules[config.schedule]()


def _matching(pattern: str, needed: bool) -> Callable[[Any], Any]:
  """Return a mask of leaves whose path, as `conv_0/kernel`, matches."""

  def mask(params: Any) -> Any:
    paths, _, treedef = tree.flatten(params)
    found = [*map(tree.matcher(pattern), paths)]
    if needed and not any(found):
      raise ValueError(
        f"train.decay_leaves={pattern!r} matches no leaf; there are "
        f"{', '.join(paths[:4])}, ..."
      )
    return jax.tree.unflatten(treedef, found)

  return mask


class AverageState(NamedTuple):
  """A moving average of the params.

  Attributes:
    steps: int32[], number of steps in the average.
    average: Averaged params.
  """

  steps: jax.Array
  average: Any


def average_params(decay: float) -> optax.GradientTransformation:
  """Keep an exponential moving average of the params; change no update.

  The decay grows from 0.1 to its value, as `(1 + n) / (10 + n)`, so that the
  average soon forgets the initial params. It must be last in a chain.

  References:
    Polyak, Juditsky, "Acceleration of Stochastic Approximation by Averaging",
    SIAM Journal on Control and Optimization 30(4), 1992.
  """

  def init(params: Any) -> AverageState:
    return AverageState(jnp.int32(0), jax.tree.map(jnp.asarray, params))

  def update(updates: Any, state: AverageState, params: Any = None) -> Any:
    n = state.steps.astype(jnp.float32)
    keep = jnp.minimum(decay, (1 + n) / (10 + n))
    after = optax.apply_updates(params, updates)
    average = jax.tree.map(
      lambda old, new: (keep * old + (1 - keep) * new).astype(old.dtype),
      state.average,
      after,
    )
    return updates, AverageState(state.steps + 1, average)

  return optax.GradientTransformation(init, update)


def averaged(opt_state: Any, params: Any) -> Any:
  """Return the averaged params of an optimizer state, or `params`."""
  return optax.tree_utils.tree_get(opt_state, "average", default=params)
