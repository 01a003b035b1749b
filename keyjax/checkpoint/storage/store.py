"""Sealed bytes as an Orbax checkpoint, and back without more than is needed.

    PATH/header/metadata   JSON: format, version, envelope; `rewrap` replaces it
    PATH/sealed/           a PyTree of uint8 arrays in OCDBT: `manifest`,
                           `signature`, and the segments `000000`, `000001`, ...

Orbax writes, so that a checkpoint appears whole or not at all, in one process
or in many, on a disk or in a bucket (see `places`). Reading goes to
TensorStore, which Orbax stands on, because it reads any range of bytes; what
the files say of themselves is not trusted: an array of another type, size or
coding than it must have is refused unread.
"""

import asyncio
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts

from keyjax import private_files
from keyjax.checkpoint.errors import (
  CheckpointContentError,
  CheckpointError,
  content_error,
)
from keyjax.checkpoint.format.layout import Streams
from keyjax.checkpoint.parts.sealing import Segments
from keyjax.checkpoint.storage import locations as places

FORMAT, VERSION = "keyjax-sealed", 1
_HEADER, _DATA, _HEADER_FILE = "header", "sealed", "metadata"
_MAX_HEADER = 1 << 25
_MAX_PARTS = 1 << 15  # Brackets and commas; an envelope has fewer.
_CACHE = 1 << 25
_LEAST = 1 << 12
_WRITES = 6  # Segments that are written at a time.
_RETRIES = 6  # Of a request to a bucket: a minute, with pauses that double.


class Pending(np.ndarray):
  """An array of known size whose bytes are made when they are written."""

  make: Callable[[], np.ndarray]
  release: Callable[[np.ndarray], None] | None

  @classmethod
  def of(
    cls,
    shape: tuple[int, ...],
    make: Callable[[], np.ndarray],
    release: Callable[[np.ndarray], None] | None = None,
  ) -> "Pending":
    """Promises uint8[shape].

    Args:
      shape: of the array.
      make: what returns it; called once, in the order of the arrays' names.
      release: what takes its memory back.
    """
    out = np.broadcast_to(np.uint8(0), shape).view(cls)
    out.make, out.release = make, release
    return out


class _InTurn(ocp.type_handlers.NumpyHandler):
  """Writes arrays in the order of their names, few at a time.

  Orbax begins to write all at once, and copies all that it writes. After an
  error nothing else is begun, and it is raised once all writing has ended.
  """

  def __init__(self) -> None:
    super().__init__(deepcopy_host_arrays=False)
    self._loop: asyncio.AbstractEventLoop | None = None

  async def _open_and_write(
    self, value: np.ndarray, tspec: dict[str, Any], ts_context: ts.Context
  ) -> None:
    loop = asyncio.get_running_loop()
    if self._loop is not loop:  # Each save has its own.
      self._loop, self._failed = loop, False
      self._turns = asyncio.Semaphore(_WRITES)
    try:
      async with self._turns:
        if not self._failed:
          await _write(value, ts.Spec(tspec), ts_context)
    except Exception:
      if self._failed:
        return
      self._failed = True
      for _ in range(_WRITES):
        await self._turns.acquire()
      for _ in range(_WRITES):
        self._turns.release()
      raise


async def _write(value: np.ndarray, spec: ts.Spec, context: ts.Context) -> None:
  data = value.make() if isinstance(value, Pending) else value
  array = await ts.open(spec, create=True, open=True, context=context)
  await array.write(data)
  if isinstance(value, Pending) and value.release:
    value.release(data)


def handlers() -> dict[str, ocp.CheckpointHandler]:
  """Returns what writes the items of a sealed checkpoint."""
  jax_arrays = ocp.type_handlers.ArrayHandler()
  registry = ocp.type_handlers.create_type_handler_registry(
    (np.ndarray, _InTurn()), (jax.Array, jax_arrays)
  )
  data = ocp.PyTreeCheckpointHandler(
    use_compression=False, type_handler_registry=registry
  )
  return {_HEADER: ocp.JsonCheckpointHandler(), _DATA: data}


