"""Meshes: Explicit axes, and keystreams that no device has to send.

`jax.make_mesh` makes Explicit axes by default. There the sharding is a part of
an array's type, also inside `jit`, and JAX refuses operations whose result has
no obvious sharding, such as a look-up or most reshapes.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec


def explicit_sharding(x: Any) -> NamedSharding | None:
  """Return an array's sharding, or None if no axis of its mesh is Explicit.

  Example:
    >>> mesh = jax.make_mesh((len(jax.devices()),), ("data",))
    >>> sharding = NamedSharding(mesh, PartitionSpec("data"))
    >>> x = jax.numpy.zeros(len(jax.devices()))
    >>> tuple(explicit_sharding(jax.device_put(x, sharding)).spec)
    ('data',)
    >>> explicit_sharding(x) is None
    True
  """
  found = jax.typeof(x).sharding
  return found if found.mesh.explicit_axes else None


def is_committed(x: Any) -> bool:
  """Return whether someone chose the devices that an array is on.

  One that no one has put there runs with arrays on any devices; what is made of
  it must not be bound to its device.

  Example:
    >>> x = jax.numpy.zeros(3)
    >>> is_committed(x), is_committed(jax.device_put(x, jax.devices()[0]))
    (False, True)
  """
  return (
    isinstance(x, jax.Array)
    and not isinstance(x, jax.core.Tracer)
    and x.committed
  )


def shard_shape(
  sharding: NamedSharding, shape: tuple[int, ...]
) -> tuple[int, ...]:
  """Return the shape of a shard, also inside a `shard_map` over other axes."""
  out = list(shape)
  for d, entry in enumerate(sharding.spec):
    for name in (entry,) if isinstance(entry, str) else entry or ():
      out[d] //= sharding.mesh.shape[name]
  return tuple(out)


def as_auto(function: Callable[..., Any], like: Any, *args: Any) -> Any:
  """Call a function that is not written for Explicit axes.

  Inside it the axes are Auto. All arrays that it uses must be in `args`.

  Args:
    function: Function of pytrees of arrays.
    like: Tree like the result; the result has its shardings.
    *args: Arguments of `function`.
  """
  found = map(explicit_sharding, jax.tree.leaves((like, args)))
  mesh = next((s.mesh for s in found if s), None)
  if mesh is None:
    return function(*args)
  whole = NamedSharding(mesh, PartitionSpec())
  wrapped = jax.sharding.auto_axes(
    function,
    axes=mesh.explicit_axes,
    out_sharding=jax.tree.map(lambda x: explicit_sharding(x) or whole, like),
  )
  return wrapped(*args)


def replicated(values: Any, leaves: Any) -> Any:
  """Replicate values over the mesh of leaves.

  Otherwise the compiler may split a keystream like the leaves that use it, and
  have the devices send each other their parts.
  """
  if not any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(values)):
    return values
  arrays = [x for x in jax.tree.leaves(leaves) if isinstance(x, jax.Array)]
  meshes = {jax.typeof(x).sharding.mesh for x in arrays}
  found = [m for m in meshes if not m.empty and not m.manual_axes]
  return _replicated(values, arrays, found[0]) if len(found) == 1 else values


# Outside of `jit`, as under `vmap`, only the leaves know the mesh's devices.
@functools.partial(jax.jit, static_argnums=2, keep_unused=True)
def _replicated(values: Any, leaves: Any, mesh: AbstractMesh) -> Any:
  del leaves
  whole = NamedSharding(mesh, PartitionSpec())
  if mesh.explicit_axes:
    values = jax.sharding.reshard(values, whole)
  if mesh.auto_axes:
    values = jax.lax.with_sharding_constraint(values, whole)
  return values
