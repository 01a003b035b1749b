"""Unencrypted weights: plain Orbax checkpoints, safetensors, msgpack.

`read_weights` and `write_weights` convert between files and trees;
`import_weights` and `export_weights` between files and sealed checkpoints.
"""

import os
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import flax
import jax
import numpy as np
import orbax.checkpoint as ocp
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from keyjax import private_files
from keyjax.checkpoint.errors import CheckpointContentError, read_error
from keyjax.checkpoint.format.signature import Signer, VerifyKey
from keyjax.checkpoint.parts.restore_plan import LeafSelection
from keyjax.checkpoint.plain import save_plain
from keyjax.checkpoint.restore import restore
from keyjax.checkpoint.save import save
from keyjax.checkpoint.storage import folders, locations
from keyjax.errors import ArgumentError
from keyjax.keyring import Identity, Recipient
from keyjax.tree import path_str

WEIGHT_FORMATS = ("orbax", "safetensors", "msgpack")
_SUFFIXES = {".safetensors": "safetensors", ".msgpack": "msgpack"}


def weight_format(
  path: str | os.PathLike[str], default: str | None = None
) -> str:
  """Return the format that the suffix of a path names.

  Args:
    path: File or folder; it need not exist.
    default: Format for any other suffix.

  Raises:
    ArgumentError: If the suffix names no format and there is no default.

  Example:
    >>> weight_format("model.safetensors"), weight_format("run", "orbax")
    ('safetensors', 'orbax')
  """
  found = _SUFFIXES.get(pathlib.Path(path).suffix, default)
  if found is None:
    raise ArgumentError(
      f"{path} is neither an Orbax checkpoint, which is a folder, nor a file "
      f"that ends in {' or '.join(_SUFFIXES)}"
    )
  return found


def check_new(path: str | os.PathLike[str], kind: str = "orbax") -> None:
  """Raise unless weights of a format could be written to a new path.

  Raises:
    FileExistsError: If something is there.
    ValueError: If the format is a single file and `path` is in a bucket.
  """
  _check_on_disk(path, kind)
  if locations.is_remote(path):
    folders.check_absent(locations.absolute_path(path))
  elif os.path.lexists(path):
    raise FileExistsError(f"{path} exists; it is not overwritten")


def _check_on_disk(path: str | os.PathLike[str], kind: str) -> None:
  if kind != "orbax" and locations.is_remote(path):
    raise ValueError(
      f"{path}: {kind} files are read and written only on disks; copy it, or "
      "choose a folder for Orbax"
    )


def stored_size(path: str | os.PathLike[str]) -> int:
  """Return the size in bytes of a weight file or a checkpoint as stored.

  Raises:
    CheckpointStorageError: If a bucket cannot be reached.
  """
  return locations.size(locations.absolute_path(path))


def read_weights(path: str | os.PathLike[str]) -> Any:
  """Read unencrypted weights.

  Args:
    path: Orbax folder, on a disk or in a bucket, or a file on a disk.

  Returns:
    A tree of NumPy arrays: nested dicts, or flat by name for safetensors.

  Raises:
    FileNotFoundError: If there is nothing at `path`.
    ArgumentError: If the suffix of a file names no format.
    CheckpointContentError: If it cannot be read as the format of its suffix.
  """
  location = locations.absolute_path(path)
  if locations.is_remote(location):
    _check_on_disk(path, weight_format(path, "orbax"))
  if not locations.is_whole(location):
    raise FileNotFoundError(f"there is no file or folder {path}")
  if locations.is_remote(location) or location.is_dir():
    return _read_orbax(location)
  readers: dict[str, Callable[[Any], Any]] = {
    "safetensors": safetensors.load_file,
    "msgpack": _read_msgpack,
  }
  kind = weight_format(path)
  try:
    return readers[kind](path)
  except OSError:
    raise
  except Exception as error:  # Libraries differ in what they raise for damage.
    if not isinstance(error, SafetensorError | ValueError | TypeError):
      raise
    raise CheckpointContentError(
      f"{path} is damaged, or is not a {kind} file"
    ) from None


def _read_msgpack(path: str | os.PathLike[str]) -> Any:
  return flax.serialization.msgpack_restore(pathlib.Path(path).read_bytes())


def _read_orbax(path: pathlib.Path) -> Any:
  try:
    with ocp.PyTreeCheckpointer() as checkpointer:
      found = checkpointer.metadata(path).item_metadata
      if found is None:
        raise ValueError("it holds no tree in the clear")
      on_host = jax.tree.map(
        lambda _: ocp.RestoreArgs(restore_type=np.ndarray), found.tree
      )
      return checkpointer.restore(path, restore_args=on_host)
  except Exception as error:
    raise read_error(f"could not read the checkpoint {path}", error) from None


