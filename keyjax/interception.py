"""Functions around the calls of a model's modules, of flax.linen and flax.nnx.

Linen has `nn.intercept_methods`. A module of nnx does not know its path, and
has no such hook: `nnx_apply` makes a forward pass whose modules have both.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
from flax import nnx

from keyjax.scheme import ApplyFn

# (next_fn, args, kwargs, context) -> output; context has `module.path` and
# `method_name`.
Interceptor = Callable[[Callable[..., Any], Any, Any, Any], Any]


class _Stack(threading.local):
  def __init__(self) -> None:
    self.interceptors: list[Interceptor] = []
    self.states: list[Callable[[Any], Any]] = []


class Called(NamedTuple):
  """A module of nnx that is called.

  Attributes:
    path: Names of attributes, from the model.
    module: The module.
  """

  path: tuple[str, ...]
  module: nnx.Module


class _Context(NamedTuple):
  """What an interceptor learns of a call, as from linen."""

  module: Called
  method_name: str = "__call__"


_stack = _Stack()


@contextlib.contextmanager
def intercept(interceptor: Interceptor) -> Iterator[None]:
  """Call a function instead of each method of a module, in this thread.

  The last one is the innermost. Of modules of nnx, only `__call__` in a pass
  of `nnx_apply` is seen.

  Args:
    interceptor: Function of the method, its positional arguments, its keyword
      arguments, and a context with `module.path` and `method_name`.
  """
  _stack.interceptors.append(interceptor)
  try:
    with nn.intercept_methods(interceptor):
      yield
  finally:
    _stack.interceptors.pop()


@contextlib.contextmanager
def other_states(change: Callable[[Any], Any]) -> Iterator[None]:
  """Run passes of `nnx_apply` with other values of the states they carry.

  Args:
    change: Function of a state, to the one that is used in this thread.
  """
  _stack.states.append(change)
  try:
    yield
  finally:
    _stack.states.pop()


class NnxApply:
  """The forward pass of a model of nnx; see `nnx_apply`."""

  def __init__(
    self, graphdef: nnx.GraphDef[Any], rest: tuple[Any, ...], method: str
  ) -> None:
    self._graphdef = graphdef
    self._rest = rest
    self._method = method

  def __call__(self, params: Any, *args: Any, **kwargs: Any) -> Any:
    """Return the output of the model with these params."""
    # A copy: variables that were made outside of a trace cannot change in it.
    rest = self._rest
    for change in _stack.states:
      rest = tuple(map(change, rest))
    model = nnx.merge(self._graphdef, params, *rest, copy=True)
    if _stack.interceptors:
      _make_visible(model)
    return getattr(model, self._method)(*args, **kwargs)


def nnx_apply(
  graphdef: nnx.GraphDef[Any], *rest: Any, method: str = "__call__"
) -> ApplyFn:
  """Return the forward pass of a model of nnx, as `model.apply` is of linen.

  Every scheme takes it as its `apply_fn`. HPNN locks the modules that it calls;
  a path is that of the attributes, such as `blocks/0/linear`. What the pass
  changes in the model (statistics, counts of random streams) is dropped.

  Args:
    graphdef: From `nnx.split(model)`.
    *rest: States that are not locked, from `nnx.split(model, nnx.Param, ...)`.
    method: Method to call.

  Returns:
    A function of the first state of the split, and the model's inputs.

  Raises:
    TypeError: If `graphdef` is a model, or something else.

  Example:
    >>> import jax, jax.numpy as jnp, keyjax
    >>> model = nnx.Sequential(
    ...   nnx.Linear(4, 8, rngs=nnx.Rngs(0)), nnx.relu,
    ...   nnx.Linear(8, 2, rngs=nnx.Rngs(1)))
    >>> graphdef, params = nnx.split(model)
    >>> apply_fn = nnx_apply(graphdef)
    >>> x = jnp.ones((1, 4))
    >>> scheme = keyjax.hpnn(apply_fn)
    >>> key = scheme.keygen(keyjax.Secret.generate(), params, {"image": x})
    >>> sorted(key.units)
    ['layers/0']
    >>> locked = scheme.bind(key, apply_fn)(params, x)
    >>> plain = apply_fn(keyjax.absorb(key, params), x)
    >>> bool(jnp.allclose(locked, plain))
    True
  """
  if not isinstance(graphdef, nnx.GraphDef):
    raise TypeError(
      "nnx_apply takes the graphdef of `graphdef, params = nnx.split(model)`, "
      f"got {type(graphdef).__name__}"
    )
  return NnxApply(graphdef, rest, method)


def _make_visible(model: nnx.Module) -> None:
  """Have the calls of all modules run through the interceptors."""
  for path, node in nnx.iter_graph(model):
    if isinstance(node, nnx.Module):
      kind = _visible(type(node), tuple(map(str, path)))
      object.__setattr__(node, "__class__", kind)


@functools.cache
def _visible(kind: type[nnx.Module], path: tuple[str, ...]) -> type[nnx.Module]:
  """Return a subclass whose calls run through the interceptors.

  It holds the path: modules of nnx.scan and nnx.vmap are made again, and keep
  their class.
  """

  def call(self: Any, *args: Any, **kwargs: Any) -> Any:
    run: Callable[..., Any] = functools.partial(kind.__call__, self)
    context = _Context(Called(path, self))
    for interceptor in reversed(_stack.interceptors):
      run = _around(interceptor, run, context)
    return run(*args, **kwargs)

  return type(kind.__name__, (kind,), {"__call__": call})


def _around(
  interceptor: Interceptor, run: Callable[..., Any], context: _Context
) -> Callable[..., Any]:
  return lambda *args, **kwargs: interceptor(run, args, kwargs, context)
