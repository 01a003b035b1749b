"""Sealed steps: each is one sealed checkpoint, whatever its items are.

All items of a step are one tree, under one data key, and what else it records
is in the manifest. So recipients, name, run, step, signature and padding are
those of the whole step, and no item can be exchanged for that of another.
"""

import os
from typing import Any

import numpy as np
import orbax.checkpoint as ocp

from keyjax.aes.host import Impl
from keyjax.checkpoint.errors import CheckpointContentError
from keyjax.checkpoint.format import signature as signatures
from keyjax.checkpoint.opened import (
  OpenedCheckpoint,
  check_expected,
  open_checkpoint,
)
from keyjax.checkpoint.restoring import restore_child, restore_opened
from keyjax.checkpoint.saving import seal_tree
from keyjax.checkpoint.steps import items as step_items
from keyjax.checkpoint.steps import texts
from keyjax.checkpoint.steps.items import ITERATOR, JSON, Item
from keyjax.checkpoint.steps.step_metadata import (
  StepMetadata,
  from_manifest,
  to_manifest,
)
from keyjax.checkpoint.storage import locations, orbax_writer
from keyjax.keyring import Identity, KeyringError, Recipient
from keyjax.keyring.encoding import fingerprint


def _run_of(folder: Any) -> str:
  """Return the id of the run of a folder: it does not reveal the path."""
  path = folder if locations.is_remote(folder) else folder.resolve()
  return fingerprint(os.fsencode(path).rstrip(b"/"))


class SealedStep:
  """A step that was opened."""

  def __init__(self, opened: OpenedCheckpoint, impl: Impl):
    """Read what it records.

    Raises:
      CheckpointContentError: If that is damaged.
    """
    self._opened = opened
    self._impl: Impl = impl
    self.path = opened.files.path
    self.metadata = from_manifest(opened.manifest.metadata, self.path)
    self.items = self.metadata.items

  def read(self, name: str, target: Any) -> Any:
    """Read an item; `target` is what to restore a tree like, or an iterator."""
    kind = self.items[name]
    if step_items.is_single(self.items):
      return restore_opened(self._opened, target, None, self._impl)
    found = restore_child(
      self._opened,
      name,
      None if kind in (JSON, ITERATOR) else target,
      self._impl,
    )
    what = f"item {name} of {self.path}"
    if kind == JSON:
      return texts.parse_json(_text(found, what), what)
    if kind == ITERATOR:
      own = texts.own_process_name()
      if not isinstance(found, dict) or own not in found:
        raise CheckpointContentError(f"{what} was saved by other processes")
      return texts.set_state(target, _text(found[own], what), what)
    return found


def _text(data: Any, what: str) -> str:
  is_text = isinstance(data, np.ndarray) and data.dtype == np.uint8
  try:
    if is_text:
      return data.tobytes().decode("utf-8")
  except UnicodeDecodeError:
    pass
  raise CheckpointContentError(f"{what} is damaged: not text")


class SealedSteps:
  """The sealed steps of a folder: for whom, and what is required of them."""

  def __init__(
    self,
    folder: Any,
    *,
    recipients: list[Recipient],
    identities: list[Identity],
    name: str,
    run: str,
    signer: signatures.Signer | None,
    verify_key: signatures.VerifyKey | None,
    impl: Impl,
  ):
    """Say who opens the steps; see `Manager`."""
    self._folder = folder
    self._recipients = recipients
    self._identities = identities
    self._name = name
    self._run_is_given = bool(run)
    self._run = run or _run_of(folder)
    self._signer = signer
    # To restore what a recipient changed would be to sign it at the next save.
    if signer is not None and verify_key is None:
      verify_key = signer.public_key()
    self._verify_key = verify_key
    self._impl: Impl = impl

  def can_open(self) -> bool:
    """Return whether there are keys to open steps with."""
    return bool(self._identities)

  def handlers(self) -> dict[str, ocp.CheckpointHandler]:
    """Return Orbax's handlers of what is written for a step."""
    return orbax_writer.handlers()

  def save_args(
    self, step: int, items: dict[str, Item], metadata: StepMetadata
  ) -> dict[str, Any]:
    """Seal a step; return the arguments with which Orbax saves it."""
    sealed = seal_tree(
      step_items.to_tree(items),
      self._recipients,
      step=step,
      name=self._name,
      run=self._run,
      metadata=to_manifest(metadata),
      signer=self._signer,
      impl=self._impl,
      lazy=False,
    )
    return {"args": orbax_writer.save_args(sealed)}

  def open(self, step: int) -> SealedStep:
    """Open a step.

    Raises:
      KeyringError: If no identity opens it.
      CheckpointError: If it cannot be read, or is of another step, name or
        run.
    """
    if not self._identities:
      raise KeyringError(
        "this Manager has no identities: give it identities=, a key that opens "
        f"the checkpoints in {self._folder}"
      )
    opened = open_checkpoint(
      self._folder / str(step),
      self._identities,
      step=step,
      name=self._name or None,
      verify_key=self._verify_key,
    )
    self._check_run(opened)
    return SealedStep(opened, self._impl)

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
