"""Checkpoints of a training run, plain or sealed: the last few of them."""

import os
import weakref
from collections.abc import Iterable
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy as policy

from keyjax import private_files
from keyjax.aes.host import Impl
from keyjax.checkpoint import plain, sealed, session
from keyjax.checkpoint.errors import (
  CheckpointContentError,
  CheckpointStorageError,
  check_tree,
  content_error,
  storage_error,
)
from keyjax.checkpoint.format import signature as signing
from keyjax.checkpoint.storage import folders, store
from keyjax.checkpoint.storage import locations as places
from keyjax.keyring import Identity, Recipient

_ITEM = "state"


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
    signer: signing.Signer | None = None,
    verify_key: signing.VerifyKey | None = None,
    impl: Impl = "auto",
  ):
    """Opens or makes a folder of checkpoints.

    Args:
      folder: where, on a disk or in a bucket (`gs://...`, which has no locks:
        start one run in it, not two); made when absent.
      keep: how many checkpoints to keep.
      recipients: who can open them; plain checkpoints if None.
      identities: keys that open them, to go on with a run.
      signer: who signs them; see `save`.
      verify_key: who must have signed what is restored.
      impl: where arrays are sealed and opened; see `save`.

    Raises:
      CheckpointError: the folder cannot be made or written, or holds sealed
        checkpoints where no recipients are given, or plain ones where some are.
    """
    options = ocp.CheckpointManagerOptions(
      preservation_policy=policy.LatestN(keep)
    )
    self._folder = places.location(folder)
    self._recipients: list[Recipient] | None = None
    if recipients is not None:
      self._recipients = session.several(recipients, "wrap")
    self._identities = session.several(identities, "unwrap")
    self._signer, self._verify_key, self._impl = signer, verify_key, impl
    handlers = {_ITEM: ocp.StandardCheckpointHandler()}
    if self._recipients is not None:
      handlers = store.handlers()
    self._closed = False
    folders.check_name(self._folder)
    try:
      with places.reaching(self._folder):
        folders.try_folder(self._folder)
        self._lock = self._hold()
        # What another is writing looks like what is left.
        if self._lock is not None:
          folders.discard(self._folder)
        self._manager = ocp.CheckpointManager(
          self._folder, options=options, item_handlers=handlers
        )
    except OSError as error:
      raise storage_error(f"cannot use {self._folder}", error) from None
    self._check_kind()

  def _check_kind(self) -> None:
    """Refuses to go on in plaintext after sealed checkpoints, or to mix."""
    latest = self.latest()
    if latest is None:
      return
    sealed_there = store.is_sealed(self._folder / str(latest))
    if sealed_there != (self._recipients is not None):
      self.close()
      kinds = ("sealed", "recipients were given: give them")
      kinds = kinds if sealed_there else ("plain", "recipients: give none")
      raise CheckpointContentError(
        f"{self._folder} holds {kinds[0]} checkpoints, and "
        f"{'no ' if sealed_there else 'there are '}{kinds[1]}, or choose "
        "another folder"
      )

  def _hold(self) -> weakref.finalize | None:
    """Keeps other Managers from saving; returns what lets them again."""
    if places.is_remote(self._folder):  # It has no locks.
      return weakref.finalize(self, lambda: None)
    if jax.process_index():  # The first process stands for all of a run.
      return weakref.finalize(self, lambda: None)
    fd = private_files.lock_folder(self._folder)
    return None if fd is None else weakref.finalize(self, os.close, fd)

  def save(self, step: int, state: Any) -> None:
    """Saves a state under a step; returns before it is on disk.

    Raises:
      ValueError: the state is not one of arrays alone, the step is not after
        the last one, or the manager is closed.
      CheckpointError: this save, or the one before it, failed, or another
        Manager was there first and saves into the folder.
    """
    check_tree(state)
    if self._closed:
      raise ValueError("this Manager is closed")
    if self._lock is None:
      raise CheckpointStorageError(f"another Manager saves into {self._folder}")
    items = self._items(step, state)
    try:
      folders.try_folder(self._folder)
      saved = self._manager.save(step, args=items)
    except Exception as error:
      folders.discard(self._folder)
      raise storage_error(f"could not save step {step}", error) from None
    if not saved:
      raise ValueError(f"step {step} is not after step {self.latest()}")

  def _items(self, step: int, state: Any) -> ocp.args.Composite:
    if self._recipients is None:
      item = ocp.args.StandardSave(plain.solid(state))
      return ocp.args.Composite(**{_ITEM: item})
    made = sealed.prepare(
      state, self._recipients, step, None, self._signer, self._impl, lazy=False
    )
    return store.arguments(*made)

  def latest(self) -> int | None:
    """Returns the last whole checkpoint's step, or None."""
    return self._manager.latest_step()

  def restore(self, like: Any, step: int | None = None) -> Any:
    """Reads a state; the latest one by default.

    Raises:
      FileNotFoundError: there is no checkpoint.
      CheckpointError: it cannot be read, or is of another state.
    """
    step = self.latest() if step is None else step
    if step is None or step not in self._manager.all_steps():
      what = "checkpoint" if step is None else f"step {step}"
      raise FileNotFoundError(f"no {what} in {self._folder}")
    if self._recipients is not None:
      opened = session.begin(
        self._folder / str(step), self._identities, step, self._verify_key
      )
      return sealed.restore_from(opened, like, None, self._impl)
    spec = plain.solid(like)
    item = ocp.args.StandardRestore(plain.abstract(spec))
    try:
      plain.check(self._manager.item_metadata(step)[_ITEM], spec)
      items = ocp.args.Composite(**{_ITEM: item})
      return plain.hollow(self._manager.restore(step, args=items)[_ITEM], like)
    except Exception as error:
      raise content_error(f"could not read step {step}", error) from None

  def wait(self) -> None:
    """Waits until all saves are on disk.

    Raises:
      CheckpointError: a save failed.
    """
    try:
      self._manager.wait_until_finished()
    except Exception as error:
      folders.discard(self._folder)
      raise storage_error("a save failed", error) from None

  def close(self) -> None:
    """Waits for all saves and lets the folder go.

    Raises:
      CheckpointError: a save failed.
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
