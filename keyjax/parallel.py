"""Data parallelism: one pure step, run by pmap or by shard_map.

A step is `step(state, key, batch) -> (state, metrics)`. It sees one device's
rows of the batch and averages over `AXIS` with `jax.lax.pmean`. State, key and
metrics are replicated. `jax.pmap` is in maintenance mode (it runs on jit and
shard_map since JAX 0.8); the same step runs unchanged under `shard_map`.

With several processes (`initialize`), all run the same program; each brings
its own rows of the batch, in the order of the processes, and the same key.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

AXIS = "data"
Step = Callable[[Any, Any, Any], tuple[Any, Any]]
# Processes that wait at the end while the first one evaluates.
_SHUTDOWN_SECONDS = 24 * 3600


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
      `pmean` over `AXIS`.
    how: `pmap` or `shard_map`.
    devices: of a single process, some of its devices; all by default.

  Returns:
    The step over whole host batches: NumPy arrays whose first axis is this
    process's rows.

  Raises:
    ValueError: an unknown `how`, or (on a call) a batch that the devices do
      not divide.
  """
  makers = {"pmap": _pmap, "shard_map": _shard_map}
  if how not in makers:
    raise ValueError(f"how={how!r}: choose 'pmap' or 'shard_map'")
  run = makers[how](step, list(devices or jax.local_devices()))
  # Collectives of processes on CPUs hang when steps queue up (JAX 0.10.2).
  queues = jax.process_count() == 1 or jax.default_backend() != "cpu"
  return run if queues else lambda *args: jax.block_until_ready(run(*args))


def _pmap(step: Step, devices: list[jax.Device]) -> Step:
  compiled = jax.pmap(
    step,
    axis_name=AXIS,
    in_axes=(None, None, 0),
    out_axes=(None, None),
    donate_argnums=(0,),
    devices=_global(devices),
  )

  def run(state: Any, key: Any, batch: Any) -> tuple[Any, Any]:
    return compiled(state, key, split(batch, len(devices)))

  return run


def _shard_map(step: Step, devices: list[jax.Device]) -> Step:
  mesh = Mesh(np.asarray(_global(devices)), (AXIS,))
  # check_vma=False: gradients stay per device until the step's own pmean.
  mapped = jax.shard_map(
    step,
    mesh=mesh,
    in_specs=(P(), P(), P(AXIS)),
    out_specs=(P(), P()),
    check_vma=False,
  )
  compiled = jax.jit(mapped, donate_argnums=(0,))
  rows = NamedSharding(mesh, P(AXIS))

  def place(x: Any) -> jax.Array:
    return jax.make_array_from_process_local_data(rows, np.asarray(x))

  def run(state: Any, key: Any, batch: Any) -> tuple[Any, Any]:
    _check_rows(batch, len(devices))
    return compiled(state, key, jax.tree.map(place, batch))

  return run


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
  mesh = Mesh(
    np.asarray(_global(list(devices or jax.local_devices()))), (AXIS,)
  )
  sharding = NamedSharding(mesh, P())
  return jax.tree.map(
    lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)),
    tree,
  )
