"""Checks of the arguments of attacks on inputs."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.arguments import describe, first_line, is_array

_PROBED = 8  # Inputs on which the values of logits are checked.
_ROUNDING = 1e-5  # Of a sum of probabilities.


def concrete(value: Any) -> np.ndarray | None:
  """Return a value; None if it is traced, or on other hosts."""
  if isinstance(value, jax.core.Tracer):
    return None
  if isinstance(value, jax.Array) and not value.is_fully_addressable:
    return None
  return np.asarray(value)


def check_epsilon(epsilon: Any) -> None:
  """Raise ValueError if epsilon is no finite number above 0."""
  if epsilon is None:
    return
  if np.ndim(epsilon):
    raise ValueError(f"epsilon is {describe(epsilon)}: pass one number")
  known = concrete(epsilon)
  if known is not None and not (known > 0 and np.isfinite(known)):
    raise ValueError(f"epsilon is {known}: it must be finite and above 0")


def check_inputs(inputs: jax.Array, bounds: tuple[float, float]) -> None:
  """Raise ValueError if inputs are no floats inside the box."""
  if not is_array(inputs):
    raise ValueError(f"inputs are {describe(inputs)}: pass an array")
  shape, dtype = np.shape(inputs), jnp.result_type(inputs)
  if dtype not in (jnp.float32, jnp.float64):
    raise ValueError(
      f"inputs are {describe(inputs)}: steps are lost to rounding below 32 "
      "bits, and pixels are not integers; pass float32"
    )
  if len(shape) < 2 or 0 in shape:
    raise ValueError(f"inputs have shape {shape}: pass [n, ...], n >= 1")
  low, high = bounds
  if not low < high:
    raise ValueError(f"bounds are {bounds}: the lower one must come first")
  # Not left to min and max: on a CPU, XLA's drop the NaN of large arrays.
  finite = concrete(jnp.isfinite(inputs).all())
  if finite is not None and not finite:
    raise ValueError(
      f"inputs have values that are NaN or infinite, outside the bounds {low} "
      f"to {high}"
    )
  least, greatest = concrete(jnp.min(inputs)), concrete(jnp.max(inputs))
  if least is None or greatest is None:
    return
  if not (least >= low and greatest <= high):
    raise ValueError(
      f"inputs have values from {least} to {greatest}, outside the bounds "
      f"{low} to {high}: scale them, or pass bounds"
    )


def check_logits(
  logits_fn: Callable[[jax.Array], jax.Array], inputs: jax.Array
) -> int:
  """Return the number of classes, or raise ValueError."""
  classes = count_classes(logits_fn, inputs)
  probe = concrete(inputs)
  if probe is None:
    return classes
  logits = concrete(logits_fn(jnp.asarray(probe[:_PROBED])))
  if logits is None:
    return classes
  if not np.isfinite(logits.astype(np.float64)).all():
    raise ValueError("logits_fn returns logits that are NaN or infinite")
  if are_probabilities(logits):
    raise ValueError(
      "logits_fn returns probabilities: gradients vanish there, which looks "
      "like robustness; return the logits, before softmax"
    )
  return classes


def count_classes(
  logits_fn: Callable[[jax.Array], jax.Array], inputs: jax.Array
) -> int:
  """Return the number of classes, or raise ValueError; nothing is run."""
  try:
    found = jax.eval_shape(logits_fn, inputs)
  except (TypeError, ValueError) as error:
    raise ValueError(
      f"logits_fn fails on {describe(inputs)}: {first_line(error)}"
    ) from error
  shape = getattr(found, "shape", None)
  if shape is None or len(shape) != 2 or shape[0] != len(inputs):
    raise ValueError(
      f"logits_fn returns {describe(found)}: expected [{len(inputs)}, classes]"
    )
  if shape[1] < 2 or not jnp.issubdtype(found.dtype, jnp.floating):
    raise ValueError(
      f"logits_fn returns {describe(found)}: expected floats, 2 or more classes"
    )
  return shape[1]


def are_probabilities(logits: np.ndarray) -> bool:
  """Return whether all rows are probabilities."""
  logits = logits.astype(np.float64)
  inside = (logits >= -_ROUNDING) & (logits <= 1 + _ROUNDING)
  sums = np.isclose(logits.sum(-1), 1, rtol=0, atol=_ROUNDING)
  return bool(inside.all() and sums.all())


def check_classes(name: str, value: Any, n: int, classes: int) -> None:
  """Raise ValueError if value is not int[n] with classes of the model."""
  integers = is_array(value) and jnp.issubdtype(value.dtype, jnp.integer)
  if not integers or value.shape != (n,):
    raise ValueError(f"{name} are {describe(value)}: pass integers, [{n}]")
  known = concrete(value)
  if known is not None and not ((known >= 0) & (known < classes)).all():
    raise ValueError(
      f"{name} range from {known.min()} to {known.max()}: the model has the "
      f"classes 0 to {classes - 1}"
    )
