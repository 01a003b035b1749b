"""What searches for fooling inputs share: the result, scores and checks."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.attacks.evasion import checks
from keyjax.attacks.evasion.problem import Bounds, LogitsFn, as_float


class Fooling(NamedTuple):
  """The champion of each class, and how it was found.

  Attributes:
    inputs: float[classes, ...], the input that the model is most certain about.
    confidence: float[classes], the probability of its class; 0 where all logits
      were NaN or infinite, and no input became champion.
    curve: float[generations + 1, classes], the confidence by generation or
      step, from that of the start.
    queries: int32, forward passes over one input, for all classes together;
      one with its gradient counts as one.
    nonfinite: int32, queries with logits that were NaN or infinite.
  """

  inputs: jax.Array
  confidence: jax.Array
  curve: jax.Array
  queries: jax.Array
  nonfinite: jax.Array


def scores(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Return log probabilities, and the number of rows that are not finite.

  Logarithms still tell two inputs apart where probabilities round to 0 or 1.

  Args:
    logits: float[n, classes].

  Returns:
    float[n, classes], -infinity in rows that are not finite; int32.

  Example:
    >>> found, nonfinite = scores(jnp.asarray([[0.0, 0.0], [jnp.nan, 0.0]]))
    >>> jnp.exp(found).tolist(), int(nonfinite)
    ([[0.5, 0.5], [0.0, 0.0]], 1)
  """
  logits = as_float(logits)
  finite = jnp.isfinite(logits).all(-1)
  logs = jnp.where(finite[:, None], jax.nn.log_softmax(logits), -jnp.inf)
  return logs, (~finite).sum(dtype=jnp.int32)


def check_image(shape: Sequence[int], bounds: Bounds) -> None:
  """Raise ValueError if no image has this shape and these bounds."""
  if len(shape) < 1 or min(shape) < 1:
    raise ValueError(f"shape is {tuple(shape)}: pass that of one input")
  if not bounds[0] < bounds[1]:
    raise ValueError(f"bounds are {bounds}: the lower one must come first")


def count_classes(logits_fn: LogitsFn, inputs: jax.Array) -> int:
  """Return the number of classes, or raise ValueError for probabilities.

  Logits that are not finite are no error: the searches count them.

  Args:
    logits_fn: Function from inputs to logits.
    inputs: float[n, ...], the first inputs of a search.

  Raises:
    ValueError: If logits_fn fails, or returns no logits.
  """
  classes = checks.count_classes(logits_fn, inputs)
  if checks.concrete(inputs) is None:
    return classes
  logits = checks.concrete(logits_fn(inputs))
  if logits is not None:
    logits = logits[np.isfinite(logits.astype(np.float64)).all(-1)]
    if len(logits) and checks.are_probabilities(logits):
      raise ValueError(
        "logits_fn returns probabilities, whose softmax is never certain: "
        "return the logits"
      )
  return classes
