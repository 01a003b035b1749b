"""Writing safetensors files: headers first, then one leaf after another."""

import contextlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from keyjax import private_files
from keyjax.checkpoint.errors import CheckpointContentError
from keyjax.checkpoint.format.manifest import DTYPES
from keyjax.checkpoint.format.origin import Origin, OriginalFile
from keyjax.checkpoint.weights.safetensors_header import (
  SIZE_BYTES,
  Header,
  HeaderError,
  Metadata,
  Tensor,
  check_tensor,
  in_usual_order,
  read_header,
  size_prefix,
  write_header,
)

INDEX_NAME = "model.safetensors.index.json"


class NewFile(NamedTuple):
  """A file to be written.

  Attributes:
    name: Name of the file; unused for a single one.
    header: Bytes before the tensors, without their size.
    tensors: Tensors in the order of their data.
  """

  name: str
  header: bytes
  tensors: tuple[Tensor, ...]


class NewFiles(NamedTuple):
  """What is to be written: one file, or files and their index.

  Attributes:
    files: The files.
    index_text: Text of the index; None for a single file.
    index_name: Name of the index.
  """

  files: tuple[NewFile, ...]
  index_text: str | None = None
  index_name: str = INDEX_NAME


def check_tensors(tensors: Sequence[Tensor]) -> None:
  """Raise a ValueError unless a file can hold these tensors."""
  if len({tensor.name for tensor in tensors}) < len(tensors):
    names = [tensor.name for tensor in tensors]
    twice = next(name for name in names if names.count(name) > 1)
    raise ValueError(
      f"two leaves have one name with dots, {twice}: use another format"
    )
  try:
    for tensor in tensors:
      check_tensor(tensor.name, tensor.dtype)
  except HeaderError as error:
    raise ValueError(str(error)) from None


def plan_file(
  tensors: Sequence[Tensor], metadata: Metadata | None, name: str = ""
) -> NewFile:
  """Return a file of tensors, as the safetensors library would write it."""
  in_order = in_usual_order(tensors)
  return NewFile(
    name=name, header=write_header(in_order, metadata), tensors=in_order
  )


def plan_single(
  tensors: Sequence[Tensor], metadata: Metadata | None
) -> NewFiles:
  """Return one file of tensors.

  Raises:
    ValueError: If a file cannot hold them.
  """
  check_tensors(tensors)
  return NewFiles(files=(plan_file(tensors, metadata),))


def plan_shards(
  tensors: Sequence[Tensor], metadata: Metadata | None, shard_bytes: int
) -> NewFiles:
  """Return files of a limited size and their index, as Hugging Face names them.

  Args:
    tensors: Tensors; their order decides which share a file.
    metadata: Metadata of each file.
    shard_bytes: Largest size of the tensors of a file; one that is larger has
      a file for itself.

  Raises:
    ValueError: If a file cannot hold them.
  """
  check_tensors(tensors)
  shards: list[list[Tensor]] = [[]]
  size = 0
  for tensor in tensors:
    if shards[-1] and size + tensor.nbytes > shard_bytes:
      shards.append([])
      size = 0
    shards[-1].append(tensor)
    size += tensor.nbytes
  count = len(shards)
  names = [
    f"model-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)
  ]
  index = {
    "metadata": {"total_size": sum(tensor.nbytes for tensor in tensors)},
    "weight_map": {
      tensor.name: name
      for name, shard in zip(names, shards, strict=True)
      for tensor in shard
    },
  }
  text = json.dumps(index, indent=2, sort_keys=True, ensure_ascii=False)
  files = [
    plan_file(shard, metadata, name)
    for name, shard in zip(names, shards, strict=True)
  ]
  return NewFiles(files=tuple(files), index_text=f"{text}\n")


def plan_original(origin: Origin, tensors: Sequence[Tensor]) -> NewFiles:
  """Return the files that a checkpoint was sealed from.

  Args:
    origin: Description of the files.
    tensors: All leaves of the checkpoint by their number.

  Raises:
    CheckpointContentError: If the origin describes other leaves.
  """
  check_tensors(tensors)
  files = [_plan_original_file(file, tensors) for file in origin.files]
  return NewFiles(
    files=tuple(files),
    index_text=origin.index_text,
    index_name=origin.index_name or INDEX_NAME,
  )


