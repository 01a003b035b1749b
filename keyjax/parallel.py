"""Data parallelism: one pure step, run by pmap, shard_map or as fsdp.

A step is `step(state, key, batch) -> (state, metrics)`. It sees one device's
rows of the batch and averages with `mean`. State, key and metrics are
replicated. `jax.pmap` is in maintenance mode (it runs on jit and shard_map
since JAX 0.8); the same step runs unchanged under `shard_map`.

For models that outgrow one device, `fsdp` runs the step once for all devices:
it sees the whole batch, `mean` does nothing, and the compiler shards what
follows from a state whose large leaves lie in parts on the devices
(`place`). Batch normalisation then takes the statistics of the whole batch.

With several processes (`initialize`), all run the same program; each brings
its own rows of the batch, in the order of the processes, and the same key.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

AXIS = "data"
Step = Callable[[Any, Any, Any], tuple[Any, Any]]
_SMALLEST_CUT = 1 << 14
# Processes that wait at the end while the first one evaluates.
_SHUTDOWN_SECONDS = 24 * 3600


class Placed(NamedTuple):
  """A batch that lies on the devices; `put` makes it."""

  batch: Any


def initialize(
  coordinator: str = "", num_processes: int = 0, process_id: int = -1
) -> None:
  """Joins the processes of a run; call it before anything else of JAX.

  Args:
    coordinator: `host:port` of the first process; empty on a TPU slice, where
      JAX finds the others by itself.
    num_processes: how many there are; 0 with an empty coordinator.
    process_id: which one this is, from 0.

  Raises:
    ValueError: a coordinator without the number and the id, or a number or id
      that is out of range.
  """
  if not coordinator:
    jax.distributed.initialize(shutdown_timeout_seconds=_SHUTDOWN_SECONDS)
    return
  if not 0 <= process_id < num_processes:
    raise ValueError(
      f"process_id={process_id} of num_processes={num_processes}: expected "
      "0 <= process_id < num_processes"
    )
  jax.distributed.initialize(
    coordinator,
    num_processes,
    process_id,
    shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
  )


def is_first() -> bool:
  """Tells whether this is the process that writes files and prints."""
  return jax.process_index() == 0


def all_equal(value: int) -> bool:
  """Tells every process whether all of them hold the same 32-bit number."""
  if jax.process_count() == 1:
    return True
  found = multihost_utils.process_allgather(np.uint32(value))
  return len(set(np.asarray(found).tolist())) == 1


def data_parallel(
  step: Step,
  how: str = "pmap",
  devices: Sequence[jax.Device] | None = None,
) -> Step:
  """Compiles a step for all devices; the state is donated.

  Args:
    step: `(state, key, batch) -> (state, metrics)`, pure, which averages with
      `mean`.
    how: `pmap`, `shard_map` or `fsdp`; the state comes from `place`.
    devices: of a single process, some of its devices; all by default.

  Returns:
    The step over whole host batches: NumPy arrays whose first axis is this
    process's rows; or over what `put` made of them.

  Raises:
    ValueError: an unknown `how`, or (on a call) a batch that the devices do
      not divide.
  """
  devices = list(devices or jax.local_devices())
  compiled = compile_step(step, how, _global(devices))

  def run(state: Any, key: Any, batch: Any) -> tuple[Any, Any]:
    return compiled(state, key, put(batch, how, devices).batch)

  # Collectives of processes on CPUs hang when steps queue up (JAX 0.10.2).
  queues = jax.process_count() == 1 or jax.default_backend() != "cpu"
  return run if queues else lambda *args: jax.block_until_ready(run(*args))


def compile_step(step: Step, how: str, devices: Sequence[jax.Device]) -> Any:
  """Returns the jitted step that `data_parallel` calls, also for `lower`.

  Args:
    step: as in `data_parallel`.
    how: `pmap`, whose batch is cut as by `split`; `shard_map`; or `fsdp`.
    devices: all of them, of all processes, or of a slice to compile for.

  Raises:
    ValueError: an unknown `how`.
  """
  makers = {"pmap": _pmap, "shard_map": _shard_map, "fsdp": _fsdp}
  if how not in makers:
    raise ValueError(f"how={how!r}: choose from {', '.join(makers)}")
  return makers[how](step, list(devices))


def _pmap(step: Step, devices: list[jax.Device]) -> Any:
  return jax.pmap(
    step,
    axis_name=AXIS,
    in_axes=(None, None, 0),
    out_axes=(None, None),
    donate_argnums=(0,),
    devices=devices,
  )


def _shard_map(step: Step, devices: list[jax.Device]) -> Any:
  # check_vma=False: gradients stay per device until the step's own mean.
  mapped = jax.shard_map(
    step,
    mesh=Mesh(np.asarray(devices), (AXIS,)),
    in_specs=(P(), P(), P(AXIS)),
    out_specs=(P(), P()),
    check_vma=False,
  )
  return jax.jit(mapped, donate_argnums=(0,))


def _fsdp(step: Step, devices: list[jax.Device]) -> Any:
  def sharded(state: Any, key: Any, batch: Any) -> tuple[Any, Any]:
    new, metrics = step(state, key, batch)
    parts = _shardings(new, "fsdp", devices)
    return jax.lax.with_sharding_constraint(new, parts), metrics

  return jax.jit(sharded, donate_argnums=(0,))


def put(
  batch: Any, how: str, devices: Sequence[jax.Device] | None = None
) -> Placed:
  """Begins to copy a batch to where `data_parallel(step, how)` wants it.

  Copies go on while a step runs: put the next batch before waiting for this
  one's results.

  Args:
    batch: a pytree of NumPy arrays whose first axis is this process's rows; a
      `Placed` stays as it is.
    how: as in `data_parallel`.
    devices: as in `data_parallel`.

  Raises:
    ValueError: the devices do not divide the rows.

  Example:
    >>> placed = put({"x": np.zeros((8, 2))}, "shard_map", jax.devices()[:1])
    >>> placed.batch["x"].shape
    (8, 2)
  """
  if isinstance(batch, Placed):
    return batch
  devices = list(devices or jax.local_devices())
  if how == "pmap":  # Its arrays are of this process alone.
    parts = split(batch, len(devices))
    return Placed(jax.device_put(parts, _by_rows(devices)))
  _check_rows(batch, len(devices))
  rows = _by_rows(_global(devices))

  def put_rows(x: Any) -> jax.Array:
    return jax.make_array_from_process_local_data(rows, np.asarray(x))

  return Placed(jax.tree.map(put_rows, batch))


def _by_rows(devices: list[jax.Device]) -> NamedSharding:
  return NamedSharding(Mesh(np.asarray(devices), (AXIS,)), P(AXIS))


def mean(tree: Any) -> Any:
  """Averages over the devices that a step runs on.

  Where one step runs for all devices (`fsdp`, or plain `jit`), values are of
  the whole batch already.
  """
  return jax.lax.pmean(tree, AXIS) if _per_device() else tree


def device_index() -> jax.Array | int:
  """Returns on which device a step runs; 0 where one runs for all."""
  return jax.lax.axis_index(AXIS) if _per_device() else 0


def _per_device() -> bool:
  try:
    jax.lax.axis_size(AXIS)
  except NameError:  # JAX's word for an axis that is not there.
    return False
  return True


def _global(devices: list[jax.Device]) -> list[jax.Device]:
  return devices if jax.process_count() == 1 else jax.devices()


def _check_rows(batch: Any, count: int) -> None:
  for x in jax.tree.leaves(batch):
    if x.shape[0] % count:
      raise ValueError(
        f"a batch of {x.shape[0]} rows does not divide over {count} devices; "
        "choose a batch size that is a multiple"
      )


def split(batch: Any, count: int) -> Any:
  """Returns the batch with its rows cut for `count` devices.

  Args:
    batch: a pytree of arrays [rows, ...].
    count: how many devices.

  Returns:
    The same rows, [count, rows / count, ...].

  Raises:
    ValueError: `count` does not divide the rows.

  Example:
    >>> split({"x": np.zeros((6, 2))}, 3)["x"].shape
    (3, 2, 2)
  """
  _check_rows(batch, count)
  return jax.tree.map(
    lambda x: x.reshape(count, x.shape[0] // count, *x.shape[1:]), batch
  )


def replicate(tree: Any, devices: Sequence[jax.Device] | None = None) -> Any:
  """Puts a host tree on all devices, replicated, for `data_parallel`."""
  return place(tree, "pmap", devices)


def place(
  tree: Any, how: str, devices: Sequence[jax.Device] | None = None
) -> Any:
  """Puts a host tree where `data_parallel(step, how)` wants its state.

  Args:
    tree: a pytree of NumPy arrays, the same in every process.
    how: with `fsdp`, every leaf of at least 16,384 elements is cut along its
      largest axis that the devices divide; all else is replicated.
    devices: as in `data_parallel`.
  """
  return jax.tree.map(
    lambda x, s: jax.make_array_from_callback(
      np.shape(x), s, lambda index: np.asarray(x)[index]
    ),
    tree,
    shardings(tree, how, devices),
  )


def shardings(
  tree: Any, how: str, devices: Sequence[jax.Device] | None = None
) -> Any:
  """Returns where `place` puts the leaves: a tree of `NamedSharding`.

  Args:
    tree: a pytree of arrays or shapes.
    how: as in `place`.
    devices: as in `data_parallel`, or those of a slice to compile for.
  """
  return _shardings(tree, how, _global(list(devices or jax.local_devices())))


def _shardings(tree: Any, how: str, devices: list[jax.Device]) -> Any:
  mesh = Mesh(np.asarray(devices), (AXIS,))

  def sharding(x: Any) -> NamedSharding:
    spec = _cut(np.shape(x), len(devices)) if how == "fsdp" else P()
    return NamedSharding(mesh, spec)

  return jax.tree.map(sharding, tree)


def _cut(shape: tuple[int, ...], count: int) -> P:
  """Returns the spec of a leaf under fsdp."""
  axes = [i for i, size in enumerate(shape) if size % count == 0]
  if not axes or math.prod(shape) < _SMALLEST_CUT:
    return P()
  axis = max(axes, key=lambda i: shape[i])
  return P(*[None] * axis, AXIS)


def to_host(tree: Any) -> Any:
  """Returns a tree as NumPy arrays, of parts that any process holds."""
  leaves = jax.tree.leaves(tree)
  whole = (x.is_fully_addressable or x.is_fully_replicated for x in leaves)
  if all(whole):
    return jax.device_get(tree)
  return multihost_utils.process_allgather(tree, tiled=True)
