"""Checkpoints of a training run, plain or sealed: the last few of them."""

import os
import weakref
from collections.abc import Iterable
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy as policy

from keyjax import arguments, private_files
from keyjax.aes.host import Impl
from keyjax.checkpoint import plain
from keyjax.checkpoint.check_tree import check_tree
from keyjax.checkpoint.checks import (
  as_identities,
  as_recipients,
  check_optional_name,
  checked_step,
)
from keyjax.checkpoint.errors import (
  CheckpointContentError,
  CheckpointStorageError,
  storage_error,
)
from keyjax.checkpoint.format import signature as signatures
from keyjax.checkpoint.opened import (
  OpenedCheckpoint,
  check_expected,
  open_checkpoint,
)
from keyjax.checkpoint.restoring import restore_opened
from keyjax.checkpoint.saving import seal_tree
from keyjax.checkpoint.storage import (
  commit_mark,
  folders,
  locations,
  orbax_writer,
)
from keyjax.checkpoint.storage.sealed_files import is_sealed
from keyjax.keyring import Identity, KeyringError, Recipient
from keyjax.keyring.encoding import fingerprint

_ITEM = "state"


def _run_of(folder: Any) -> str:
  """Return the id of the run of a folder: it does not reveal the path."""
  path = folder if locations.is_remote(folder) else folder.resolve()
  return fingerprint(os.fsencode(path).rstrip(b"/"))