def arguments(
  envelope: bytes, arrays: dict[str, Any], streams: Streams
) -> ocp.args.Composite:
  """Returns what is given to Orbax to be saved.

  Args:
    envelope: the wrapped data key.
    arrays: `manifest`, `signature` and segments, uint8.
    streams: how the segments are read.
  """
  whole = streams.read == streams.segment
  read = ocp.SaveArgs(chunk_byte_size=None if whole else streams.read)
  size = {
    name: ocp.SaveArgs() if name in ("manifest", "signature") else read
    for name in arrays
  }
  items = {
    _HEADER: ocp.args.JsonSave(header(envelope)),
    _DATA: ocp.args.PyTreeSave(arrays, save_args=size),
  }
  return ocp.args.Composite(**items)


def segments(made: Segments, streams: Streams, lazy: bool) -> dict[str, Any]:
  """Returns a process's stream as the arrays that Orbax writes.

  Args:
    made: what seals them.
    streams: how the stream is cut.
    lazy: whether a segment is sealed when it is written; one process only.

  Returns:
    uint8[streams.rows, streams.segment] by name, in several processes sharded
    over them so that each writes its own row.
  """
  names = [segment_name(i) for i in range(streams.segments)]
  if lazy:
    shape = (1, streams.segment)
    return {n: Pending.of(shape, made.next, made.release) for n in names}
  share = _sharded(streams) if streams.rows > 1 else lambda row: row
  return {name: share(made.next()) for name in names}


def _sharded(streams: Streams) -> Callable[[np.ndarray], jax.Array]:
  """Returns what makes a row of this process part of a global array."""
  first = {d.process_index: d for d in reversed(jax.devices())}
  devices = np.asarray([first[i] for i in range(streams.rows)])
  mesh = jax.sharding.Mesh(devices, ("process",))
  # Ciphertext need not take memory of an accelerator.
  kind = None if devices[0].platform == "cpu" else "pinned_host"
  sharding = jax.sharding.NamedSharding(
    mesh, jax.sharding.PartitionSpec("process"), memory_kind=kind
  )
  shape = (streams.rows, streams.segment)
  return lambda row: jax.make_array_from_process_local_data(
    sharding, row, shape
  )


def segment_name(index: int) -> str:
  """Returns the name of an array of sealed bytes."""
  return f"{index:06d}"


def header(envelope: bytes) -> dict[str, Any]:
  """Returns what anybody can read."""
  return {
    "envelope": envelope.decode("ascii"),
    "format": FORMAT,
    "version": VERSION,
  }


def replace_header(path: pathlib.Path, envelope: bytes) -> None:
  """Puts another envelope in the place of the one there: whole or not at all.

  Raises:
    OSError: it cannot be written; the old one is there.
  """
  file = path / _HEADER / _HEADER_FILE
  if places.is_remote(path):  # One object, which is there once it is whole.
    with places.reaching(path):
      file.write_text(json.dumps(header(envelope)))
    return
  data = json.dumps(header(envelope)).encode("ascii")
  private_files.replace(file, data, mode=None)


def is_sealed(path: pathlib.Path) -> bool:
  """Tells whether a checkpoint's folder is one of sealed arrays."""
  with places.reaching(path):
    return (path / _DATA).is_dir()


