"""The modules of a model whose outputs HPNN may lock."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
from flax import nnx

from keyjax import arguments, tree
from keyjax.interception import Called, intercept
from keyjax.scheme import ApplyFn
from keyjax.schemes import hpnn_lock


class Site(NamedTuple):
  """A module whose output may be locked."""

  path: str
  features: int
  weighted: bool  # It has its own kernel or scale.
  dense: bool  # It has a kernel.
  hidden: bool = False  # A mask hides its weights.
  transposed: bool = False  # The last axis of its kernel is not the output.


class Sites(NamedTuple):
  """The modules that a forward pass calls.

  Attributes:
    sites: Those that return an array, in the order of their last call.
    called: Paths of all.
    clashes: Widths of the outputs of two modules under one path.
    root: Name of the class of the model, if it is a layer itself.
  """

  sites: list[Site]
  called: set[str]
  clashes: Mapping[str, set[int]] = MappingProxyType({})
  root: str = ""


def find_sites(apply_fn: ApplyFn, params: Any, x: Any) -> list[Site]:
  """List the modules that a forward pass calls, in order, with their width.

  Nothing is computed: only shapes are propagated.

  Args:
    apply_fn: `model.apply`.
    params: Variables or their shapes; modules that a mask hides are marked.
    x: Input, or its shape.
  """
  return find_calls(apply_fn, params, x).sites


def find_calls(apply_fn: ApplyFn, params: Any, x: Any) -> Sites:
  """List the sites of `find_sites`, and every module that is called."""
  found: dict[str, Site] = {}
  called: set[str] = set()
  others: set[str] = set()
  widths: dict[str, set[int]] = {}
  root: set[str] = set()
  calls = hpnn_lock.Outermost()

  def record(next_fn: Any, args: Any, kwargs: Any, context: Any) -> Any:
    path = hpnn_lock.path_of(context)
    called.add(path)
    if context.method_name != "__call__":
      return next_fn(*args, **kwargs)
    out, outermost = calls.call(path, lambda: next_fn(*args, **kwargs))
    if not path:
      if hpnn_lock.is_array(out) and _site(context.module, path, out).weighted:
        root.add(_kind(context.module))
    elif outermost:
      # A module called twice is one site; modules are ordered by last call.
      found.pop(path, None)
      if hpnn_lock.is_array(out):
        found[path] = _site(context.module, path, out)
        widths.setdefault(path, set()).add(out.shape[-1])
      else:
        others.add(path)
    return out

  def probe(variables: Any, inputs: Any) -> Any:
    with intercept(record):
      return apply_fn(variables, inputs)

  arguments.check_runs(
    lambda: jax.eval_shape(probe, tree.reveal(params), x),
    "hpnn: apply_fn(params, x)",
    x,
    hint=_variables_hint(params),
  )
  hidden = _hidden_modules(params)
  sites = [
    s._replace(hidden=s.path in hidden)
    for s in found.values()
    if s.path not in others
  ]
  clashes = {path: some for path, some in widths.items() if len(some) > 1}
  return Sites(sites, called, clashes, "".join(sorted(root)[:1]))


def _kind(module: Any) -> str:
  return type(module.module if isinstance(module, Called) else module).__name__


def _variables_hint(params: Any) -> str:
  if isinstance(params, Mapping) and "params" not in params:
    return ', params with the collection "params" as model.init returns them'
  return ""


def _site(module: Any, path: str, out: Any) -> Site:
  if isinstance(module, Called):
    module = module.module
    params = {
      name: x for name, x in vars(module).items() if isinstance(x, nnx.Variable)
    }
  else:
    params = module.variables.get("params", {})
  # A submodule may have the name of a weight.
  own = {
    name
    for name in hpnn_lock.FACTORS
    if name in params and not isinstance(params[name], Mapping)
  }
  return Site(
    path,
    out.shape[-1],
    weighted=bool(own),
    dense="kernel" in own,
    transposed=bool(getattr(module, "transpose_kernel", False)),
  )


def _hidden_modules(params: Any) -> set[str]:
  paths, leaves, _ = tree.flatten(params)
  return {
    hpnn_lock.module_of(p)[0]
    for p, x in zip(paths, leaves, strict=True)
    if isinstance(x, tree.Hidden)
  }


def select(calls: Sites, layers: str | None) -> list[Site]:
  """Select the sites to lock.

  Raises:
    ValueError: If nothing matches; the message lists the modules.
  """
  sites = calls.sites
  if layers is None:
    chosen = [s for s in sites if s.dense][:-1]
  else:
    pattern = re.compile(layers)
    chosen = [s for s in sites if pattern.fullmatch(s.path)]
  chosen = [s for s in chosen if not s.hidden]
  if not sites:
    raise ValueError(f"hpnn: {_no_sites(calls.root)}")
  if not chosen:
    known = ", ".join(s.path for s in sites if s.weighted) or "no module"
    raise ValueError(
      f"hpnn: no layer matches {layers or 'hidden Dense and Conv'!r}; "
      f"the model has {known}"
    )
  for site in chosen:
    if site.path in calls.clashes:
      some = " and ".join(map(str, sorted(calls.clashes[site.path])))
      raise ValueError(
        f"hpnn: apply_fn runs several layers of the path {site.path}, with "
        f"{some} neurons, as of two models: make them submodules of one module "
        "and lock its `apply`, so that each has its own path"
      )
  return chosen


def _no_sites(root: str) -> str:
  if root:
    return (
      f"the model is one layer itself, {root}, and a lock needs the path of a "
      'layer in a model: wrap it, as in nn.Sequential([layer]) with layers="'
      'layers_0"'
    )
  return (
    "apply_fn calls no layer that could be locked: neither of flax.linen, nor "
    "of flax.nnx through `keyjax.nnx_apply`; for a plain function, or a model "
    "of Equinox or Haiku, use a scheme that locks weights, such as deep_lock, "
    "or inputs, such as pixel_shuffle"
  )
