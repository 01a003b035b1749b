"""Unencrypted weights: plain Orbax checkpoints, safetensors, msgpack.

`read_weights` and `write_weights` convert between files and trees;
`import_weights` and `export_weights` between files and sealed checkpoints. The
latter two read and write safetensors one leaf at a time.
"""

import contextlib
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import flax
import jax
import numpy as np

from keyjax import packed, private_files
from keyjax.checkpoint.check_tree import check_tree
from keyjax.checkpoint.errors import CheckpointContentError, read_error
from keyjax.checkpoint.format.origin import Origin
from keyjax.checkpoint.format.signature import Signer
from keyjax.checkpoint.parts import rng_keys, sealing
from keyjax.checkpoint.parts.stored_leaf import in_memory
from keyjax.checkpoint.plain import save_plain
from keyjax.checkpoint.saving import save_with_origin
from keyjax.checkpoint.storage import locations
from keyjax.checkpoint.weight_formats import (
  check_on_disk,
  checked_format,
  weight_format,
)
from keyjax.checkpoint.weights import safetensors_export, safetensors_reading
from keyjax.checkpoint.weights.find_tree import find_tree
from keyjax.checkpoint.weights.orbax_restore import restore_on_host
from keyjax.keyring import Recipient
from keyjax.tree import path_str


class _Weights(NamedTuple):
  """Weights to be read, and the files that they are from."""

  tree: Any
  origin: Origin | None = None


def stored_size(path: str | os.PathLike[str]) -> int:
  """Return the size in bytes of a weight file or a checkpoint as stored.

  Raises:
    CheckpointStorageError: If a bucket cannot be reached.
  """
  return locations.size(locations.absolute_path(path))


def read_weights(path: str | os.PathLike[str]) -> Any:
  """Read unencrypted weights.

  Args:
    path: File on a disk: `.safetensors`, `.safetensors.index.json` of Hugging
      Face (all files that it lists), or `.msgpack`. Or a folder, on a disk or
      in a bucket, that holds one tree: an Orbax checkpoint, a step of a
      CheckpointManager or its folder, or safetensors files and their index.

  Returns:
    A tree of NumPy arrays: nested dicts, or flat by name for safetensors. JAX
    PRNG keys are arrays of JAX.

  Raises:
    FileNotFoundError: If there is nothing at `path`.
    ArgumentError: If the suffix of a file names no format, or a folder holds
      no tree, or several.
    CheckpointContentError: If it cannot be read as the format of its suffix,
      or has a dtype that is not supported.
  """
  with _open_weights(path) as weights:
    return jax.tree.map(in_memory, weights.tree)


@contextlib.contextmanager
def _open_weights(path: str | os.PathLike[str]) -> Iterator[_Weights]:
  """Open weights; tensors of safetensors files are not read yet."""
  location = locations.absolute_path(path)
  is_remote = locations.is_remote(location)
  if is_remote:
    check_on_disk(path, weight_format(path, "orbax"))
  if not (locations.is_whole(location) or locations.is_remote_folder(location)):
    raise FileNotFoundError(f"there is no file or folder {path}")
  if is_remote or location.is_dir():
    location = find_tree(location)
    if is_remote or location.is_dir():
      yield _Weights(_read_orbax(location))
      return
  kind = weight_format(location)
  if kind == "msgpack":
    yield _Weights(_read_msgpack(location))
    return
  with safetensors_reading.open_files(location) as (tree, origin):
    yield _Weights(tree, origin)


def _read_orbax(folder: Any) -> Any:
  locations.check_utf8(folder)
  try:
    return restore_on_host(folder)
  except Exception as error:
    what = f"could not read the checkpoint {folder}"
    raise read_error(what, error) from None


def _read_msgpack(path: pathlib.Path) -> Any:
  with locations.opened_file(path) as (file, _):
    data = file.read()
  try:
    return packed.restore(data)
  except ValueError:
    raise CheckpointContentError(
      f"{path} is damaged, or is not a msgpack file"
    ) from None


