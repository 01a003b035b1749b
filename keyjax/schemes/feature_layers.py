"""The layers whose outputs `feature_permutation` may permute."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from flax import nnx

from keyjax import arguments, tree
from keyjax.interception import Called, intercept
from keyjax.scheme import ApplyFn
from keyjax.schemes import hpnn_lock

NAME = "feature_permutation"


class Layer(NamedTuple):
  """A layer with a kernel."""

  path: str
  features: int
  problem: str  # Why it cannot be locked; empty if it can.


def choose(
  apply_fn: ApplyFn, params: Any, x: Any, layers: str | None
) -> list[Layer]:
  """Return the layers to lock, in the order of their last call.

  Args:
    apply_fn: Forward pass.
    params: Variables or their shapes.
    x: Input, or its shape.
    layers: Regular expression of paths; by default all but the last.

  Raises:
    ValueError: If there is none, or one cannot be locked.
  """
  found = _find(apply_fn, params, x)
  known = ", ".join(x.path for x in found) or "none"
  if layers is None:
    chosen = [x for x in found[:-1] if not x.problem]
  else:
    pattern = re.compile(layers)
    chosen = [x for x in found if pattern.fullmatch(x.path)]
  if not chosen:
    raise ValueError(
      f"{NAME}: no layer matches {layers or 'hidden Dense and Conv'!r}; layers "
      f"of the model with a kernel: {known}"
    )
  for layer in chosen:
    if layer.problem:
      raise ValueError(
        f"{NAME}: {layer.path} cannot be locked: {layer.problem}"
      )
  return chosen


def _find(apply_fn: ApplyFn, params: Any, x: Any) -> list[Layer]:
  """Return the layers with a kernel, in the order of their last call."""
  found: dict[str, Layer] = {}
  calls = hpnn_lock.Outermost()

  def record(next_fn: Any, args: Any, kwargs: Any, context: Any) -> Any:
    path = hpnn_lock.path_of(context)
    if context.method_name != "__call__" or not path:
      return next_fn(*args, **kwargs)
    out, outermost = calls.call(path, lambda: next_fn(*args, **kwargs))
    if outermost and _has_kernel(context.module):
      found.pop(path, None)
      found[path] = _layer(context.module, path, out)
    return out

  def probe(variables: Any, inputs: Any) -> Any:
    with intercept(record):
      return apply_fn(variables, inputs)

  arguments.check_runs(
    lambda: jax.eval_shape(probe, tree.reveal(params), x),
    f"{NAME}: apply_fn(params, x)",
    x,
  )
  return list(found.values())


def _has_kernel(module: Any) -> bool:
  if isinstance(module, Called):
    return isinstance(getattr(module.module, "kernel", None), nnx.Variable)
  kernel = module.variables.get("params", {}).get("kernel")
  return kernel is not None and not isinstance(kernel, Mapping)


def _layer(module: Any, path: str, out: Any) -> Layer:
  inner = module.module if isinstance(module, Called) else module
  problem = ""
  if not hpnn_lock.is_array(out):
    problem = "it returns no array"
  elif getattr(inner, "feature_group_count", 1) != 1:
    problem = "its channels are in groups"
  elif getattr(inner, "transpose_kernel", False):
    problem = "the last axis of its kernel is not the output"
  return Layer(path, 0 if problem else out.shape[-1], problem)