class Manager:
  """Checkpoints of a training run: the last few, and the latest step.

  Saves are asynchronous; `close` (or leaving the `with` block) waits. With
  recipients each checkpoint is sealed, in memory, before `save` returns: no
  plaintext reaches the disk. The step is the folder's name, which is public.

  Example:
    >>> import tempfile, jax.numpy as jnp
    >>> with Manager(tempfile.mkdtemp() + "/run", keep=2) as manager:
    ...   for step in (1, 2, 3):
    ...     manager.save(step, {"w": jnp.float32(step)})
    ...   manager.wait()
    ...   manager.latest(), float(manager.restore({"w": jnp.float32(0)})["w"])
    (3, 3.0)
  """

  def __init__(
    self,
    folder: str | os.PathLike[str],
    keep: int = 2,
    *,
    recipients: Recipient | Iterable[Recipient] | None = None,
    identities: Identity | Iterable[Identity] = (),
    name: str = "",
    run: str = "",
    signer: signatures.Signer | None = None,
    verify_key: signatures.VerifyKey | None = None,
    impl: Impl = "auto",
  ):
    """Open or create a folder of checkpoints.

    Args:
      folder: Folder on a disk or in a bucket (`gs://...`); created if absent.
        A bucket has no locks: start one run in it, not two.
      keep: Number of checkpoints to keep.
      recipients: Recipients who can open them; None for plain checkpoints.
      identities: Keys that open them, to resume a run.
      name: Name of the model; sealed, and required to restore.
      run: Id of the run; sealed, and required to restore. By default it is a
        digest of the folder's absolute path, and checkpoints that record no
        run, as those of earlier releases, are restored too; those of another
        run never are. Give one if folders are moved, or to refuse checkpoints
        without one.
      signer: Private key to sign them with; see `save`.
      verify_key: Public key whose signature is required to restore; by default
        that of the signer, if there is one.
      impl: Where arrays are sealed and opened; see `save`.

    Raises:
      CheckpointStorageError: If the folder cannot be created or written.
      CheckpointContentError: If it holds sealed checkpoints and there are no
        recipients, or plain ones and there are some.
      ValueError: If `keep` is below 1, keys, a name or a run are given without
        recipients, or the name or the run has other characters than `save`
        accepts.
    """
    check_optional_name(name, "name")
    check_optional_name(run, "run")
    signatures.check_signer(signer)
    self._folder = locations.absolute_path(folder)
    keep = arguments.whole_number(keep, "Manager: keep")
    self._recipients: list[Recipient] | None = None
    if recipients is not None:
      self._recipients = as_recipients(recipients)
    self._identities = as_identities(identities)
    self._check_sealed(name=name, run=run, signer=signer, key=verify_key)
    self._name = name
    self._run_is_given = bool(run)
    self._run = run or _run_of(self._folder)
    self._signer = signer
    # To restore what a recipient changed would be to sign it at the next save.
    if signer is not None and verify_key is None:
      verify_key = signer.public_key()
    self._verify_key = verify_key
    self._impl = impl
    self._closed = False
    folders.check_name(self._folder)
    try:
      with locations.bucket_errors(self._folder):
        folders.check_writable(self._folder)
        self._lock = self._lock_folder()
        # To others, what a writer has begun looks abandoned.
        if self._lock is not None:
          folders.remove_temporary(self._folder)
        self._manager = self._orbax_manager(keep)
    except OSError as error:
      raise storage_error(f"cannot use {self._folder}", error) from None
    self._check_kind()

  def _check_sealed(
    self, *, name: str, run: str, signer: Any, key: Any
  ) -> None:
    """Refuse what only sealed checkpoints have if those to save are plain."""
    if self._recipients:
      return
    if self._recipients is not None:
      raise ValueError(
        "Manager: recipients is empty: give at least one, or None for plain "
        "checkpoints"
      )
    given = {
      "identities": bool(self._identities),
      "name": bool(name),
      "run": bool(run),
      "signer": signer is not None,
      "verify_key": key is not None,
    }
    if names := [name for name, is_given in given.items() if is_given]:
      raise ValueError(
        f"Manager: {' and '.join(names)} without recipients: checkpoints would "
        "be saved in the clear; give recipients too"
      )

  def _orbax_manager(self, keep: int) -> ocp.CheckpointManager:
    handlers = {_ITEM: ocp.StandardCheckpointHandler()}
    if self._recipients is not None:
      handlers = orbax_writer.handlers()
    options = ocp.CheckpointManagerOptions(
      preservation_policy=policy.LatestN(keep),
      temporary_path_class=commit_mark.temporary_path_class(self._folder),
    )
    return ocp.CheckpointManager(
      self._folder, options=options, item_handlers=handlers
    )

  def _check_kind(self) -> None:
    """Refuse to continue sealed checkpoints in plaintext, or to mix both."""
    latest = self.latest()
    if latest is None:
      return
    sealed = is_sealed(self._folder / str(latest))
    if sealed == (self._recipients is not None):
      return
    self.close()
    if sealed:
      conflict = "sealed checkpoints, and no recipients were given: give them"
    else:
      conflict = "plain checkpoints, and there are recipients: give none"
    raise CheckpointContentError(
      f"{self._folder} holds {conflict}, or choose another folder"
    )

  def _lock_folder(self) -> weakref.finalize | None:
    """Exclude other Managers from saving; return what releases the lock."""
    if locations.is_remote(self._folder):  # Buckets have no locks.
      return weakref.finalize(self, lambda: None)
    if jax.process_index():  # The first process acts for the whole run.
      return weakref.finalize(self, lambda: None)
    fd = private_files.lock_folder(self._folder)
    return None if fd is None else weakref.finalize(self, os.close, fd)

  def save(self, step: int, state: Any) -> None:
    """Save a state under a step; return before it is on disk.

    Raises:
      ValueError: If the state has something other than arrays, the step is not
        after the last one, or the manager is closed.
      CheckpointStorageError: If this save or the previous one failed, or
        another Manager saves into the folder.
    """
    step = checked_step(step)
    check_tree(state)
    if self._closed:
      raise ValueError("this Manager is closed")
    if self._lock is None:
      raise CheckpointStorageError(f"another Manager saves into {self._folder}")
    items = self._save_args(step, state)
    try:
      folders.check_writable(self._folder)
      saved = self._manager.save(step, args=items)
    except Exception as error:
      folders.remove_temporary(self._folder)
      raise storage_error(f"could not save step {step}", error) from None
    if not saved:
      raise ValueError(f"step {step} is not after step {self.latest()}")

  def _save_args(self, step: int, state: Any) -> ocp.args.Composite:
    if self._recipients is None:
      return ocp.args.Composite(**{_ITEM: plain.save_args(state)})
    sealed = seal_tree(
      state,
      self._recipients,
      step=step,
      name=self._name,
      run=self._run,
      metadata=None,
      signer=self._signer,
      impl=self._impl,
      lazy=False,
    )
    return orbax_writer.save_args(sealed)

  def latest(self) -> int | None:
    """Return the step of the last complete checkpoint, or None."""
    return self._manager.latest_step()

  def restore(self, like: Any, step: int | None = None) -> Any:
    """Read a state; the latest one by default.

    Raises:
      FileNotFoundError: If there is no checkpoint.
      KeyringError: If no identity opens it.
      CheckpointError: If it cannot be read, or is of another state.
    """
    step = self.latest() if step is None else step
    if step is None or step not in self._manager.all_steps():
      what = "checkpoint" if step is None else f"step {step}"
      raise FileNotFoundError(f"no {what} in {self._folder}")
    if self._recipients and not self._identities:
      raise KeyringError(
        "this Manager has no identities: give it identities=, a key that opens "
        f"the checkpoints in {self._folder}"
      )
    if self._recipients is None:
      item = self._folder / str(step) / _ITEM
      return plain.read_plain(item, like, what=f"could not read step {step}")
    opened = open_checkpoint(
      self._folder / str(step),
      self._identities,
      step=step,
      name=self._name or None,
      verify_key=self._verify_key,
    )
    self._check_run(opened)
    return restore_opened(opened, like, leaves=None, impl=self._impl)

  def _check_run(self, opened: OpenedCheckpoint) -> None:
    found = opened.manifest.run
    if not (found or self._run_is_given):
      return  # A checkpoint of an earlier release.
    try:
      check_expected(opened.files.path, "run", expected=self._run, found=found)
    except CheckpointContentError as error:
      if self._run_is_given:
        raise
      raise CheckpointContentError(
        f"{error}; if this run's folder was moved, give run={found!r}"
      ) from None

  def wait(self) -> None:
    """Wait until all saves are on disk.

    Raises:
      CheckpointStorageError: If a save failed.
    """
    try:
      self._manager.wait_until_finished()
    except Exception as error:
      folders.remove_temporary(self._folder)
      raise storage_error("a save failed", error) from None

  def close(self) -> None:
    """Wait for all saves and release the folder.

    Raises:
      CheckpointStorageError: If a save failed.
    """
    try:
      self.wait()
    finally:
      self._closed = True
      self._manager.close()
      if self._lock is not None:
        self._lock()

  def __enter__(self) -> "Manager":
    return self

  def __exit__(self, *_: Any) -> None:
    self.close()
