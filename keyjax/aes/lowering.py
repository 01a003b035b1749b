"""A kernel in place of the circuit where a program is lowered for a TPU.

A Pallas kernel runs on one device: JAX refuses to lower it where XLA divides a
program over several (`jit` with sharded arguments, outside `shard_map`), which
is known only when the program is lowered. Choosing then also costs other
platforms nothing: they neither trace the kernel nor import Pallas.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import batching, mlir

Function = Callable[..., Any]

_circuit_p = Primitive("keyjax_circuit")
_circuit_p.multiple_results = True


def kernel_on_tpu(kernel: Function, circuit: Function, *args: jax.Array) -> Any:
  """Call `kernel` on one TPU or inside `shard_map`, `circuit` elsewhere.

  Under `vmap` it is `circuit` everywhere.

  Args:
    kernel: Function of arrays, traced only for a TPU.
    circuit: The same function in operations of XLA.
    *args: Arrays.
  """
  jaxpr, shapes = jax.make_jaxpr(circuit, return_shape=True)(*args)
  flat = _circuit_p.bind(
    *args, jaxpr=jaxpr, kernel=lambda *args: jax.tree.leaves(kernel(*args))
  )
  return jax.tree.unflatten(jax.tree.structure(shapes), flat)


@_circuit_p.def_impl
def _run(*args: Any, jaxpr: ClosedJaxpr, kernel: Function) -> Any:
  del kernel
  return jaxpr_as_fun(jaxpr)(*args)


@_circuit_p.def_abstract_eval
def _types(*args: Any, jaxpr: ClosedJaxpr, kernel: Function) -> Any:
  del args, kernel
  return jaxpr.out_avals


def _batch(
  args: Any, dims: Any, *, jaxpr: ClosedJaxpr, kernel: Function
) -> Any:
  del kernel
  out = jax.vmap(jaxpr_as_fun(jaxpr), tuple(dims))(*args)
  return out, [0] * len(out)


def _lower(ctx: Any, *args: Any, jaxpr: ClosedJaxpr, kernel: Function) -> Any:
  del kernel
  return mlir.lower_fun(jaxpr_as_fun(jaxpr))(ctx, *args)


def _lower_for_tpu(
  ctx: Any, *args: Any, jaxpr: ClosedJaxpr, kernel: Function
) -> Any:
  try:
    return mlir.lower_fun(kernel)(ctx, *args)
  except NotImplementedError:  # XLA divides this program.
    return _lower(ctx, *args, jaxpr=jaxpr, kernel=kernel)


batching.primitive_batchers[_circuit_p] = _batch
mlir.register_lowering(_circuit_p, _lower)
mlir.register_lowering(_circuit_p, _lower_for_tpu, platform="tpu")
