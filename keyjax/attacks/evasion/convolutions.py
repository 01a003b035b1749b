"""Convolutions in the form in which XLA's CPU compiler is fast inside loops.

Outside loops the compiler brings every convolution into the layout of its fast
kernels: channels last, kernels [h, w, in, out]. Inside loops it does not, and
the gradient of a convolution, whose kernel is [h, w, out, in], takes several
times as long. All attacks loop over gradients. That of a strided convolution
also multiplies the zeros between its inputs, three of four at stride 2.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core


def channels_last(function: Callable[..., Any]) -> Callable[..., Any]:
  """Return a function whose convolutions have channels last; same results.

  Those inside loops and branches of the function stay as they are.

  Args:
    function: Function of arrays to a pytree of arrays.

  Example:
    >>> kernel = jnp.ones((1, 1, 2, 2))
    >>> image = jnp.ones((1, 2, 4, 4))  # Channels first.
    >>> convolve = lambda x: jax.lax.conv(x, kernel.T, (1, 1), "SAME")
    >>> channels_last(convolve)(image).shape
    (1, 2, 4, 4)
  """

  def changed(*arguments: Any) -> Any:
    closed, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
    flat = jax.tree.leaves(arguments)
    found = _evaluate(closed.jaxpr, closed.consts, flat)
    return jax.tree.unflatten(jax.tree.structure(shape), found)

  return changed


def _evaluate(
  jaxpr: Any, constants: Sequence[Any], arguments: Sequence[Any]
) -> list[Any]:
  """Return the outputs of a jaxpr, with convolutions changed."""
  known = dict(zip(jaxpr.constvars, constants, strict=True))
  known |= dict(zip(jaxpr.invars, arguments, strict=True))

  def read(variable: Any) -> Any:
    if isinstance(variable, core.Literal):
      return variable.val
    return known[variable]

  for equation in jaxpr.eqns:
    values = [read(variable) for variable in equation.invars]
    primitive = equation.primitive
    found: Any
    with equation.ctx.manager:
      if primitive.name == "conv_general_dilated":
        found = _convolve(*values, **equation.params)
      elif primitive.name == "jit":
        inner = equation.params["jaxpr"]
        found = _evaluate(inner.jaxpr, inner.consts, values)
      else:
        params = primitive.get_bind_params(equation.params)
        found = primitive.bind(*values, **params)
    if not primitive.multiple_results:
      found = [found]
    known |= dict(zip(equation.outvars, found, strict=True))
  return [read(variable) for variable in jaxpr.outvars]


def _convolve(
  inputs: jax.Array, kernel: jax.Array, *, dimension_numbers: Any, **params: Any
) -> jax.Array:
  """Return a convolution, computed with channels last."""
  from_inputs, from_kernel, to_outputs = dimension_numbers
  batch, feature, *space = from_inputs
  out, into, *window = from_kernel
  inputs = jnp.transpose(inputs, (batch, *space, feature))
  kernel = jnp.transpose(kernel, (*window, into, out))
  if _is_gradient(**params):
    found = _by_phases(inputs, kernel, **params)
  else:
    found = _plain(inputs, kernel, **params)
  places = (to_outputs[0], *to_outputs[2:], to_outputs[1])
  return jnp.moveaxis(found, range(found.ndim), places)


def _plain(inputs: jax.Array, kernel: jax.Array, **params: Any) -> jax.Array:
  """Return a convolution of arrays with channels last."""
  last = inputs.ndim - 1
  channels = (0, last, *range(1, last))
  wanted = jax.lax.ConvDimensionNumbers(
    channels, (last, last - 1, *range(last - 1)), channels
  )
  return jax.lax.conv_general_dilated(
    inputs, kernel, dimension_numbers=wanted, **params
  )


def _is_gradient(**params: Any) -> bool:
  """Return whether a convolution is the gradient of a strided one."""
  others = (*params["window_strides"], *params["rhs_dilation"])
  groups = params["feature_group_count"], params["batch_group_count"]
  return set(others + groups) == {1} and max(params["lhs_dilation"]) > 1


def _by_phases(
  inputs: jax.Array,
  kernel: jax.Array,
  *,
  padding: Sequence[tuple[int, int]],
  lhs_dilation: Sequence[int],
  **params: Any,
) -> jax.Array:
  """Return a convolution of inputs with zeros between, without the zeros.

  Outputs at the same place between two inputs, a phase, all meet the same part
  of the kernel: one convolution gives every phase as channels of its own.
  """
  dims = len(lhs_dilation)
  phases = [
    _phases(*each)
    for each in zip(
      inputs.shape[1:-1], kernel.shape, lhs_dilation, padding, strict=False
    )
  ]
  kernel = jnp.pad(kernel, [(0, 1)] * dims + [(0, 0)] * 2)  # The last is 0.
  for axis, (taps, _, _) in enumerate(phases):
    kernel = jnp.take(kernel, taps, axis=2 * axis)  # [v, phase, ...] for [t].
  order = (*range(0, 2 * dims, 2), 2 * dims, *range(1, 2 * dims, 2))
  kernel = jnp.transpose(kernel, (*order, 2 * dims + 1))
  *sides, _, channels = kernel.shape[: dims + 1] + kernel.shape[-1:]
  kernel = kernel.reshape(*sides, inputs.shape[-1], -1)
  found = _plain(
    inputs,
    kernel,
    padding=[pad for _, pad, _ in phases],
    lhs_dilation=(1,) * dims,
    **params,
  )  # [n, q..., phases... * channels]
  grid = found.shape[1:-1]
  found = found.reshape(-1, *grid, *lhs_dilation, channels)
  pairs = [x for i in range(dims) for x in (1 + i, 1 + dims + i)]
  found = jnp.transpose(found, (0, *pairs, 2 * dims + 1))
  whole = [q * s for q, s in zip(grid, lhs_dilation, strict=True)]
  found = found.reshape(-1, *whole, channels)
  return found[(slice(None), *(slice(size) for _, _, size in phases))]


def _phases(
  size: int, taps: int, stride: int, padding: tuple[int, int]
) -> tuple[np.ndarray, tuple[int, int], int]:
  """Return how one axis falls into phases.

  Args:
    size: Number of inputs.
    taps: Length of the kernel.
    stride: One more than the zeros between two inputs.
    padding: Zeros before and after the inputs.

  Returns:
    int[v, stride], which element of the kernel meets which input in which
    phase, `taps` for none; the padding of the inputs; the number of outputs.
  """
  low, high = padding
  phase = np.arange(stride)
  first = (low - phase) % stride  # The first element that meets an input,
  shift = (phase - low + first) // stride  # and which input that is.
  count = -((first - taps) // stride)  # Elements that meet one.
  start = np.min(shift)
  length = np.max(count + shift) - start
  index = first + stride * (np.arange(length)[:, None] - (shift - start))
  valid = (index >= 0) & (index < taps)
  outputs = stride * (size - 1) + 1 + low + high - taps + 1
  grid = -(-outputs // stride)
  before = int(-start)
  after = int(grid - size - before + length - 1)
  return np.where(valid, index, taps), (before, after), outputs
