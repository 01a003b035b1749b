"""Data parallelism: one pure step, run with pmap, shard_map or fsdp.

A step is `step(state, key, batch) -> (state, metrics)`. It sees one device's
rows of the batch and averages with `mean`. State, key and metrics are
replicated. `jax.pmap` is in maintenance mode (it runs on jit and shard_map
since JAX 0.8); the same step runs unchanged under `shard_map`.

For models that outgrow one device, `fsdp` runs the step once for all devices:
it sees the whole batch, `mean` does nothing, and the compiler derives all
shardings from the state, whose large leaves are split over the devices
(`place`). Batch normalization then uses the statistics of the whole batch.

Inference needs no step: see `keyjax.device_rows`.

With several processes (`keyjax.processes`), all run the same program; each
supplies its own rows of the batch, in the order of the processes, and the same
key.
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


class Placed(NamedTuple):
  """A batch on the devices; `put` makes it."""

  batch: Any


def data_parallel(
  step: Step,
  how: str = "pmap",
  devices: Sequence[jax.Device] | None = None,
) -> Step:
  """Compile a step for all devices; the state is donated.

  Args:
    step: Pure function `(state, key, batch) -> (state, metrics)` that averages
      with `mean`.
    how: `pmap`, `shard_map` or `fsdp`; the state comes from `place`.
    devices: Some of the devices of a single process; all by default.

  Returns:
    The step over whole host batches (NumPy arrays whose first axis is this
    process's rows) or over what `put` returns for them.

  Raises:
    ValueError: If `how` is unknown, or (on a call) the devices do not divide
      the batch.
  """
  devices = list(devices or jax.local_devices())
  compiled = compile_step(step, how, _global(devices))

  def run(state: Any, key: Any, batch: Any) -> tuple[Any, Any]:
    return compiled(state, key, put(batch, how, devices).batch)

  if can_queue(devices):
    return run
  return lambda *args: jax.block_until_ready(run(*args))


def can_queue(devices: Sequence[jax.Device]) -> bool:
  """Return whether calls with collectives may be made without waiting.

  Not on several devices of a CPU. XLA admits 32 calls to each, and the threads
  on which further ones wait are those that the collectives of earlier calls
  need: all wait forever, most often on a busy machine (JAX 0.10.2).

  Args:
    devices: This process's devices that make the calls.
  """
  alone = len(devices) == 1 and jax.process_count() == 1
  return alone or devices[0].platform != "cpu"


def compile_step(step: Step, how: str, devices: Sequence[jax.Device]) -> Any:
  """Return the jitted step that `data_parallel` calls, also for `lower`.

  Args:
    step: As in `data_parallel`.
    how: `pmap`, which takes batches cut by `split`; `shard_map`; or `fsdp`.
    devices: All devices of all processes, or of a slice to compile for.

  Raises:
    ValueError: If `how` is unknown.
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
  """Start to copy a batch to where `data_parallel(step, how)` expects it.

  Copies continue while a step runs: put the next batch before waiting for this
  one's results.

  Args:
    batch: Pytree of NumPy arrays whose first axis is this process's rows; a
      `Placed` is returned unchanged.
    how: As in `data_parallel`.
    devices: As in `data_parallel`.

  Raises:
    ValueError: If the devices do not divide the rows.

  Example:
    >>> placed = put({"x": np.zeros((8, 2))}, "shard_map", jax.devices()[:1])
    >>> placed.batch["x"].shape
    (8, 2)
  """
  if isinstance(batch, Placed):
    return batch
  devices = list(devices or jax.local_devices())
  if how == "pmap":  # Its arrays are local to this process.
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
  """Average over the devices that a step runs on.

  Where one step runs for all devices (`fsdp`, or plain `jit`), values already
  are those of the whole batch.
  """
  return jax.lax.pmean(tree, AXIS) if _per_device() else tree


def total(tree: Any) -> Any:
  """Add up over the devices that a step runs on; see `mean`."""
  return jax.lax.psum(tree, AXIS) if _per_device() else tree


def device_index() -> jax.Array | int:
  """Return the index of the device a step runs on; 0 if it runs for all."""
  return jax.lax.axis_index(AXIS) if _per_device() else 0


def _per_device() -> bool:
  try:
    jax.lax.axis_size(AXIS)
  except NameError:  # JAX raises it for an unbound axis.
    return False
  return True


def _global(devices: list[jax.Device]) -> list[jax.Device]:
  return devices if jax.process_count() == 1 else jax.devices()


def _check_rows(batch: Any, count: int) -> None:
  for x in jax.tree.leaves(batch):
    if x.shape[0] % count:
      raise ValueError(
        f"a batch of {x.shape[0]} rows does not divide over {count} devices; "
        f"choose a batch size that is a multiple of {count}"
      )


def split(batch: Any, count: int) -> Any:
  """Return the batch with its rows cut for `count` devices.

  Args:
    batch: Pytree of arrays [rows, ...].
    count: Number of devices.

  Returns:
    The same rows, [count, rows / count, ...].

  Raises:
    ValueError: If `count` does not divide the rows.

  Example:
    >>> split({"x": np.zeros((6, 2))}, 3)["x"].shape
    (3, 2, 2)
  """
  _check_rows(batch, count)
  return jax.tree.map(
    lambda x: x.reshape(count, x.shape[0] // count, *x.shape[1:]), batch
  )


def replicate(tree: Any, devices: Sequence[jax.Device] | None = None) -> Any:
  """Replicate a host tree on all devices, for `data_parallel`."""
  return place(tree, "pmap", devices)


def place(
  tree: Any, how: str, devices: Sequence[jax.Device] | None = None
) -> Any:
  """Put a host tree where `data_parallel(step, how)` expects its state.

  Args:
    tree: Pytree of NumPy arrays, the same in every process.
    how: As in `data_parallel`. With `fsdp`, every leaf of at least 16,384
      elements is cut along its largest axis that the devices divide; all
      others are replicated.
    devices: As in `data_parallel`.
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
  """Return where `place` puts the leaves: a tree of `NamedSharding`.

  Args:
    tree: Pytree of arrays or shapes.
    how: As in `place`.
    devices: As in `data_parallel`, or those of a slice to compile for.
  """
  return _shardings(tree, how, _global(list(devices or jax.local_devices())))


def _shardings(tree: Any, how: str, devices: list[jax.Device]) -> Any:
  mesh = Mesh(np.asarray(devices), (AXIS,))

  def sharding(x: Any) -> NamedSharding:
    spec = _cut(np.shape(x), len(devices)) if how == "fsdp" else P()
    return NamedSharding(mesh, spec)

  return jax.tree.map(sharding, tree)


def _cut(shape: tuple[int, ...], count: int) -> P:
  """Return the partition spec of a leaf under fsdp."""
  axes = [i for i, size in enumerate(shape) if size % count == 0]
  if not axes or math.prod(shape) < _SMALLEST_CUT:
    return P()
  axis = max(axes, key=lambda i: shape[i])
  return P(*[None] * axis, AXIS)


def to_host(tree: Any) -> Any:
  """Return a tree as NumPy arrays, gathered from all processes if needed."""
  leaves = jax.tree.leaves(tree)
  whole = (x.is_fully_addressable or x.is_fully_replicated for x in leaves)
  if all(whole):
    return jax.device_get(tree)
  return multihost_utils.process_allgather(tree, tiled=True)
