"""Sealed bytes as an Orbax checkpoint, and back without more than is needed.

    PATH/header/metadata   JSON: format, version, envelope; `rewrap` replaces it
    PATH/sealed/           a PyTree of uint8 arrays in OCDBT: `manifest`,
                           `signature`, and the segments `000000`, `000001`, ...

Orbax writes, so that a checkpoint appears whole or not at all, in one process
or in many. Reading goes to TensorStore, which Orbax stands on, because it reads
any range of bytes; what the files say of themselves is not trusted: an array
of another type, size or coding than it must have is refused unread.
"""

import json
import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts

from keyjax.checkpoint.errors import CheckpointError, flat
from keyjax.checkpoint.layout import Streams

FORMAT, VERSION = "keyjax-sealed", 1
_HEADER, _DATA, _HEADER_FILE = "header", "sealed", "metadata"
_MAX_HEADER = 1 << 25
_CACHE = 1 << 25
_LEAST = 1 << 12


def handlers() -> dict[str, ocp.CheckpointHandler]:
  """Returns what writes the items of a sealed checkpoint."""
  numpy = ocp.type_handlers.NumpyHandler(deepcopy_host_arrays=False)
  jax_arrays = ocp.type_handlers.ArrayHandler()
  registry = ocp.type_handlers.create_type_handler_registry(
    (np.ndarray, numpy), (jax.Array, jax_arrays)
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


def segments(stream: np.ndarray, streams: Streams) -> dict[str, Any]:
  """Returns a process's stream as the arrays that Orbax writes.

  Args:
    stream: uint8[streams.size], of this process.
    streams: how it is cut.

  Returns:
    uint8[streams.rows, streams.segment] by name, in several processes
    sharded over them so that each writes its own row.
  """
  rows = stream.reshape(streams.segments, 1, streams.segment)
  names = [segment_name(i) for i in range(streams.segments)]
  if streams.rows == 1:
    return dict(zip(names, rows, strict=True))
  first = {d.process_index: d for d in reversed(jax.devices())}
  devices = np.asarray([first[i] for i in range(streams.rows)])
  mesh = jax.sharding.Mesh(devices, ("process",))
  # Ciphertext need not take memory of an accelerator.
  kind = None if devices[0].platform == "cpu" else "pinned_host"
  sharding = jax.sharding.NamedSharding(
    mesh, jax.sharding.PartitionSpec("process"), memory_kind=kind
  )
  shape = (streams.rows, streams.segment)
  out = [
    jax.make_array_from_process_local_data(sharding, r, shape) for r in rows
  ]
  return dict(zip(names, out, strict=True))


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
  fd, name = tempfile.mkstemp(dir=file.parent, prefix=".rewrap-")
  try:
    with os.fdopen(fd, "w") as part:
      os.fchmod(fd, file.stat().st_mode & 0o777)
      part.write(json.dumps(header(envelope)))
      part.flush()
      os.fsync(fd)
    os.replace(name, file)
    for left in file.parent.glob(".rewrap-*"):  # Of a process that was killed.
      left.unlink(missing_ok=True)
  except BaseException:
    pathlib.Path(name).unlink(missing_ok=True)
    raise
  folder = os.open(file.parent, os.O_RDONLY)
  try:
    os.fsync(folder)
  finally:
    os.close(folder)


class Store:
  """A sealed checkpoint on disk, to be read."""

  def __init__(self, path: str | os.PathLike[str]):
    """Opens a checkpoint.

    Args:
      path: its folder.

    Raises:
      FileNotFoundError: there is no whole checkpoint at `path`.
      CheckpointError: it is not a sealed one, or of an unknown version.
    """
    self.path = pathlib.Path(path).absolute()
    if not self.path.exists():
      raise FileNotFoundError(f"no checkpoint at {self.path}")
    self.envelope = self._envelope()
    limits = {"limit": os.cpu_count() or 1}
    self._context = ts.Context(
      {
        "cache_pool": {"total_bytes_limit": _CACHE},
        "data_copy_concurrency": limits,
      }
    )
    self._segments: dict[int, ts.TensorStore] = {}

  def _envelope(self) -> bytes:
    file = self.path / _HEADER / _HEADER_FILE
    what = f"{self.path} is not a sealed checkpoint"
    try:
      with file.open("rb") as opened:
        data = opened.read(_MAX_HEADER + 1)
    except OSError as error:
      raise flat(what, error) from None
    if len(data) > _MAX_HEADER:
      raise CheckpointError(f"{what}: its header is too large")
    try:
      found = json.loads(data)
    except (ValueError, RecursionError):
      raise CheckpointError(f"{what}: its header is not JSON") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
      raise CheckpointError(what)
    version, envelope = found.get("version"), found.get("envelope")
    if type(version) is not int or version != VERSION:
      raise CheckpointError(
        f"{self.path} is a sealed checkpoint of version {version!r:.20}: this "
        f"release of KeyJAX reads version {VERSION}"
      )
    if set(found) != set(header(b"")) or not isinstance(envelope, str):
      raise CheckpointError(f"{what}: its header has other fields")
    try:
      return envelope.encode("ascii")
    except UnicodeEncodeError:
      raise CheckpointError(f"{what}: its header has other fields") from None

  def small(self, name: str, most: int) -> bytes:
    """Returns the bytes of `manifest` or `signature`.

    Raises:
      CheckpointError: it is missing, cannot be read or is too large.
    """
    array = self._open(name)
    read_whole = array.chunk_layout.read_chunk.shape == array.shape
    if not read_whole or not _LEAST <= array.size <= most:
      raise CheckpointError(f"the {name} of {self.path} has an odd size")
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
    base = f"file://{self.path / _DATA}/"
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
      raise flat(f"could not read {self.path}", error) from None
