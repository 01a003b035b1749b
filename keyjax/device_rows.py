"""Rows of a batch over the devices of one process, for inference.

A mesh has one axis, over which the rows of a batch are cut; all else is copied
to every device. A single device has no mesh (None): arrays stay where they
are, and programs are those of one device. Training is in `keyjax.parallel`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

_AXIS = "rows"


def over(devices: Sequence[jax.Device] | None = None) -> Mesh | None:
  """Return a mesh over devices of this process; None for a single device.

  Args:
    devices: Some of this process's devices; all by default.
  """
  devices = list(devices or jax.local_devices())
  return Mesh(np.asarray(devices), (_AXIS,)) if len(devices) > 1 else None


def workers() -> list[jax.Device]:
  """Return the devices of this process that share a small training step.

  Devices of a CPU have the same cores: there, dividing a small step only adds
  communication, so this is the first one alone.
  """
  devices = jax.local_devices()
  return devices[:1] if jax.default_backend() == "cpu" else devices


def cut_rows(mesh: Mesh | None, batch: Any, axis: int = 0) -> Any:
  """Put a share of the rows of a host batch on each device of a mesh.

  Without a mesh, or if its devices do not divide the rows, the arrays stay
  whole.

  Args:
    mesh: From `over`.
    batch: Pytree of NumPy arrays with equally many rows.
    axis: Axis of the rows.

  Example:
    >>> mesh = over(jax.devices()[:2])
    >>> cut = cut_rows(mesh, np.zeros((4, 16, 2)), axis=1)
    >>> [part.data.shape for part in cut.addressable_shards]
    [(4, 8, 2), (4, 8, 2)]
  """
  sizes = {x.shape[axis] for x in jax.tree.leaves(batch)}
  if mesh is None or any(size % mesh.size for size in sizes):
    return jax.tree.map(jnp.asarray, batch)
  return jax.device_put(batch, NamedSharding(mesh, _rows_at(axis)))


def of(rows: jax.Array) -> Mesh | None:
  """Return the mesh that `cut_rows` cut an array over; None if it is whole."""
  sharding = rows.sharding
  if not isinstance(sharding, NamedSharding):
    return None
  assert isinstance(sharding.mesh, Mesh)
  return sharding.mesh


def copy_to(mesh: Mesh | None, tree: Any) -> Any:
  """Copy a tree to every device of a mesh; None leaves it where it is."""
  if mesh is None:
    return tree
  return jax.device_put(tree, NamedSharding(mesh, P()))


def each_device(
  function: Callable[[Any, Any], Any],
  mesh: Mesh | None,
  axis: int = 0,
  total: bool = False,
) -> Callable[[Any, Any], Any]:
  """Return `function(tree, rows)` over all rows, run by each device on its own.

  Args:
    function: Pure function of a replicated tree and of rows, in which no row
      depends on another.
    mesh: From `over`; None returns the function unchanged.
    axis: Axis of the rows.
    total: Whether results are summed over the devices; otherwise they have
      rows at axis 0, and are joined.
  """
  if mesh is None:
    return function

  def part(tree: Any, rows: Any) -> Any:
    found = function(tree, rows)
    return jax.lax.psum(found, _AXIS) if total else found

  return jax.shard_map(
    part,
    mesh=mesh,
    in_specs=(P(), _rows_at(axis)),
    out_specs=P() if total else P(_AXIS),
    check_vma=False,
  )


def _rows_at(axis: int) -> P:
  return P(*[None] * axis, _AXIS)