def write_weights(
  path: str | os.PathLike[str], tree: Any, kind: str | None = None
) -> None:
  """Write unencrypted weights atomically, readable only by their owner.

  A file gets mode 600, and an Orbax folder mode 700, whatever the umask: run
  chmod to share them. Missing parent folders get the ordinary mode. In a
  bucket, everyone who may read the bucket can read them.

  Args:
    path: New file or folder.
    tree: Pytree of arrays.
    kind: One of `WEIGHT_FORMATS`; None for that of the suffix, Orbax for
      other suffixes.

  Raises:
    FileExistsError: If something is there.
    ValueError: If the format cannot hold such a tree, or is a single file and
      `path` is in a bucket.
    OSError, CheckpointStorageError: If it cannot be written.
  """
  kind = kind or weight_format(path, "orbax")
  if kind not in WEIGHT_FORMATS:
    raise ValueError(f"format {kind!r}: choose one of {WEIGHT_FORMATS}")
  _check_on_disk(path, kind)
  if not locations.is_remote(path):
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
  if kind == "orbax":
    old_umask = os.umask(0o077)
    try:
      save_plain(path, tree)
    finally:
      os.umask(old_umask)
  elif kind == "msgpack":
    state = flax.serialization.to_state_dict(jax.tree.map(np.asarray, tree))
    private_files.create(path, flax.serialization.msgpack_serialize(state))
  else:
    _write_safetensors(path, _by_dotted_name(tree))


def _by_dotted_name(tree: Any) -> dict[str, np.ndarray]:
  """Return arrays by names with dots, as is usual in safetensors."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  named = [(path_str(path).replace("/", "."), x) for path, x in leaves]
  arrays = {
    name: np.ascontiguousarray(x).reshape(np.shape(x)) for name, x in named
  }
  if len(arrays) < len(leaves):
    raise ValueError("two leaves have one name with dots: use another format")
  return arrays


def _write_safetensors(
  path: str | os.PathLike[str], arrays: dict[str, np.ndarray]
) -> None:
  with private_files.creating(path) as (part, _):
    try:
      safetensors.save_file(arrays, part)
    except (SafetensorError, KeyError):
      raise ValueError(
        "safetensors does not support this dtype: use another format"
      ) from None


def import_weights(
  source: str | os.PathLike[str],
  path: str | os.PathLike[str],
  recipients: Recipient | Iterable[Recipient],
  *,
  step: int = 0,
  metadata: dict[str, Any] | None = None,
  signer: Signer | None = None,
) -> int:
  """Seal weights of another format.

  Args:
    source: File that ends in `.safetensors` or `.msgpack` (Flax), or the
      folder of a plain Orbax checkpoint. It is left as it is, unencrypted.
    path: New folder.
    recipients: Recipients; each can open it alone.
    step: Training step.
    metadata: Dict of at most 1 MiB as JSON.
    signer: Private key to sign with.

  Returns:
    The number of leaves.

  Raises:
    FileNotFoundError: If there is nothing at `source`.
    ArgumentError: If the suffix of `source` names no format.
    CheckpointError: If it is damaged, or the checkpoint cannot be written.
    FileExistsError, KeyringError: As `save`.

  Example:
    >>> import pathlib, tempfile, numpy as np
    >>> from safetensors.numpy import save_file
    >>> from keyjax import Secret
    >>> from keyjax.keyring import SymmetricKey
    >>> owner, folder = SymmetricKey(Secret.generate()), tempfile.mkdtemp()
    >>> save_file({"w": np.arange(3)}, f"{folder}/w.safetensors")
    >>> import_weights(f"{folder}/w.safetensors", f"{folder}/sealed", owner)
    1
    >>> export_weights(f"{folder}/sealed", f"{folder}/w.msgpack", owner)
    1
    >>> pathlib.Path(f"{folder}/w.msgpack").exists()
    True
  """
  tree = read_weights(source)
  save(path, tree, recipients, step=step, metadata=metadata, signer=signer)
  return len(jax.tree.leaves(tree))


def export_weights(
  path: str | os.PathLike[str],
  target: str | os.PathLike[str],
  identities: Identity | Iterable[Identity],
  *,
  kind: str | None = None,
  leaves: LeafSelection | None = None,
  verify_key: VerifyKey | None = None,
) -> int:
  """Open a checkpoint and write it unencrypted, readable only by its owner.

  See `write_weights` for the modes of files and folders.

  Args:
    path: Folder of the checkpoint.
    target: New file that ends in `.safetensors` (names with dots) or
      `.msgpack`, or else a new folder for a plain Orbax checkpoint.
    identities: Keys, one of which opens it.
    kind: One of `WEIGHT_FORMATS`, whatever the suffix.
    leaves: Leaves to export; see `restore`.
    verify_key: Public key whose signature is required.

  Returns:
    The number of leaves.

  Raises:
    FileExistsError: If something is at `target`.
    ArgumentError: If no leaf matches.
    ValueError: If the format cannot hold such a tree.
    FileNotFoundError, KeyringError, CheckpointError: As `restore`.
  """
  kind = kind or weight_format(target, "orbax")
  check_new(target, kind)
  tree = restore(path, identities, leaves=leaves, verify_key=verify_key)
  write_weights(target, tree, kind)
  return len(jax.tree.leaves(tree))
