"""Running a model with the tiers that a key opens."""

import inspect
from collections.abc import Mapping
from typing import Any

from keyjax import arguments
from keyjax.scheme import ApplyFn


def authorize(present: Mapping[str, bool], apply_fn: ApplyFn) -> ApplyFn:
  """Return the forward pass of whoever opened some tiers.

  The model's contract: it takes `present`, a dict with a bool for each tier,
  leaves out the layers of every tier that is False, and reads none of their
  parameters. They are not in the params, so that a model which breaks the
  contract fails instead of computing with something else.

  Args:
    present: `Unlocked.present`; fixed when the result is traced by `jit`.
    apply_fn: Forward pass, `apply_fn(params, *args, present=..., **kwargs)`.

  Returns:
    The same function without `present`.

  Raises:
    TypeError: If `apply_fn` does not take `present`, or `present` is no dict
      of bools.

  Example:
    >>> import jax.numpy as jnp
    >>> def model(params, x, *, present):
    ...   out = params["base"] * x
    ...   return out + params["expert"] * x if present["expert"] else out
    >>> forward = authorize({"base": True, "expert": False}, model)
    >>> float(forward({"base": jnp.float32(2)}, jnp.float32(3)))
    6.0
  """
  what = "authorize(present, apply_fn): the last argument"
  arguments.require_apply(apply_fn, what)
  if not isinstance(present, Mapping) or not all(
    isinstance(x, bool) for x in present.values()
  ):
    raise TypeError(
      "authorize takes present first, a dict of a bool for each tier, got "
      f"{arguments.describe(present)}"
    )
  if not _takes_present(apply_fn):
    raise TypeError(
      f"{what} is {arguments.describe(apply_fn)}, which does not take "
      "`present`: a model that can run without some tiers takes it, and leaves "
      "out the layers of those that are False"
    )
  tiers = dict(present)

  def authorized(params: Any, *args: Any, **kwargs: Any) -> Any:
    return apply_fn(params, *args, present=dict(tiers), **kwargs)

  return authorized


def _takes_present(apply_fn: Any) -> bool:
  """Return whether a function, or the module whose `apply` it is, takes it."""
  kinds = _keywords(apply_fn)
  if kinds is None or "present" in kinds:
    return True
  if inspect.Parameter.VAR_KEYWORD not in kinds.values():
    return False
  # `apply` of a Flax module passes every keyword on to its `__call__`.
  module = getattr(apply_fn, "__self__", None)
  inner = _keywords(module) if callable(module) else None
  if inner is None:
    return True
  return "present" in inner or inspect.Parameter.VAR_KEYWORD in inner.values()


def _keywords(function: Any) -> dict[str, Any] | None:
  """Return the kinds of what can be given by name; None if nothing is known."""
  try:
    parameters = inspect.signature(function).parameters
  except (TypeError, ValueError):
    return None
  by_position = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.VAR_POSITIONAL,
  )
  found = {name: one.kind for name, one in parameters.items()}
  return {name: kind for name, kind in found.items() if kind not in by_position}
