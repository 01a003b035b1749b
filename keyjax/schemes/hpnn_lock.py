"""HPNN's two sides: signs on the outputs of modules, and signs on weights.

A row is one number for each feature of a module's last axis: +1 and -1 of a
key, or what an attacker fits in their place.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.interpreters import partial_eval

from keyjax import quantize, tree
from keyjax.scheme import ApplyFn

WEIGHTS = ("kernel", "bias", "scale")
# A bias alone is added to what it does not negate.
FACTORS = ("kernel", "scale")
# Why a trace may not run a layer's code, and what to do.
CACHED = (
  "is jitted, or runs from JAX's cache, where no lock is seen (jax.lax.scan, "
  "cond and jax.checkpoint keep the trace of a function that lives on: define "
  "it within __call__, or use those of nn and nnx; jit the whole pass instead)"
)
Rows = Mapping[str, jax.Array]  # Path of a module -> [features].


class LockError(ValueError):
  """A lock that does not fit a model, or that a model hides."""


class Outermost:
  """The calls under way, so that a call inside another one can be told.

  A subclass calls `super().__call__`, and modules that share a scope call one
  another, all under one path: only the outermost call is a layer's.
  """

  def __init__(self) -> None:
    self._running: list[str] = []

  def call(self, path: str, function: Callable[[], Any]) -> tuple[Any, bool]:
    """Run a call; return its output, and whether it is a path's outermost."""
    outermost = path not in self._running
    self._running.append(path)
    try:
      return function(), outermost
    finally:
      self._running.pop()

  def within(self, paths: Mapping[str, Any]) -> bool:
    """Return whether a call of one of these paths is under way."""
    return any(path in paths for path in self._running)


def path_of(context: Any) -> str:
  """Return the path of a called module, such as `block_0/conv_1`."""
  return "/".join(context.module.path)


def multiply(rows: Rows, met: set[str]) -> Callable[..., Any]:
  """Return an interceptor that multiplies outputs by their rows.

  Args:
    rows: Rows of the locked modules.
    met: Set that receives the paths of the locked modules that run.
  """
  calls = Outermost()

  def interceptor(next_fn: Any, args: Any, kwargs: Any, context: Any) -> Any:
    path = path_of(context)
    if context.method_name != "__call__" or path not in rows:
      return next_fn(*args, **kwargs)
    out, outermost = calls.call(path, lambda: next_fn(*args, **kwargs))
    if not outermost:
      return out
    met.add(path)
    if not is_array(out):
      raise LockError(
        f"hpnn: {path} returns a {type(out).__name__}, which cannot carry "
        "signs: lock a module that returns an array"
      )
    return out * _row(rows[path], out)

  return interceptor


def is_array(x: Any) -> bool:
  """Return whether a module's output has a last axis that can carry signs."""
  return hasattr(x, "shape") and x.ndim > 0


def _row(row: jax.Array, out: jax.Array) -> jax.Array:
  if row.shape[-1] != out.shape[-1]:
    raise LockError(
      f"hpnn: the key locks {row.shape[-1]} neurons where the model has "
      f"{out.shape[-1]}: it is for another model"
    )
  leading = tuple(range(out.ndim - 1))
  return jnp.expand_dims(row.astype(out.dtype), leading)  # [f] -> [.., f]


# ------------------------------------------------------------------- weights


def negate(params: Any, signs: Rows) -> tuple[Any, set[str]]:
  """Negate the weights of locked modules: see `hpnn.absorb`.

  Returns:
    The tree, and the paths of the modules that have a kernel or scale in it.

  Raises:
    LockError: If a weight is stored in a form whose sign is unknown.
  """
  found, treedef = jax.tree_util.tree_flatten_with_path(params, is_leaf=_is_one)
  out, met = [], set()
  for keys, leaf in found:
    module, name = _owner(keys, signs)
    if name in WEIGHTS:
      row = signs[module]
      if name in FACTORS:
        met.add(module)
      change = functools.partial(_negate, signs=row, path=tree.path_str(keys))
      leaf = jax.tree.map(change, leaf, is_leaf=_is_quantized)
    out.append(leaf)
  return jax.tree.unflatten(treedef, out), met


def _is_quantized(x: Any) -> bool:
  return isinstance(x, quantize.Quantized)


def _is_one(x: Any) -> bool:
  """Return whether a node is one weight: hidden, quantized or in a box."""
  return (
    isinstance(x, tree.Hidden)
    or _is_quantized(x)
    or nn.meta.is_axis_metadata(x)
  )


