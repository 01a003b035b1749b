"""Trees and opened checkpoints as safetensors files."""

import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from keyjax import arguments
from keyjax.checkpoint.format import tree_structure
from keyjax.checkpoint.format.manifest import Manifest
from keyjax.checkpoint.format.origin import is_text
from keyjax.checkpoint.opened import OpenedCheckpoint
from keyjax.checkpoint.parts.opening import open_boxes
from keyjax.checkpoint.parts.selection import (
  LeafSelection,
  select_leaves,
  whole_leaf,
)
from keyjax.checkpoint.parts.stored_leaf import in_memory
from keyjax.checkpoint.weights.safetensors_header import Metadata, Tensor
from keyjax.checkpoint.weights.safetensors_reading import INDEX_SUFFIX, SUFFIX
from keyjax.checkpoint.weights.safetensors_writing import (
  NewFiles,
  plan_original,
  plan_shards,
  plan_single,
  write_folder,
  write_single,
)
from keyjax.errors import ArgumentError


def write_tree(
  path: str | os.PathLike[str],
  tree: Any,
  metadata: Mapping[str, str] | None,
  shard_bytes: int | None,
) -> None:
  """Write a tree as one file, or with `shard_bytes` as a folder of several.

  Raises:
    FileExistsError: If something is at `path`.
    ValueError: If files cannot hold such a tree.
    OSError: If they cannot be written.
  """
  import jax  # Not at the top: an opened checkpoint needs none of it.

  from keyjax.checkpoint.parts import rng_keys
  from keyjax.tree import path_str

  with_paths = jax.tree_util.tree_leaves_with_path(tree)
  names = tree_structure.names(tree_structure.describe(tree))
  for leaf_path, leaf in with_paths:
    if rng_keys.is_rng(leaf):
      raise _rng_error(path_str(leaf_path))
  leaves = [x for _, x in with_paths]
  tensors = [
    Tensor(name, np.dtype(_dtype(x)).name, tuple(np.shape(x)))
    for name, x in zip(names, leaves, strict=True)
  ]
  planned = _plan_new(path, tensors, metadata, shard_bytes)
  arrays = ((name, in_memory(x)) for name, x in zip(names, leaves, strict=True))
  _write(path, planned, arrays, shard_bytes is not None)


def _dtype(leaf: Any) -> Any:
  return leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype


def write_opened(
  path: str | os.PathLike[str],
  opened: OpenedCheckpoint,
  leaves: LeafSelection | None,
  metadata: Mapping[str, str] | None,
  shard_bytes: int | None,
) -> int:
  """Write leaves of a checkpoint, opening one at a time.

  Returns:
    The number of leaves.

  Raises:
    FileExistsError: If something is at `path`.
    ArgumentError: If no leaf matches.
    ValueError: If files cannot hold such a tree.
    CheckpointError: If the checkpoint is damaged.
    OSError: If they cannot be written.
  """
  manifest = opened.manifest
  numbers = select_leaves(manifest, leaves)
  tensors = _tensors(manifest)
  for i in numbers:
    if manifest.leaves[i].rng:
      raise _rng_error(manifest.leaves[i].path)
  as_folder = shard_bytes is not None or _was_folder(manifest, path)
  complete = len(numbers) == len(tensors)
  origin = manifest.origin
  if (
    origin
    and metadata is None
    and shard_bytes is None
    and complete
    and (as_folder == (origin.index_text is not None))
  ):
    planned = plan_original(origin, tensors)
  else:
    if origin and metadata is None:
      metadata = dict(origin.files[0].metadata or ()) or None
    selected = [tensors[i] for i in numbers]
    planned = _plan_new(path, selected, metadata, shard_bytes)
    as_folder = shard_bytes is not None
  _write(path, planned, _opened_leaves(opened, numbers, tensors), as_folder)
  return len(numbers)


def _tensors(manifest: Manifest) -> list[Tensor]:
  names = tree_structure.names(manifest.tree)
  return [
    Tensor(name, leaf.dtype, leaf.shape)
    for name, leaf in zip(names, manifest.leaves, strict=True)
  ]


def _rng_error(path: str) -> ValueError:
  return ValueError(
    f"leaf {path} is a PRNG key, which safetensors does not support: use "
    "Orbax, or choose other leaves"
  )


def _was_folder(manifest: Manifest, path: str | os.PathLike[str]) -> bool:
  origin = manifest.origin
  is_file = pathlib.Path(path).suffix == SUFFIX
  return origin is not None and origin.index_text is not None and not is_file


def _plan_new(
  path: str | os.PathLike[str],
  tensors: list[Tensor],
  metadata: Mapping[str, str] | None,
  shard_bytes: int | None,
) -> NewFiles:
  if pathlib.Path(path).name.endswith(INDEX_SUFFIX):
    raise ArgumentError(f"{path} names an index: name the folder of the files")
  pairs = _checked_metadata(metadata)
  if shard_bytes is None:
    return plan_single(tensors, pairs)
  if pathlib.Path(path).suffix == SUFFIX:
    raise ArgumentError(f"{path} names one file: with shards, name the folder")
  shard_bytes = arguments.whole_number(shard_bytes, "shard_bytes")
  return plan_shards(tensors, pairs, shard_bytes)


def _checked_metadata(metadata: Mapping[str, str] | None) -> Metadata | None:
  if metadata is None:
    return None
  if not isinstance(metadata, Mapping):
    raise TypeError(
      'metadata of safetensors is a dict such as {"format": "pt"}, got '
      f"{arguments.describe(metadata)}"
    )
  pairs = tuple(metadata.items())
  texts = [x for pair in pairs for x in pair]
  if not all(isinstance(x, str) and is_text(x) for x in texts):
    raise ValueError(
      'metadata of safetensors is text by name, such as {"format": "pt"}'
    )
  return pairs


def _opened_leaves(
  opened: OpenedCheckpoint, numbers: list[int], tensors: list[Tensor]
) -> Iterator[tuple[str, np.ndarray]]:
  leaves = opened.manifest.leaves
  requests = [whole_leaf(i, leaves[i]) for i in numbers]
  boxes = open_boxes(opened, requests)
  for i in numbers:
    # No name for the array: it is freed before the next one is made.
    yield tensors[i].name, next(boxes).pop()


def _write(
  path: str | os.PathLike[str],
  planned: NewFiles,
  leaves: Iterable[tuple[str, np.ndarray]],
  as_folder: bool,
) -> None:
  pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
  write = write_folder if as_folder else write_single
  write(path, planned, leaves)