class Store:
  """A sealed checkpoint on a disk or in a bucket, to be read."""

  def __init__(self, path: str | os.PathLike[str]):
    """Opens a checkpoint.

    Args:
      path: its folder.

    Raises:
      FileNotFoundError: there is no whole checkpoint at `path`.
      CheckpointError: it is not a sealed one, or of an unknown version; or its
        bucket cannot be reached.
    """
    self.path = places.location(path)
    if not places.is_whole(self.path):
      raise FileNotFoundError(f"no checkpoint at {self.path}")
    self.envelope = self._envelope()
    limits = {"limit": os.cpu_count() or 1}
    self._context = ts.Context(
      {
        "cache_pool": {"total_bytes_limit": _CACHE},
        "data_copy_concurrency": limits,
        "gcs_request_retries": {"max_retries": _RETRIES},
      }
    )
    self._segments: dict[int, ts.TensorStore] = {}

  def size(self) -> int:
    """Returns how many bytes all files have, as far as they can be seen."""
    return places.size(self.path)

  def _envelope(self) -> bytes:
    file = self.path / _HEADER / _HEADER_FILE
    what = f"{self.path} is not a sealed checkpoint"
    try:
      with places.reaching(file):
        if not file.is_file():  # One would wait for a pipe for ever.
          raise CheckpointContentError(what)
        with file.open("rb") as opened:
          data = opened.read(_MAX_HEADER + 1)
    except CheckpointError:
      raise
    except OSError as error:
      raise content_error(what, error) from None
    if len(data) > _MAX_HEADER:
      raise CheckpointContentError(f"{what}: its header is too large")
    if sum(data.count(mark) for mark in (b"[", b"{", b",")) > _MAX_PARTS:
      raise CheckpointContentError(f"{what}: its header has too many parts")
    try:
      found = json.loads(data)
    except (ValueError, RecursionError):
      raise CheckpointContentError(f"{what}: its header is not JSON") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
      raise CheckpointContentError(what)
    version, envelope = found.get("version"), found.get("envelope")
    if type(version) is not int or version != VERSION:
      raise CheckpointContentError(
        f"{self.path} is a sealed checkpoint of version {version!r:.20}: this "
        f"release of KeyJAX reads version {VERSION}"
      )
    if set(found) != set(header(b"")) or not isinstance(envelope, str):
      raise CheckpointContentError(f"{what}: its header has other fields")
    try:
      return envelope.encode("ascii")
    except UnicodeEncodeError:
      raise CheckpointContentError(
        f"{what}: its header has other fields"
      ) from None

  def small(self, name: str, most: int) -> bytes:
    """Returns the bytes of `manifest` or `signature`.

    Raises:
      CheckpointError: it is missing, cannot be read or is too large.
    """
    array = self._open(name)
    read_whole = array.chunk_layout.read_chunk.shape == array.shape
    if not read_whole or not _LEAST <= array.size <= most:
      raise CheckpointContentError(f"the {name} of {self.path} has an odd size")
    return self._run(lambda: array.read().result()).tobytes()

  def fetch(
    self, streams: Streams, row: int, start: int, out: np.ndarray
  ) -> Callable[[], None]:
    """Begins to read bytes of a stream.

    Args:
      streams: how the checkpoint is stored, by its manifest.
      row: which stream.
      start: the first byte.
      out: uint8[n], where they go.

    Returns:
      What waits for them; it raises a CheckpointError if they cannot be read.
    """
    waits, done = [], 0
    while done < out.size:
      index, first = divmod(start + done, streams.segment)
      size = min(out.size - done, streams.segment - first)
      source = self._segment(index, streams)[row, first : first + size]
      target = ts.array(out[done : done + size], copy=False, write=True)
      waits.append(target.write(source))
      done += size
    return lambda: self._run(lambda: [w.result() for w in waits])

  def _segment(self, index: int, streams: Streams) -> ts.TensorStore:
    if index not in self._segments:
      shape = [streams.rows, streams.segment]
      self._segments[index] = self._open(
        segment_name(index), shape=shape, chunks=[1, streams.read]
      )
    return self._segments[index]

  def _open(self, name: str, **must: Any) -> ts.TensorStore:
    base = places.kvstore(self.path / _DATA)
    metadata = {"zarr_format": 2, "dtype": "|u1", "order": "C", **must}
    spec = {
      "driver": "zarr",
      "kvstore": {"driver": "ocdbt", "base": base},
      "path": f"{name}/",
      "metadata": metadata | {"compressor": None, "filters": None},
    }
    context = self._context
    return self._run(
      lambda: ts.open(spec, open=True, read=True, context=context).result()
    )

  def _run(self, call: Callable[[], Any]) -> Any:
    try:
      return call()
    except Exception as error:
      raise content_error(f"could not read {self.path}", error) from None
