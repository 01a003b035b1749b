"""Reading safetensors files, alone or several with an index.

Only headers are read until a leaf is needed: memory does not grow with a file.
"""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from keyjax.checkpoint.errors import CheckpointContentError, read_error
from keyjax.checkpoint.format.manifest import DTYPES
from keyjax.checkpoint.format.origin import (
  Origin,
  OriginalFile,
  is_file_name,
)
from keyjax.checkpoint.parts.stored_leaf import StoredLeaf
from keyjax.checkpoint.storage import locations
from keyjax.checkpoint.weights.safetensors_header import (
  SIZE_BYTES,
  Header,
  HeaderError,
  read_header,
  read_size,
)

SUFFIX = ".safetensors"
INDEX_SUFFIX = f"{SUFFIX}.index.json"
_MAX_INDEX_BYTES = 1 << 26


class OpenedFile(NamedTuple):
  """A file whose header was read.

  Attributes:
    name: Name of the file.
    header: Its header.
    leaves: Its tensors by name; they are read while the file is open.
  """

  name: str
  header: Header
  leaves: dict[str, StoredLeaf]


@contextlib.contextmanager
def open_file(path: pathlib.Path) -> Iterator[OpenedFile]:
  """Open a safetensors file and read its header.

  Raises:
    CheckpointContentError: If it is damaged, or has a dtype that is not
      supported.
    OSError: If it cannot be read.
  """
  with locations.opened_file(path) as (file, file_size):
    descriptor = file.fileno()
    try:
      size = read_size(os.pread(descriptor, SIZE_BYTES, 0), file_size)
      text = bytearray(size)
      _read_into(path, descriptor, SIZE_BYTES, memoryview(text))
      header = read_header(bytes(text), file_size - SIZE_BYTES - size)
    except HeaderError as error:
      raise CheckpointContentError(f"{path}: {error}") from None
    yield OpenedFile(
      name=path.name,
      header=header,
      leaves=_leaves(path, descriptor, SIZE_BYTES + size, header),
    )


def _leaves(
  path: pathlib.Path, descriptor: int, offset: int, header: Header
) -> dict[str, StoredLeaf]:
  found = {}
  for tensor in header.tensors:
    found[tensor.name] = StoredLeaf(
      shape=tensor.shape,
      dtype=DTYPES[tensor.dtype],
      read_into=_reader(path, descriptor, offset),
    )
    offset += tensor.nbytes
  return found


def _reader(path: pathlib.Path, descriptor: int, offset: int) -> Any:
  def read_into(first: int, out: memoryview) -> None:
    _read_into(path, descriptor, offset + first, out)

  return read_into


def _read_into(
  path: pathlib.Path, descriptor: int, offset: int, out: memoryview
) -> None:
  done = 0
  while done < len(out):
    try:
      count = os.preadv(descriptor, [out[done:]], offset + done)
    except OSError as error:
      raise read_error(f"could not read {path}", error) from None
    if not count:
      raise CheckpointContentError(f"{path} became shorter while it was read")
    done += count


@contextlib.contextmanager
def open_files(
  path: pathlib.Path,
) -> Iterator[tuple[dict[str, StoredLeaf], Origin]]:
  """Open a safetensors file, or all files that an index lists.

  Args:
    path: File that ends in `.safetensors` or `.safetensors.index.json`.

  Yields:
    Tensors by name, and where each comes from.

  Raises:
    CheckpointContentError: If a file is damaged, or the index and its files
      differ.
    OSError: If a file cannot be read.
  """
  with contextlib.ExitStack() as stack:
    if not path.name.endswith(INDEX_SUFFIX):
      file = stack.enter_context(open_file(path))
      yield dict(file.leaves), _origin([file])
      return
    text, file_of = _read_index(path)
    files = []
    for name in sorted(set(file_of.values())):
      try:
        files.append(stack.enter_context(open_file(path.parent / name)))
      except FileNotFoundError:
        raise CheckpointContentError(
          f"{path} lists {name}, which is missing"
        ) from None
    _check_index(path, file_of, files)
    tree = {name: leaf for file in files for name, leaf in file.leaves.items()}
    yield tree, _origin(files, index_text=text, index_name=path.name)


def _read_index(path: pathlib.Path) -> tuple[str, dict[str, str]]:
  """Return the text of an index, and the file of each tensor."""
  with locations.opened_file(path) as (file, _):
    data = file.read(_MAX_INDEX_BYTES + 1)
  try:
    text = data.decode()  # A mark is kept, to write the same bytes again.
    fields = json.loads(text.removeprefix("\ufeff"))
  except (ValueError, RecursionError):
    fields = None
  file_of = fields.get("weight_map") if isinstance(fields, dict) else None
  if not isinstance(file_of, dict) or len(data) > _MAX_INDEX_BYTES:
    raise CheckpointContentError(f"{path} is not an index of safetensors files")
  for name in file_of.values():
    if not is_file_name(name) or not name.endswith(SUFFIX):
      raise CheckpointContentError(
        f"{path} lists {name!r:.60}, which is not a safetensors file next to it"
      )
  if not file_of:
    raise CheckpointContentError(f"{path} lists no tensors")
  return text, file_of


def _check_index(
  path: pathlib.Path, file_of: dict[str, str], files: list[OpenedFile]
) -> None:
  seen: dict[str, str] = {}
  for file in files:
    for name in file.leaves:
      if name in seen:
        raise CheckpointContentError(
          f"{path}: the tensor {name:.80} is in {seen[name]} and in {file.name}"
        )
      seen[name] = file.name
  for name, file_name in file_of.items():
    if seen.get(name) != file_name:
      raise CheckpointContentError(
        f"{path}: the tensor {name:.80} is not in {file_name}"
      )


def _origin(
  files: list[OpenedFile],
  index_text: str | None = None,
  index_name: str | None = None,
) -> Origin:
  # Leaves of a dict are numbered in the order of their sorted names.
  names = sorted(name for file in files for name in file.leaves)
  number = {name: i for i, name in enumerate(names)}
  original = [
    OriginalFile(
      name=file.name,
      leaves=tuple(sorted(number[name] for name in file.leaves)),
      metadata=file.header.metadata,
      header=None if file.header.is_usual else file.header.text.decode(),
    )
    for file in files
  ]
  return Origin(
    files=tuple(original), index_text=index_text, index_name=index_name
  )


def find_in_folder(folder: Any) -> list[str]:
  """Return the names in a folder that each stand for a tree of tensors.

  An index stands for the files that it lists.

  Example:
    >>> find_in_folder(pathlib.Path("/nonexistent"))
    []
  """
  if not folder.is_dir():
    return []
  names = sorted(file.name for file in folder.iterdir())
  indices = [name for name in names if name.endswith(INDEX_SUFFIX)]
  listed: set[str] = set()
  for name in indices:
    listed.update(_read_index(folder / name)[1].values())
  alone = [x for x in names if x.endswith(SUFFIX) and x not in listed]
  return indices + alone
