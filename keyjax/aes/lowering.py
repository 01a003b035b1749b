"""Choices that depend on the devices for which a program is lowered.

A Pallas kernel runs on one device: JAX refuses to lower it where XLA divides a
program over several (`jit` with sharded arguments, outside `shard_map`), and
would gather the arguments of a custom call on every device. Whether XLA divides
a program is known only when it is lowered. Choosing then also costs other
platforms nothing: they neither trace the kernel nor import Pallas.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir

from keyjax.aes import native

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


_handler_p = Primitive("keyjax_handler")
_handler_p.multiple_results = True


def handler_on_cpu(
  name: str,
  otherwise: Function,
  results: Sequence[jax.ShapeDtypeStruct],
  *args: jax.Array,
) -> list[jax.Array]:
  """Call a handler on one CPU or inside `shard_map`, `otherwise` elsewhere.

  Under `vmap` it is `otherwise` everywhere.

  Args:
    name: See `native.call`.
    otherwise: The same function in operations of XLA, traced only if needed;
      it returns a list.
    results: See `native.call`; all of them from `native.varying`.
    *args: See `native.call`. Results have no derivatives.
  """
  found: list[jax.Array] = _handler_p.bind(
    *args, name=name, otherwise=otherwise, results=tuple(results)
  )
  return found


@_handler_p.def_impl
def _run_otherwise(*args: Any, otherwise: Function, **params: Any) -> Any:
  del params
  return otherwise(*args)


@_handler_p.def_abstract_eval
def _result_types(*args: Any, results: Any, **params: Any) -> Any:
  del args, params
  return [jax.typeof(x) for x in results]


def _no_derivative(primals: Any, tangents: Any, **params: Any) -> Any:
  del tangents
  out = _handler_p.bind(*primals, **params)
  return out, [ad.Zero(jax.typeof(x).to_tangent_aval()) for x in out]


def _batch_otherwise(
  args: Any, dims: Any, *, otherwise: Function, **params: Any
) -> Any:
  del params
  out = jax.vmap(otherwise, tuple(dims))(*args)
  return out, [0] * len(out)


def _lower_otherwise(
  ctx: Any, *args: Any, otherwise: Function, **params: Any
) -> Any:
  del params
  return mlir.lower_fun(otherwise)(ctx, *args)


def _lower_for_cpu(
  ctx: Any, *args: Any, name: str, otherwise: Function, results: Any
) -> Any:
  if not _on_one_device(ctx.module_context.axis_context):
    return _lower_otherwise(ctx, *args, otherwise=otherwise)
  handler = functools.partial(native.call, name, results)
  return mlir.lower_fun(handler)(ctx, *args)


def _on_one_device(context: Any) -> bool:
  """Return whether a program runs on one device, or is one device's part."""
  if hasattr(context, "num_devices"):
    return bool(context.num_devices == 1)
  manual: Any = getattr(context, "manual_axes", ())
  mesh = getattr(context, "mesh", None)
  return mesh is not None and set(manual) == set(mesh.axis_names)


ad.primitive_jvps[_handler_p] = _no_derivative
batching.primitive_batchers[_handler_p] = _batch_otherwise
mlir.register_lowering(_handler_p, _lower_otherwise)
mlir.register_lowering(_handler_p, _lower_for_cpu, platform="cpu")
