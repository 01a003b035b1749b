"""The folder of a run: one writer at a time, and what Orbax does in it."""

import contextlib
import os
import weakref
from typing import Any

import jax
import orbax.checkpoint as ocp

from keyjax import private_files
from keyjax.checkpoint.checks import checked_step
from keyjax.checkpoint.errors import (
  CheckpointContentError,
  CheckpointStorageError,
  storage_error,
)
from keyjax.checkpoint.steps.orbax_manager import OrbaxManager
from keyjax.checkpoint.steps.plain_steps import PlainSteps
from keyjax.checkpoint.steps.sealed_steps import SealedSteps
from keyjax.checkpoint.steps.step_metadata import Metrics
from keyjax.checkpoint.storage import folders, locations
from keyjax.checkpoint.storage.sealed_files import is_sealed


class RunFolder:
  """The folder of a run.

  Attributes:
    orbax: Orbax's manager of the folder.
  """

  def __init__(
    self,
    path: Any,
    steps: SealedSteps | PlainSteps,
    options: ocp.CheckpointManagerOptions,
    *,
    reads_metrics: bool,
  ):
    """Create, lock and read a folder; see `Manager`."""
    self._path = path
    self._closed = False
    folders.check_name(path)
    try:
      with locations.bucket_errors(path):
        folders.check_writable(path)
        self._lock = self._lock_folder()
        # To others, what a writer has begun looks abandoned.
        if self._lock is not None:
          folders.remove_temporary(path)
        self.orbax = OrbaxManager(path, steps, options)
    except OSError as error:
      raise storage_error(f"cannot use {path}", error) from None
    try:
      self._check_kind(isinstance(steps, SealedSteps))
      if reads_metrics:
        self.orbax.read_metrics()
    except Exception:
      self.close()
      raise

  def _check_kind(self, are_sealed: bool) -> None:
    """Refuse to continue sealed checkpoints in plaintext, or to mix both."""
    latest = self.orbax.latest_step()
    if latest is None or is_sealed(self._path / str(latest)) == are_sealed:
      return
    if are_sealed:
      conflict = "plain checkpoints, and there are recipients: give none"
    else:
      conflict = "sealed checkpoints, and no recipients were given: give them"
    raise CheckpointContentError(
      f"{self._path} holds {conflict}, or choose another folder"
    )

  def _lock_folder(self) -> weakref.finalize | None:
    """Exclude other Managers from saving; return what releases the lock."""
    if locations.is_remote(self._path):  # Buckets have no locks.
      return weakref.finalize(self, lambda: None)
    if jax.process_index():  # The first process acts for the whole run.
      return weakref.finalize(self, lambda: None)
    fd = private_files.lock_folder(self._path)
    return None if fd is None else weakref.finalize(self, os.close, fd)

  def check_can_write(self) -> None:
    """Raise an error if this is closed, or another Manager writes here."""
    if self._closed:
      raise ValueError("this Manager is closed")
    if self._lock is None:
      raise CheckpointStorageError(f"another Manager saves into {self._path}")

  def save(
    self, step: int, made: dict[str, Any], metrics: Metrics | None
  ) -> None:
    """Begin to write a step, once the one before it is written."""
    try:
      folders.check_writable(self._path)
      # Orbax would ask its policy again, which may answer otherwise.
      self.orbax.save(step, metrics=metrics, force=True, **made)
    except Exception as error:
      self._after_failure()
      raise storage_error(f"could not save step {step}", error) from None

  def _after_failure(self) -> None:
    folders.remove_temporary(self._path)
    # Orbax has forgotten the steps that it would have removed.
    with contextlib.suppress(Exception):  # The first error says more.
      self.orbax.reload()

  def find(self, step: int | None) -> int:
    """Return a step that is there, or the latest; wait for saves before.

    Raises:
      FileNotFoundError: If it is not there.
    """
    step = None if step is None else checked_step(step)
    if not self._closed:
      self.wait()
    steps = self.orbax.all_steps()
    if not steps or step not in (None, *steps):
      what = "checkpoint" if step is None else f"step {step}"
      raise FileNotFoundError(f"no {what} in {self._path}")
    return steps[-1] if step is None else step

  def delete(self, step: int) -> None:
    """Remove a step; see `Manager`."""
    self.check_can_write()
    step = self.find(step)
    try:
      self.orbax.delete(step)
    except Exception as error:
      raise storage_error(f"could not delete step {step}", error) from None

  def reload(self) -> None:
    """Look for the steps that are there now; see `Manager`."""
    self.wait()
    try:
      with locations.bucket_errors(self._path):
        self.orbax.reload()
    except OSError as error:
      raise storage_error(f"could not read {self._path}", error) from None

  def wait(self) -> None:
    """Wait until all saves are on disk; see `Manager`."""
    try:
      self.orbax.wait_until_finished()
    except Exception as error:
      self._after_failure()
      raise storage_error("a save failed", error) from None

  def close(self) -> None:
    """Wait for all saves and release the folder."""
    try:
      self.wait()
    finally:
      self._closed = True
      self.orbax.close()
      if self._lock is not None:
        self._lock()
