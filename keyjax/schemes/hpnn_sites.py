"""The modules of a linen model whose outputs HPNN may lock."""

import re
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from keyjax import tree
from keyjax.scheme import ApplyFn

WEIGHTS = ("kernel", "bias", "scale")


class Site(NamedTuple):
  """A module whose output may be locked."""

  path: str
  features: int
  weighted: bool  # It has its own kernel, bias or scale.
  dense: bool  # It has a kernel.
  hidden: bool = False  # A mask hides its weights.


def find_sites(apply_fn: ApplyFn, params: Any, x: Any) -> list[Site]:
  """List the modules that a forward pass calls, in order, with their width.

  Nothing is computed: only shapes are propagated.

  Args:
    apply_fn: `model.apply`.
    params: Variables or their shapes; modules that a mask hides are marked.
    x: Input, or its shape.
  """
  found: dict[str, Site] = {}

  def record(next_fn: Any, args: Any, kwargs: Any, context: Any) -> Any:
    out = next_fn(*args, **kwargs)
    path = "/".join(context.module.path)
    if context.method_name == "__call__" and path and _is_array(out):
      # A module called twice is one site; modules are ordered by last call.
      found.pop(path, None)
      found[path] = _site(context.module, path, out)
    return out

  def probe(variables: Any, inputs: Any) -> Any:
    with nn.intercept_methods(record):
      return apply_fn(variables, inputs)

  jax.eval_shape(probe, tree.reveal(params), x)
  hidden = _hidden_modules(params)
  return [s._replace(hidden=s.path in hidden) for s in found.values()]


def _is_array(x: Any) -> bool:
  return hasattr(x, "shape") and x.ndim > 0


def _site(module: nn.Module, path: str, out: Any) -> Site:
  if getattr(module, "transpose_kernel", False):
    raise ValueError(
      f"hpnn: {path} has a transposed kernel, whose last axis is not the "
      "output: it cannot be absorbed"
    )
  own = module.variables.get("params", {})
  weighted = any(name in own for name in WEIGHTS)
  dense = weighted and "kernel" in own
  return Site(path, out.shape[-1], weighted, dense)


def _hidden_modules(params: Any) -> set[str]:
  paths, leaves, _ = tree.flatten(params)
  return {
    module_of(p)[0]
    for p, x in zip(paths, leaves, strict=True)
    if isinstance(x, tree.Hidden)
  }


def module_of(path: str) -> tuple[str, str]:
  """Split `params/conv_0/kernel` into the module's path and the name."""
  module, _, name = path.removeprefix("params/").rpartition("/")
  return module, name


def select(sites: list[Site], layers: str | None) -> list[Site]:
  """Select the sites to lock.

  Raises:
    ValueError: If nothing matches; the message lists the modules.
  """
  if layers is None:
    chosen = [s for s in sites if s.dense][:-1]
  else:
    pattern = re.compile(layers)
    chosen = [s for s in sites if pattern.fullmatch(s.path)]
  chosen = [s for s in chosen if not s.hidden]
  if not chosen:
    known = ", ".join(s.path for s in sites if s.weighted) or "no module"
    raise ValueError(
      f"hpnn: no layer matches {layers or 'hidden Dense and Conv'!r}; "
      f"the model has {known}"
    )
  return chosen
