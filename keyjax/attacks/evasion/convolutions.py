"""Convolutions in the layout that XLA's CPU compiler needs inside loops.

Outside loops the compiler brings every convolution into the layout of its fast
kernels: channels last, kernels [h, w, in, out]. Inside loops it does not, and
the gradient of a convolution, whose kernel is [h, w, out, in], takes several
times as long. All attacks loop over gradients.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
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
  last = len(from_inputs) - 1
  channels = (0, last, *range(1, last))
  wanted = jax.lax.ConvDimensionNumbers(
    channels, (last, last - 1, *range(last - 1)), channels
  )
  batch, feature, *space = from_inputs
  out, into, *window = from_kernel
  found = jax.lax.conv_general_dilated(
    jnp.transpose(inputs, (batch, *space, feature)),
    jnp.transpose(kernel, (*window, into, out)),
    dimension_numbers=wanted,
    **params,
  )
  places = (to_outputs[0], *to_outputs[2:], to_outputs[1])
  return jnp.moveaxis(found, range(last + 1), places)