def _owner(keys: Sequence[Any], signs: Rows) -> tuple[str, str]:
  """Return the locked module that a leaf belongs to, and the leaf's name.

  Raises:
    LockError: If the leaf is a part of a weight.
  """
  module, name = module_of(tree.path_str(keys))
  if module in signs:
    return module, name
  for end in range(1, len(keys)):
    owner, part = module_of(tree.path_str(keys[:end]))
    inside = not isinstance(keys[end], jax.tree_util.DictKey)
    if owner in signs and part in WEIGHTS and inside:
      raise LockError(
        f"hpnn: {tree.path_str(keys[:end])} is not an array, so its sign "
        "cannot be changed: convert it to floats before `absorb`"
      )
  return "", ""


def module_of(path: str) -> tuple[str, str]:
  """Split `params/conv_0/kernel` into the module's path and the name.

  In a state of nnx a weight is the value of a variable, `conv_0/kernel/value`.
  """
  module, _, name = path.removeprefix("params/").rpartition("/")
  owner, _, variable = module.rpartition("/")
  if name == "value" and variable in WEIGHTS:
    return owner, variable
  return module, name


def _negate(leaf: Any, signs: jax.Array, path: str) -> Any:
  """Flip sign bits: a product would lose subnormal values on some devices."""
  if _is_quantized(leaf):  # -(scale * values) = (-scale) * values
    return leaf.replace(scale=_negate(leaf.scale, signs, path))
  # Words of a cipher and integers have no sign bit; nor have some floats of 8
  # bits, such as float8_e4m3fnuz, in which the pattern of -0 is NaN.
  if not jnp.issubdtype(leaf.dtype, jnp.floating) or "fnu" in str(leaf.dtype):
    raise LockError(
      f"hpnn: {path} is {leaf.dtype}, which has no sign bit: decrypt it or "
      "convert it to floats before `absorb`"
    )
  if leaf.dtype.itemsize > 4:
    raise ValueError(
      f"hpnn: {path} is {leaf.dtype}: weights have 8, 16 or 32 bits, cast it"
    )
  words = tree.as_words(leaf)
  top = words.dtype.type(1 << (8 * words.dtype.itemsize - 1))
  flip = _row((signs < 0).astype(words.dtype) * top, words)
  return tree.from_words(words ^ flip, leaf.dtype)


def weights(params: Any) -> set[tuple[str, str]]:
  """Return the modules and names of the leaves in `params`."""
  variables = isinstance(params, Mapping) and "params" in params
  found, _ = jax.tree_util.tree_flatten_with_path(params, is_leaf=_is_one)
  paths = [tree.path_str(keys) for keys, _ in found]
  return {
    module_of(path)
    for path in paths
    if path.startswith("params/") or not variables
  }


def unread(
  apply_fn: ApplyFn, params: Any, args: Any, kwargs: Any, modules: set[str]
) -> set[str]:
  """Return the modules that have weights which a pass does not read.

  Args:
    apply_fn: Forward pass.
    params: Its variables.
    args: Its further arguments.
    kwargs: Its further keyword arguments.
    modules: Paths of modules.
  """
  paths, leaves, treedef = tree.flatten(params)
  inner_first = sorted(modules, key=len, reverse=True)
  owners = [
    next(
      (m for m in inner_first if p.removeprefix("params/").startswith(f"{m}/")),
      "",
    )
    for p in paths
  ]
  at = [i for i, owner in enumerate(owners) if owner]

  def outputs(weights: list[Any]) -> list[Any]:
    filled = list(leaves)
    for i, weight in zip(at, weights, strict=True):
      filled[i] = weight
    out = apply_fn(jax.tree.unflatten(treedef, filled), *args, **kwargs)
    return [x for x in jax.tree.leaves(out) if hasattr(x, "dtype")]

  try:
    jaxpr = jax.make_jaxpr(outputs)([leaves[i] for i in at]).jaxpr
  except jax.errors.ConcretizationTypeError:
    return set()  # Their values decide what is run, so they are read.
  _, used = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
  read = {owners[i] for i, use in zip(at, used, strict=True) if use}
  return {owners[i] for i in at} - read


def check_unread(
  apply_fn: ApplyFn, params: Any, args: Any, kwargs: Any, modules: set[str]
) -> None:
  """Check that a pass uses no weights of locked modules that it did not run.

  An encoder alone, or an early exit, has no need of the other modules.

  Args:
    apply_fn: Forward pass.
    params: Its variables.
    args: Its further arguments.
    kwargs: Its further keyword arguments.
    modules: Paths of the modules that it did not run.

  Raises:
    LockError: If it uses some, or `params` have no such weights.
  """
  if not modules:
    return
  hidden = sorted(modules - unread(apply_fn, params, args, kwargs, modules))
  if not hidden:
    return
  cause = (
    "their weights are used without a call"
    if {module for module, _ in weights(params)} >= set(hidden)
    else "the key is for another model"
  )
  raise LockError(
    f"hpnn: the forward pass did not run {', '.join(hidden[:4])}: {cause}, or "
    f"a part of the model {CACHED}"
  )
