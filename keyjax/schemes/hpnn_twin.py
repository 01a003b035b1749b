"""The locked model against the plain one with absorbed weights.

Both are one compiled program with other arguments, run on a few examples. They
are compared at the output of every module, because a difference in an early
layer may be too small to see in the last one. Floats are symmetric in the sign,
so where `absorb` is right, both agree to the last bit. A small difference is no
excuse: a part that starts small, such as an adapter, may grow in training. Only
where two runs of one pass differ, or products of a device are not symmetric in
the sign, is there a tolerance.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import tracers

from keyjax.interception import intercept, other_states
from keyjax.scheme import ApplyFn
from keyjax.schemes import hpnn_lock, hpnn_random, hpnn_sample
from keyjax.schemes.hpnn_sites import Site

# Unless asked for, no larger model is compared: it takes time, and memory for
# two more copies of the params.
MOST_BYTES = 2**31
_EXAMPLES = 8  # Enough for every ReLU to be on once.
_RUNS = 3  # Of one pass, to see whether a device repeats itself.
_SOWN = "intermediates"  # Not a function of the model: what it looked like.


class Incomparable(Exception):
  """The passes cannot be compared; the message says why."""


class Comparison(NamedTuple):
  """What a comparison found.

  Attributes:
    differ: Paths of the modules whose weights do not absorb their signs.
    effective: Whether the signs of the others change an output of the model.
  """

  differ: set[str]
  effective: bool


def compare(
  apply_fn: ApplyFn,
  params: Any,
  x: Any,
  sites: Sequence[Site],
  any_size: bool = False,
) -> Comparison:
  """Compare all locks at once, and one after the other if there is a fault.

  Args:
    apply_fn: `model.apply`.
    params: Variables or their shapes. Values of params are not used.
    x: Input, or its shape.
    sites: Modules with weights.
    any_size: Whether a model above `MOST_BYTES` is compared.

  Raises:
    Incomparable: If the model is too large, or cannot be run here.
    LockError: If a lock does not fit a module.
  """
  _check_size(params, x, np.inf if any_size else MOST_BYTES)
  pair = _Pair(apply_fn, params, x, sites)
  plain = pair.plain()
  differ: set[str] = set()
  rest = list(sites)
  if not pair.agree(rest):
    if not hpnn_sample.close(pair.locked(rest).seen, pair.locked(rest).seen):
      raise Incomparable("two runs of one model differ")
    rest = []
    for site in sites:
      if pair.agree([*rest, site]):
        rest.append(site)
      else:
        differ.add(site.path)
  # Signs of two layers may cancel out, where those of one do not.
  changed = (
    not hpnn_sample.close(pair.locked(some).outputs, plain.outputs)
    for some in (rest, *([site] for site in rest))
  )
  return Comparison(differ, not rest or any(changed))


def _check_size(params: Any, x: Any, most: float) -> None:
  for leaf in jax.tree.leaves((params, x)):
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
      raise Incomparable("params or inputs are on several hosts")
  arrays = [x for x in jax.tree.leaves(params) if hasattr(x, "dtype")]
  size = sum(x.size * x.dtype.itemsize for x in arrays)
  if size > most:
    raise Incomparable(
      f"its params have {size / 2**30:.1f} GiB (`compare=True` compares them)"
    )


class _Seen(NamedTuple):
  seen: Any  # Samples of the outputs of the modules, and of the model.
  outputs: Any  # Samples of the outputs of the model.


class _Pair:
  """A compiled pass with random weights."""

  def __init__(
    self, apply_fn: ApplyFn, params: Any, x: Any, sites: Sequence[Site]
  ):
    self._rows = {
      s.path: hpnn_random.signs(i, s.features) for i, s in enumerate(sites)
    }
    self._apply = apply_fn
    inputs = hpnn_random.inputs(x)
    # Some models take roots or logarithms of their weights.
    for positive in (False, True):
      self._weights = hpnn_random.weights(params, positive)
      self._compile(inputs)
      if not hpnn_sample.has_nan(self.plain().seen):
        return
    raise Incomparable("random weights lead to NaN")

  def _compile(self, inputs: Any) -> None:
    few = jax.tree.map(lambda a: a[:_EXAMPLES] if np.ndim(a) else a, inputs)
    try:
      self._compile_for(few)
    except Exception:  # A model of a fixed batch size.
      self._compile_for(inputs)

  def _compile_for(self, inputs: Any) -> None:
    on_cpu = jax.default_backend() == "cpu"
    jitted = jax.jit(
      self._pass,
      compiler_options=(
        {"xla_backend_optimization_level": 0} if on_cpu else None
      ),
    )
    self._inputs = jax.device_put(inputs)
    try:
      self._compiled = jitted.lower(
        self._weights, self._inputs, self._signs(())
      ).compile()
    except hpnn_lock.LockError:
      raise
    except Exception as error:
      raise _unable(error) from error

  def _pass(self, variables: Any, inputs: Any, rows: Any) -> _Seen:
    seen: list[jax.Array] = []
    trace = tracers.current_trace()
    calls = hpnn_lock.Outermost()

    def keep(next_fn: Any, args: Any, kwargs: Any, context: Any) -> Any:
      if context.method_name != "__call__":
        return next_fn(*args, **kwargs)
      path = hpnn_lock.path_of(context)
      out, _ = calls.call(path, lambda: next_fn(*args, **kwargs))
      # Inside a locked module the signs are not yet there; inside a scan or a
      # remat the values cannot be taken out.
      if not calls.within(rows) and tracers.current_trace() == trace:
        seen.extend(hpnn_sample.sample(out))
      return out

    with (
      intercept(keep),
      intercept(hpnn_lock.multiply(rows, set())),
      other_states(hpnn_random.states),
    ):
      out = self._apply(variables, inputs)
    outputs = hpnn_sample.sample(_without_sown(out))
    return _Seen([*seen, *outputs], outputs)

  def plain(self) -> _Seen:
    return self._run(self._weights, ())

  def locked(self, sites: Sequence[Site]) -> _Seen:
    return self._run(self._weights, sites)

  def agree(self, sites: Sequence[Site]) -> bool:
    rows = {s.path: jnp.asarray(self._rows[s.path]) for s in sites}
    try:
      absorbed, _ = hpnn_lock.negate(self._weights, rows)
    except hpnn_lock.LockError:  # Another axis, or not an array.
      return False
    found = self.locked(sites).seen, self._run(absorbed, ()).seen
    return hpnn_sample.equal(*found) or (
      hpnn_sample.close(*found) and self._rough
    )

  @functools.cached_property
  def _rough(self) -> bool:
    """Whether equal passes may differ a little on this device."""
    first = self.plain().seen
    again = (self.plain().seen for _ in range(_RUNS))
    return (
      not all(hpnn_sample.equal(first, seen) for seen in again)
      or not hpnn_sample.symmetric()
    )

  def _signs(self, sites: Sequence[Site]) -> dict[str, Any]:
    chosen = {s.path for s in sites}
    return jax.device_put(
      {
        path: row if path in chosen else np.ones_like(row)
        for path, row in self._rows.items()
      }
    )

  def _run(self, weights: Any, sites: Sequence[Site]) -> _Seen:
    try:
      found = self._compiled(weights, self._inputs, self._signs(sites))
      return jax.device_get(found)
    except jax.errors.JaxRuntimeError as error:
      raise _unable(error) from error


def _unable(error: Exception) -> Incomparable:
  lines = str(error).splitlines() or [""]
  return Incomparable(
    f"the model cannot be run here ({type(error).__name__}: {lines[0][:200]})"
  )


def _without_sown(out: Any) -> Any:
  """Return a pass's output without intermediates, which precede a lock."""
  if isinstance(out, tuple) and len(out) == 2 and hasattr(out[1], "items"):
    return out[0], {k: v for k, v in out[1].items() if k != _SOWN}
  return out