def write_weights(
  path: str | os.PathLike[str],
  tree: Any,
  kind: str | None = None,
  *,
  metadata: Mapping[str, str] | None = None,
  shard_bytes: int | None = None,
) -> None:
  """Write unencrypted weights atomically, readable only by their owner.

  A file gets mode 600, and a folder mode 700, whatever the umask: run chmod to
  share them. Missing parent folders get the ordinary mode. In a bucket,
  everyone who may read the bucket can read them.

  Args:
    path: New file or folder.
    tree: Pytree of arrays.
    kind: One of `WEIGHT_FORMATS`; None for that of the suffix, Orbax for
      other suffixes.
    metadata: `__metadata__` of safetensors files, such as {"format": "pt"}.
    shard_bytes: For safetensors, write a folder of files of at most this size,
      and an index, as Hugging Face does.

  Raises:
    FileExistsError: If something is there.
    ValueError: If the format cannot hold such a tree, or is a single file and
      `path` is in a bucket.
    OSError, CheckpointStorageError: If it cannot be written.
  """
  kind = checked_format(path, kind, metadata, shard_bytes)
  check_on_disk(path, kind)
  if not locations.is_remote(path):
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
  if kind == "orbax":
    old_umask = os.umask(0o077)
    try:
      save_plain(path, tree)
    finally:
      os.umask(old_umask)
  elif kind == "msgpack":
    _write_msgpack(path, tree)
  else:
    check_tree(tree)
    safetensors_export.write_tree(path, tree, metadata, shard_bytes)


def _write_msgpack(path: str | os.PathLike[str], tree: Any) -> None:
  def on_host(leaf_path: Any, leaf: Any) -> Any:
    if rng_keys.is_rng(leaf):
      raise ValueError(
        f"leaf {path_str(leaf_path)} is a PRNG key, which msgpack does not "
        "support: use Orbax, or store jax.random.key_data of it"
      )
    # Flax keeps the type of NumPy and Python numbers.
    is_number = isinstance(leaf, np.generic | bool | int | float)
    return leaf if is_number else np.asarray(leaf)

  check_tree(tree)
  tree = jax.tree_util.tree_map_with_path(on_host, tree)
  state = flax.serialization.to_state_dict(tree)
  try:
    data = flax.serialization.msgpack_serialize(state)
  except (OverflowError, TypeError, ValueError) as error:
    raise ValueError(f"msgpack cannot hold this tree: {error}") from None
  private_files.create(path, data)


def import_weights(
  source: str | os.PathLike[str],
  path: str | os.PathLike[str],
  recipients: Recipient | Iterable[Recipient],
  *,
  step: int = 0,
  name: str = "",
  run: str = "",
  metadata: dict[str, Any] | None = None,
  signer: Signer | None = None,
  salt: sealing.Salt = sealing.random_salt,
) -> int:
  """Seal weights of another format.

  Safetensors files are read part by part. Their headers with `__metadata__`,
  their order and their index are sealed too, so that `export_weights` writes
  the same bytes.

  Args:
    source: Weights that `read_weights` reads. They are left as they are,
      unencrypted.
    path: New folder.
    recipients: Recipients; each can open it alone.
    step: Training step.
    name: Name of the model; see `save`.
    run: Id of the training run; see `save`.
    metadata: Dict of at most 1 MiB as JSON.
    signer: Private key to sign with. It vouches for `source` as it is.
    salt: Returns the salt of each message; see `save`.

  Returns:
    The number of leaves.

  Raises:
    FileNotFoundError: If there is nothing at `source`.
    ArgumentError: If the suffix of `source` names no format, or a folder holds
      no tree, or several.
    CheckpointError: If it is damaged, or the checkpoint cannot be written.
    FileExistsError, KeyringError: As `save`.

  Example:
    >>> import pathlib, tempfile, numpy as np
    >>> from safetensors.numpy import save_file
    >>> from keyjax import Secret
    >>> from keyjax.checkpoint import export_weights
    >>> from keyjax.keyring import SymmetricKey
    >>> owner, folder = SymmetricKey(Secret.generate()), tempfile.mkdtemp()
    >>> save_file({"w": np.arange(3)}, f"{folder}/w.safetensors", {"a": "b"})
    >>> import_weights(f"{folder}/w.safetensors", f"{folder}/sealed", owner)
    1
    >>> export_weights(f"{folder}/sealed", f"{folder}/x.safetensors", owner)
    1
    >>> first, second = (pathlib.Path(folder, f"{x}.safetensors") for x in "wx")
    >>> first.read_bytes() == second.read_bytes()
    True
  """
  with _open_weights(source) as weights:
    save_with_origin(
      path,
      weights.tree,
      recipients,
      step=step,
      name=name,
      run=run,
      metadata=metadata,
      signer=signer,
      salt=salt,
      origin=weights.origin,
    )
    return len(jax.tree.leaves(weights.tree))
