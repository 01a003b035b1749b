"""Reading sealed bytes of a checkpoint, and only those that are needed.

TensorStore, on which Orbax is built, reads any byte range. What the files say
about themselves is not trusted: an array of a wrong type, size or coding is
refused before it is read.
"""

import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorstore as ts

from keyjax.checkpoint.errors import (
  CheckpointContentError,
  read_error,
)
from keyjax.checkpoint.format.layout import Streams
from keyjax.checkpoint.storage import header, locations

DATA = "sealed"
_MIN_ARRAY_BYTES = 1 << 12
_CACHE_BYTES = 1 << 25
_BUCKET_RETRIES = 6  # Of a request: a minute, with pauses that double.


def is_sealed(path: pathlib.Path) -> bool:
  """Return whether a checkpoint's folder holds sealed arrays."""
  with locations.bucket_errors(path):
    return (path / DATA).is_dir()


class SealedFiles:
  """The files of a sealed checkpoint, on a disk or in a bucket.

  Attributes:
    path: Folder of the checkpoint.
    envelope: Wrapped data key.
  """

  def __init__(self, path: str | os.PathLike[str]):
    """Read the header of a checkpoint.

    Args:
      path: Folder of the checkpoint.

    Raises:
      FileNotFoundError: If there is no complete checkpoint at `path`.
      CheckpointContentError: If it is not a sealed one, or has an unknown
        version.
      CheckpointStorageError: If its bucket cannot be reached.
    """
    self.path = header.find(path)
    self.envelope = header.read(self.path)
    copies = {"limit": os.cpu_count() or 1}
    self._context = ts.Context(
      {
        "cache_pool": {"total_bytes_limit": _CACHE_BYTES},
        "data_copy_concurrency": copies,
        "gcs_request_retries": {"max_retries": _BUCKET_RETRIES},
      }
    )
    self._segments: dict[int, ts.TensorStore] = {}

  def size(self) -> int:
    """Return the size in bytes of all visible files."""
    return locations.size(self.path)

  def data_size(self) -> int:
    """Return the size in bytes of all files without holes."""
    return locations.data_size(self.path)

  def read_small(self, name: str, max_size: int) -> bytes:
    """Return the bytes of `manifest` or `signature`.

    Raises:
      CheckpointError: If it is missing, unreadable or too large.
    """
    array = self._open(name)
    in_one_chunk = array.chunk_layout.read_chunk.shape == array.shape
    if not in_one_chunk or not _MIN_ARRAY_BYTES <= array.size <= max_size:
      raise CheckpointContentError(
        f"the {name} of {self.path} has an unexpected size"
      )
    return self._run(lambda: array.read().result()).tobytes()

  def start_read(
    self, streams: Streams, row: int, start: int, out: np.ndarray
  ) -> Callable[[], None]:
    """Begin to read bytes of a stream.

    Args:
      streams: How the checkpoint is stored, according to its manifest.
      row: Number of the stream.
      start: First byte.
      out: uint8[n], overwritten.

    Returns:
      A function that waits for the bytes. It raises a CheckpointError if they
      cannot be read.
    """
    waits = []
    done = 0
    while done < out.size:
      index, first = divmod(start + done, streams.segment_size)
      size = min(out.size - done, streams.segment_size - first)
      segment = self._segment(index, streams)
      if segment.rank == 2:  # An older one, [streams, segment size].
        source = segment[row, first : first + size]
      else:
        first += row * streams.segment_size
        source = segment[first : first + size]
      target = ts.array(out[done : done + size], copy=False, write=True)
      waits.append(target.write(source))
      done += size
    return lambda: self._run(lambda: [w.result() for w in waits])

  def _segment(self, index: int, streams: Streams) -> ts.TensorStore:
    if index not in self._segments:
      name = segment_name(index)
      array = self._open(name)
      shapes = array.shape, array.chunk_layout.read_chunk.shape
      if shapes not in _segment_shapes(streams):
        raise CheckpointContentError(
          f"segment {name} of {self.path} has an unexpected size"
        )
      self._segments[index] = array
    return self._segments[index]

  def _open(self, name: str) -> ts.TensorStore:
    base = locations.tensorstore_spec(self.path / DATA)
    metadata = {"zarr_format": 2, "dtype": "|u1", "order": "C"}
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
      raise read_error(f"could not read {self.path}", error) from None


def _segment_shapes(streams: Streams) -> list[tuple[tuple[int, ...], ...]]:
  """Return the shapes and chunks that a segment may have: [n] or [p, n]."""
  flat = (streams.processes * streams.segment_size,)
  rows = (streams.processes, streams.segment_size)
  return [
    (flat, (streams.read_size,)),
    (rows, (1, streams.read_size)),
  ]


def segment_name(index: int) -> str:
  """Return the name of a segment."""
  return f"{index:06d}"
