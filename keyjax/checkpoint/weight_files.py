"""Weights in the clear: plain Orbax checkpoints, safetensors, msgpack."""

import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import flax
import jax
import numpy as np
import orbax.checkpoint as ocp
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from keyjax import private_files
from keyjax.checkpoint.errors import CheckpointError, flat
from keyjax.checkpoint.plain import save_plain
from keyjax.checkpoint.storage import locations as places
from keyjax.tree import path_str

_SUFFIXES = {".safetensors": "safetensors", ".msgpack": "msgpack"}


def format_of(path: str | os.PathLike[str], fallback: str | None = None) -> str:
  """Returns the format that a path's suffix names.

  Args:
    path: of a file or a folder.
    fallback: what a path with another suffix is.

  Raises:
    ValueError: it has another suffix and there is no fallback.
  """
  suffix = pathlib.Path(path).suffix
  found = _SUFFIXES.get(suffix, fallback)
  if found is None:
    raise ValueError(
      f"{path} is neither an Orbax checkpoint, which is a folder, nor a file "
      f"that ends in {' or '.join(_SUFFIXES)}"
    )
  return found


def check_place(path: str | os.PathLike[str], kind: str) -> None:
  """Raises a ValueError for a file in a bucket, where only Orbax writes."""
  if kind != "orbax" and places.is_remote(path):
    raise ValueError(
      f"{path}: a file of {kind} is read and written on disks alone; copy it, "
      "or choose a folder of Orbax"
    )


def read_weights(path: str | os.PathLike[str]) -> Any:
  """Reads weights.

  Args:
    path: a folder of Orbax, also in a bucket, or a file on a disk.

  Returns:
    A tree of NumPy arrays: nested dicts; flat by name for safetensors.

  Raises:
    FileNotFoundError: nothing is there.
    ValueError: its suffix says nothing.
    CheckpointError: it cannot be read as what its suffix says.
  """
  place = places.location(path)
  if places.is_remote(place):
    check_place(path, format_of(path, "orbax"))
  if not places.is_whole(place):
    raise FileNotFoundError(f"there is no file or folder {path}")
  if places.is_remote(place) or place.is_dir():
    return _read_orbax(place)
  readers: dict[str, Callable[[Any], Any]] = {
    "safetensors": safetensors.load_file,
    "msgpack": _read_msgpack,
  }
  kind = format_of(path)
  try:
    return readers[kind](path)
  except OSError:
    raise
  except Exception as error:  # What libraries raise for a damaged file varies.
    if not isinstance(error, SafetensorError | ValueError | TypeError):
      raise
    raise CheckpointError(f"{path} is damaged, or no {kind} file") from None


def _read_msgpack(path: str | os.PathLike[str]) -> Any:
  return flax.serialization.msgpack_restore(pathlib.Path(path).read_bytes())


def _read_orbax(path: pathlib.Path) -> Any:
  try:
    with ocp.PyTreeCheckpointer() as checkpointer:
      found = checkpointer.metadata(path).item_metadata
      if found is None:
        raise ValueError("it holds no tree in the clear")
      host = jax.tree.map(
        lambda _: ocp.RestoreArgs(restore_type=np.ndarray), found.tree
      )
      return checkpointer.restore(path, restore_args=host)
  except Exception as error:
    raise flat(f"could not read the checkpoint {path}", error) from None


def write_weights(path: str | os.PathLike[str], tree: Any, kind: str) -> None:
  """Writes weights, whole or not at all; their owner alone can read them.

  In a bucket, whoever may read the bucket can.

  Args:
    path: where; nothing may be there.
    tree: what was opened.
    kind: "orbax", "safetensors" or "msgpack".

  Raises:
    FileExistsError: something is there.
    ValueError: the format does not hold such a tree, or is a file's and
      `path` of a bucket.
    OSError, CheckpointError: it cannot be written.
  """
  check_place(path, kind)
  if kind == "orbax":
    before = os.umask(0o077)
    try:
      save_plain(path, tree)
    finally:
      os.umask(before)
  elif kind == "msgpack":
    state = flax.serialization.to_state_dict(jax.tree.map(np.asarray, tree))
    private_files.create(path, flax.serialization.msgpack_serialize(state))
  else:
    _write_safetensors(pathlib.Path(path), _by_name(tree))


def _by_name(tree: Any) -> dict[str, np.ndarray]:
  """Returns arrays by names with dots, as safetensors has them."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  named = [(path_str(path).replace("/", "."), x) for path, x in leaves]
  out = {
    name: np.ascontiguousarray(x).reshape(np.shape(x)) for name, x in named
  }
  if len(out) < len(leaves):
    raise ValueError("two leaves have one name with dots: use another format")
  return out


def _write_safetensors(
  path: pathlib.Path, arrays: dict[str, np.ndarray]
) -> None:
  if path.exists():
    raise FileExistsError(f"{path} exists; it is not overwritten")
  path.parent.mkdir(parents=True, exist_ok=True)
  fd, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
  os.close(fd)
  try:
    safetensors.save_file(arrays, part)
    os.chmod(part, 0o600)
    os.link(part, path)  # Whole or not at all, and never over another file.
  except (SafetensorError, KeyError):
    raise ValueError(
      "safetensors has no such dtype: use another format"
    ) from None
  finally:
    os.unlink(part)
