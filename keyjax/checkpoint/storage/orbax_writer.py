"""Writing sealed bytes as an Orbax checkpoint.

    PATH/header/metadata   JSON: format, version, envelope; `rewrap` replaces it
    PATH/sealed/           a PyTree of uint8 arrays in OCDBT: `manifest`,
                           `signature`, and the segments `000000`, `000001`, ...

Orbax makes a checkpoint appear completely or not at all, in one process or in
many, on a disk or in a bucket (see `locations`).
"""

import asyncio
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts

from keyjax.checkpoint.format.layout import Streams
from keyjax.checkpoint.storage import commit_mark, folders, header
from keyjax.checkpoint.storage.sealed_files import DATA, segment_name

# Segments of 32 MiB; a disk is as fast with three as with more.
_WRITES_ON_A_DISK = 3
_WRITES_ELSEWHERE = 6


class SealedArrays(NamedTuple):
  """What a sealed checkpoint consists of, to be written.

  Attributes:
    envelope: Wrapped data key.
    arrays: `manifest`, `signature` and segments, uint8, perhaps lazy.
    streams: How the segments are read.
  """

  envelope: bytes
  arrays: dict[str, Any]
  streams: Streams


class LazyArray(np.ndarray):
  """An array of known size whose bytes are produced when they are written."""

  produce: Callable[[], np.ndarray]
  release: Callable[[np.ndarray], None] | None

  @classmethod
  def of(
    cls,
    shape: tuple[int, ...],
    produce: Callable[[], np.ndarray],
    release: Callable[[np.ndarray], None] | None = None,
  ) -> "LazyArray":
    """Create a placeholder uint8[shape] that takes no memory.

    Args:
      shape: Shape of the array.
      produce: Returns the array; called once, in the order of the names.
      release: Receives the array after it was written, to reuse its memory.
    """
    out = np.broadcast_to(np.uint8(0), shape).view(cls)
    out.produce = produce
    out.release = release
    return out


class _OrderedHandler(ocp.type_handlers.NumpyHandler):
  """A handler that writes arrays in the order of their names, few at once.

  Orbax begins to write all arrays at once, and copies each of them. After an
  error no other write begins, and it is raised once all writes have ended.
  """

  def __init__(self) -> None:
    super().__init__(deepcopy_host_arrays=False)
    self._loop: asyncio.AbstractEventLoop | None = None

  async def _open_and_write(
    self, value: np.ndarray, tspec: dict[str, Any], ts_context: ts.Context
  ) -> None:
    loop = asyncio.get_running_loop()
    if self._loop is not loop:  # Each save has its own.
      self._loop = loop
      self._failed = False
      self._parallel = _parallel_writes(tspec)
      self._turns = asyncio.Semaphore(self._parallel)
    try:
      async with self._turns:
        if not self._failed:
          await _write_array(value, ts.Spec(tspec), ts_context)
    except Exception:
      if self._failed:
        return
      self._failed = True
      for _ in range(self._parallel):
        await self._turns.acquire()
      for _ in range(self._parallel):
        self._turns.release()
      raise


def _parallel_writes(spec: dict[str, Any]) -> int:
  """Return how many segments are written at once to where a spec points."""
  store: Any = spec
  driver = ""
  while isinstance(store, dict):  # Stores are nested: zarr in OCDBT in files.
    driver = store["driver"]
    store = store.get("kvstore", store.get("base"))
  on_disk = driver == "file" or str(store).startswith("file://")
  return _WRITES_ON_A_DISK if on_disk else _WRITES_ELSEWHERE


async def _write_array(
  value: np.ndarray, spec: ts.Spec, context: ts.Context
) -> None:
  data = value.produce() if isinstance(value, LazyArray) else value
  array = await ts.open(spec, create=True, open=True, context=context)
  # TensorStore writes an array [n] from where it is, and is done with it at the
  # end. Of an array [1, n] it makes a copy, whose memory it keeps.
  await array.write(data, can_reference_source_data_indefinitely=True)
  if isinstance(value, LazyArray) and value.release:
    value.release(data)


def handlers() -> dict[str, ocp.CheckpointHandler]:
  """Return Orbax's handlers for the items of a sealed checkpoint."""
  registry = ocp.type_handlers.create_type_handler_registry(
    (np.ndarray, _OrderedHandler()),
    (jax.Array, ocp.type_handlers.ArrayHandler()),
  )
  data = ocp.PyTreeCheckpointHandler(
    use_compression=False, type_handler_registry=registry
  )
  return {header.HEADER: ocp.JsonCheckpointHandler(), DATA: data}


def save_args(sealed: SealedArrays) -> ocp.args.Composite:
  """Return the arguments with which Orbax saves a sealed checkpoint."""
  streams = sealed.streams
  in_one_chunk = streams.read_size == streams.segment_size
  segment = ocp.SaveArgs(
    chunk_byte_size=None if in_one_chunk else streams.read_size
  )
  by_name = {
    name: ocp.SaveArgs() if name in ("manifest", "signature") else segment
    for name in sealed.arrays
  }
  items = {
    header.HEADER: ocp.args.JsonSave(header.contents(sealed.envelope)),
    DATA: ocp.args.PyTreeSave(sealed.arrays, save_args=by_name),
  }
  return ocp.args.Composite(**items)


def write(path: pathlib.Path, sealed: SealedArrays) -> None:
  """Write a sealed checkpoint to a new folder, completely or not at all.

  Raises:
    CheckpointStorageError: If the disk is full, or the folder cannot be
      written.
  """
  completed_by = {
    "temporary_path_class": commit_mark.temporary_path_class(path)
  }
  handler = ocp.CompositeCheckpointHandler(
    composite_options=ocp.CompositeOptions(**completed_by), **handlers()
  )
  with (
    folders.writing(path),
    ocp.Checkpointer(handler, **completed_by) as checkpointer,
  ):
    checkpointer.save(path, args=save_args(sealed))


def segment_arrays(
  streams: Streams,
  produce: Callable[[], np.ndarray],
  release: Callable[[np.ndarray], None],
  lazy: bool,
) -> dict[str, Any]:
  """Return a process's stream as the arrays that Orbax writes.

  Args:
    streams: How the stream is split.
    produce: Returns the next segment, uint8[segment_size].
    release: Receives a segment after it was written, to reuse its memory.
    lazy: Whether to produce a segment when it is written; for one process.

  Returns:
    uint8[processes * segment_size] by name; with several processes sharded over
    them, so that each writes its own part.
  """
  names = [segment_name(i) for i in range(streams.segments)]
  if lazy:
    shape = (streams.segment_size,)
    return {name: LazyArray.of(shape, produce, release) for name in names}
  if streams.processes == 1:
    return {name: produce() for name in names}
  to_global = _part_of_global_array(streams)
  return {name: to_global(produce()) for name in names}


def _part_of_global_array(
  streams: Streams,
) -> Callable[[np.ndarray], jax.Array]:
  """Return a function from this process's part to the global array."""
  first = {d.process_index: d for d in reversed(jax.devices())}
  devices = np.asarray([first[i] for i in range(streams.processes)])
  mesh = jax.sharding.Mesh(devices, ("process",))
  # Ciphertext need not take an accelerator's memory.
  kind = None if devices[0].platform == "cpu" else "pinned_host"
  sharding = jax.sharding.NamedSharding(
    mesh, jax.sharding.PartitionSpec("process"), memory_kind=kind
  )
  # uint8[segment_size] -> uint8[processes * segment_size]
  shape = (streams.processes * streams.segment_size,)
  return lambda part: jax.make_array_from_process_local_data(
    sharding, part, shape
  )
