"""Where a folder holds trees: its own, or those of folders inside it."""

from collections.abc import Iterator
from typing import Any

from keyjax.checkpoint.errors import CheckpointContentError
from keyjax.checkpoint.storage import locations
from keyjax.checkpoint.storage.sealed_files import is_sealed
from keyjax.checkpoint.weights import safetensors_reading
from keyjax.errors import ArgumentError

_TREE_FILE = "_METADATA"  # Orbax writes it into the folder of a tree.
_TEMPORARY = ".orbax-checkpoint-tmp"
_MAX_DEPTH = 3  # RUN/STEP/ITEM
_MAX_FOLDERS = 4096
_SHOWN = 8


def find_tree(folder: Any) -> Any:
  """Return the only tree of a folder: a folder of Orbax, or a file.

  Args:
    folder: Folder on a disk or in a bucket; a file is returned as it is.

  Raises:
    ArgumentError: If there are several; the message lists them.
    CheckpointContentError: If there is none, or it is sealed.
    FileNotFoundError: If nothing complete is in a bucket.
    CheckpointStorageError: If a bucket cannot be reached.
  """
  if not locations.is_remote(folder) and folder.is_file():
    return folder
  with locations.bucket_errors(folder):
    refuse_sealed(folder)
    is_whole = locations.is_whole(folder)
    if (folder / _TREE_FILE).is_file() and is_whole:
      return folder
    found = list(_trees(folder))
    sealed = [x for x in found if is_sealed(x)]
  if len(found) == 1 and not sealed:
    return found[0]
  if not found and not is_whole:
    raise FileNotFoundError(f"no checkpoint at {folder}")
  if not found:
    raise CheckpointContentError(
      f"could not read the checkpoint {folder}: it holds no tree in the clear"
    )
  names = [
    f"{x.relative_to(folder)}{' (sealed)' if x in sealed else ''}"
    for x in found
  ]
  more = ", ..." if len(names) > _SHOWN else ""
  trees = "a sealed tree" if len(found) == 1 else f"{len(found)} trees"
  raise ArgumentError(
    f"{folder} holds {trees}; name the one to read: "
    f"{', '.join(names[:_SHOWN])}{more}"
  )


def refuse_sealed(folder: Any) -> None:
  """Raise a CheckpointContentError for the folder of a sealed checkpoint."""
  if is_sealed(folder):
    raise CheckpointContentError(
      f"could not read the checkpoint {folder}: it is sealed and holds no tree "
      "in the clear; open it with checkpoint.restore or `keyjax decrypt`"
    )


def _trees(folder: Any) -> Iterator[Any]:
  """Yield the trees inside a folder, in the order of their names."""
  is_complete = locations.is_whole(folder)
  waiting = [(folder, 0, is_complete)]
  visited = 0
  while waiting:
    here, depth, is_complete = waiting.pop()
    visited += 1
    if visited > _MAX_FOLDERS:
      raise ArgumentError(f"{folder} has too many folders: name one of them")
    if depth and is_sealed(here):
      yield here
      continue
    if depth and (here / _TREE_FILE).is_file():
      if is_complete:
        yield here
      continue
    for name in safetensors_reading.find_in_folder(here):
      yield here / name
    if depth < _MAX_DEPTH:
      inner = sorted(
        (x for x in here.iterdir() if _is_searched(x)), reverse=True
      )
      waiting += [
        (x, depth + 1, is_complete or locations.is_whole(x)) for x in inner
      ]


def _is_searched(path: Any) -> bool:
  is_temporary = path.name.startswith(".") or _TEMPORARY in path.name
  return not is_temporary and path.is_dir()
