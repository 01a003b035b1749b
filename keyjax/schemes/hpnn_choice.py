"""Which modules HPNN can lock such that `absorb` is exact.

A module's name does not say what it does with its kernel, so `choose` compares:
the locked model, and the plain one with absorbed weights, under random weights
and random signs, which are not those of a key.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from keyjax import tree
from keyjax.interception import intercept
from keyjax.scheme import ApplyFn
from keyjax.schemes import hpnn_lock, hpnn_sites, hpnn_twin
from keyjax.schemes.hpnn_lock import FACTORS
from keyjax.schemes.hpnn_sites import Site

_CACHED = 16


class Choice(NamedTuple):
  """The modules to lock, and warnings for the owner.

  Attributes:
    sites: The modules.
    inexact: Why `absorb` may be wrong for some of them.
    warnings: What else the owner should know.
  """

  sites: tuple[Site, ...]
  inexact: tuple[str, ...]
  warnings: tuple[str, ...]


_choices: dict[Any, Choice] = {}


def choose(
  apply_fn: ApplyFn,
  params: Any,
  x: Any,
  layers: str | None,
  compare: bool | None = None,
) -> Choice:
  """Choose the modules to lock; cached by the shapes of params and inputs.

  Args:
    apply_fn: `model.apply`.
    params: Variables or their shapes.
    x: Input, or its shape.
    layers: Regular expression of paths. By default every Dense and Conv except
      the last, without those for which `absorb` is wrong.
    compare: As for `hpnn`.

  Raises:
    ValueError: If no module is left, or the lock does not reach one.
  """
  at = (apply_fn, layers, compare, _shapes(params), _shapes(x))
  try:
    found = _choices.get(at)
  except TypeError:  # Something that cannot be hashed.
    return _choose(apply_fn, params, x, layers, compare)
  if found is None:
    found = _choose(apply_fn, params, x, layers, compare)
    while len(_choices) >= _CACHED:
      _choices.pop(next(iter(_choices)), None)
    _choices[at] = found
  return found


def _shapes(x: Any) -> Any:
  _, leaves, treedef = tree.flatten(x)
  described = tuple(
    (
      isinstance(leaf, tree.Hidden),
      getattr(leaf, "shape", None),
      str(getattr(leaf, "dtype", type(leaf))),
    )
    for leaf in leaves
  )
  return treedef, described


def _choose(
  apply_fn: ApplyFn,
  params: Any,
  x: Any,
  layers: str | None,
  compare: bool | None,
) -> Choice:
  calls = hpnn_sites.find_calls(apply_fn, params, x)
  chosen = hpnn_sites.select(calls, layers)
  params = tree.reveal(params)
  _check_reached(apply_fn, params, x, chosen)
  elsewhere = _elsewhere(params, chosen)
  if elsewhere and layers is None:
    raise ValueError(f"hpnn: {elsewhere}")
  warnings: list[str] = []
  inexact = [*_weightless(chosen)]
  if elsewhere:
    inexact.append(elsewhere)
    compare = False
  else:
    warnings += _out_of_sight(apply_fn, params, x, calls.called)
  compared = _compare(apply_fn, params, x, chosen, layers, compare)
  inexact += compared.inexact
  warnings += compared.warnings
  differ = compared.differ
  if differ:
    names = ", ".join(s.path for s in chosen if s.path in differ)
    text = (
      f"to negate the kernel, bias and scale of {names} does not negate the "
      "output (they are used on another axis, with other weights or in another "
      "place, or a nonlinearity or a sum follows), so "
    )
    if layers is None:
      warnings.append(f"{text}no lock is placed there")
    else:
      inexact.append(f"{text}its lock cannot be absorbed")
  if layers is None:
    chosen = [s for s in chosen if s.path not in differ]
  if not chosen:
    raise ValueError(
      f"hpnn: nothing is left to lock: {warnings[-1]}; `layers=` locks a layer "
      "that cannot be absorbed"
    )
  return Choice(tuple(chosen), tuple(inexact), tuple(warnings))


class _Compared(NamedTuple):
  """The modules that `absorb` gets wrong, and warnings."""

  differ: set[str]
  inexact: tuple[str, ...] = ()
  warnings: tuple[str, ...] = ()


def _compare(
  apply_fn: ApplyFn,
  params: Any,
  x: Any,
  chosen: list[Site],
  layers: str | None,
  compare: bool | None,
) -> _Compared:
  """Compare the locked model with the absorbed one."""
  transposed = [s.path for s in chosen if s.transposed]
  if transposed and layers is not None:
    raise ValueError(
      f"hpnn: {', '.join(transposed)} has a transposed kernel, whose last axis "
      "is not the output: it cannot be absorbed"
    )
  sites = [s for s in chosen if s.weighted and not s.transposed]
  if not sites or compare is False:
    return _Compared(set(transposed))
  try:
    found = hpnn_twin.compare(apply_fn, params, x, sites, bool(compare))
  except hpnn_twin.Incomparable as error:
    text = (
      f"the locked model was not compared with the absorbed one: {error}; "
      "compare them before you rely on `absorb`"
    )
    return _Compared(set(transposed), inexact=(text,))
  differ = {*transposed, *found.differ}
  if found.effective:
    return _Compared(differ)
  text = "the lock changes no output of the model: it protects nothing"
  return _Compared(differ, warnings=(text,))


def _weightless(chosen: list[Site]) -> Iterator[str]:
  paths = [s.path for s in chosen if not s.weighted]
  if paths:
    yield (
      f"{', '.join(paths)} has no kernel or scale of its own (an identity sum, "
      "an activation, a normalization without scale), so its lock cannot be "
      "absorbed and the capacity theorem does not cover it; lock the layer "
      "before it instead"
    )


def _elsewhere(params: Any, chosen: list[Site]) -> str:
  """Say that params have none of the weights of the layers, where this is so.

  Then `apply_fn` hands a part of params to a model.
  """
  names = [s.path for s in chosen if s.weighted]
  known = sorted(f"{m}/{x}" for m, x in hpnn_lock.weights(params))
  if not names or any(f"{n}/{x}" in known for n in names for x in FACTORS):
    return ""
  have = ", ".join(known[:4])
  return (
    f"params have no weights at {', '.join(names[:4])}, where the layers are: "
    f"they have {have}. A lock is absorbed by path, so `apply_fn(params, x)` "
    "has to run one model on its own variables: take those of the model, or "
    "make the models submodules of one module"
  )


def _check_reached(
  apply_fn: ApplyFn, params: Any, x: Any, chosen: list[Site]
) -> None:
  """Trace the locked pass on the shapes of the trace that found the modules.

  A part of the model that is jitted now runs from JAX's cache, without a lock.
  """
  met: set[str] = set()
  rows = {s.path: jnp.ones(s.features, jnp.int8) for s in chosen}

  def locked(variables: Any, inputs: Any) -> Any:
    with intercept(hpnn_lock.multiply(rows, met)):
      return apply_fn(variables, inputs)

  jax.eval_shape(locked, params, x)
  missing = [s.path for s in chosen if s.path not in met]
  if missing:
    raise ValueError(
      f"hpnn: the lock does not reach {', '.join(missing[:4])}: a part of the "
      f"model {hpnn_lock.CACHED}"
    )


def _out_of_sight(
  apply_fn: ApplyFn, params: Any, x: Any, called: set[str]
) -> Iterator[str]:
  """Warn of kernels that are used without a call that the lock can see."""
  owners = {m for m, name in hpnn_lock.weights(params) if name == "kernel"}
  apart = owners - called
  if not apart:
    return
  unread = hpnn_lock.unread(apply_fn, params, (x,), {}, apart)
  if apart - unread:
    yield (
      f"{', '.join(sorted(apart - unread)[:4])} has a kernel that is used "
      "without the call of a linen module (a part of the model is jitted, or "
      "of another library), so no lock can be placed there"
    )