def _plan_original_file(
  file: OriginalFile, tensors: Sequence[Tensor]
) -> NewFile:
  held = [tensors[i] for i in file.leaves]
  if file.header is None:
    return plan_file(held, file.metadata, file.name)
  size = sum(tensor.nbytes for tensor in held)
  try:
    header: Header | None = read_header(file.header.encode(), size)
  except (HeaderError, UnicodeEncodeError):
    header = None
  if header is None or sorted(header.tensors) != sorted(held):
    raise CheckpointContentError(
      f"the header of {file.name} in the manifest describes other leaves"
    )
  return NewFile(name=file.name, header=header.text, tensors=header.tensors)


def write_single(
  path: str | os.PathLike[str],
  planned: NewFiles,
  leaves: Iterable[tuple[str, np.ndarray]],
) -> None:
  """Write one new file, mode 600, completely or not at all.

  Args:
    path: New file.
    planned: The file.
    leaves: Each tensor's name and array, in any order.

  Raises:
    FileExistsError: If `path` exists.
    OSError: If it cannot be written.
  """
  (file,) = planned.files
  with private_files.creating(path) as (_, opened):
    _write([(file, opened)], leaves)


def write_folder(
  path: str | os.PathLike[str],
  planned: NewFiles,
  leaves: Iterable[tuple[str, np.ndarray]],
) -> None:
  """Write a new folder of files, mode 700, completely or not at all.

  Args:
    path: New folder.
    planned: The files and their index.
    leaves: Each tensor's name and array, in any order.

  Raises:
    FileExistsError: If `path` exists.
    OSError: If it cannot be written.
  """
  path = pathlib.Path(path)
  with _new_folder(path) as folder, contextlib.ExitStack() as stack:
    opened = [
      (file, stack.enter_context(_new_file(folder / file.name)))
      for file in planned.files
    ]
    if planned.index_text is not None:
      with _new_file(folder / planned.index_name) as index:
        index.write(planned.index_text.encode())
    _write(opened, leaves)


@contextlib.contextmanager
def _new_folder(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yield a folder that takes its name when it is complete."""
  private_files.check_name_length(path)
  if os.path.lexists(path):
    raise FileExistsError(f"{path} exists; it is not overwritten")
  path.parent.mkdir(parents=True, exist_ok=True)
  folder = pathlib.Path(tempfile.mkdtemp(dir=path.parent, prefix=".part-"))
  try:
    yield folder
    private_files.sync_folder(folder)
    if os.path.lexists(path):  # An empty folder would be replaced.
      raise FileExistsError(f"{path} exists; it is not overwritten")
    folder.rename(path)
  except BaseException:
    shutil.rmtree(folder, ignore_errors=True)
    raise
  private_files.sync_folder(path.parent)


@contextlib.contextmanager
def _new_file(path: pathlib.Path) -> Iterator[BinaryIO]:
  flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
  fd = os.open(path, flags, private_files.PRIVATE)
  with os.fdopen(fd, "wb") as file:
    yield file
    file.flush()
    os.fsync(file.fileno())


def _write(
  files: list[tuple[NewFile, BinaryIO]],
  leaves: Iterable[tuple[str, np.ndarray]],
) -> None:
  place: dict[str, tuple[BinaryIO, int]] = {}
  for file, opened in files:
    opened.write(size_prefix(file.header) + file.header)
    offset = SIZE_BYTES + len(file.header)
    for tensor in file.tensors:
      place[tensor.name] = opened, offset
      offset += tensor.nbytes
  iterator = iter(leaves)
  while (found := next(iterator, None)) is not None:
    name, array = found
    opened, offset = place.pop(name)
    opened.seek(offset)
    # dtype[...] -> uint8[size in bytes]; a copy only if not contiguous.
    opened.write(as_bytes(array))
    del found, array  # Before the next leaf is read into memory.
  assert not place


def as_bytes(array: Any) -> memoryview:
  r"""Return the bytes of an array, little-endian and in C order.

  Example:
    >>> bytes(as_bytes(np.array([1, 2], ">i2")))
    b'\x01\x00\x02\x00'
  """
  array = np.asarray(array)
  array = np.ascontiguousarray(array, DTYPES[array.dtype.name])
  return array.reshape(-1).view(np.uint8).data
