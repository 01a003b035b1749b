"""Checkpoints of a training run, plain or sealed, as Orbax manages them."""

import numbers
import os
from collections.abc import Iterable
from typing import Any

import orbax.checkpoint as ocp

from keyjax.aes.host import Impl
from keyjax.checkpoint.checks import (
  as_identities,
  as_recipients,
  check_optional_name,
  checked_step,
)
from keyjax.checkpoint.format import signature as signatures
from keyjax.checkpoint.steps import items as step_items
from keyjax.checkpoint.steps.orbax_manager import make_options
from keyjax.checkpoint.steps.plain_steps import PlainSteps
from keyjax.checkpoint.steps.run_folder import RunFolder
from keyjax.checkpoint.steps.sealed_steps import SealedSteps
from keyjax.checkpoint.steps.step_metadata import (
  BestFn,
  StepMetadata,
  check_custom,
  check_metrics,
  check_score,
)
from keyjax.checkpoint.storage import locations
from keyjax.errors import ArgumentError
from keyjax.keyring import Identity, Recipient


class Manager:
  """Checkpoints of a training run: the last few, and the best ones.

  Its methods are called as those of Orbax's `CheckpointManager`, whose policies
  it uses, and plain checkpoints are those of Orbax. With recipients each step
  is sealed, in memory, before `save` returns: no plaintext reaches the disk.
  The number of a step is the folder's name, which is public, and which steps
  are kept shows which were the best; metrics, metadata and the names of items
  are sealed.

  Saves are asynchronous: `wait_until_finished` waits for them, as do `restore`,
  `delete`, `reload` and `close` (or leaving the `with` block).

  Example:
    >>> import tempfile, jax.numpy as jnp
    >>> folder = tempfile.mkdtemp() + "/run"
    >>> loss = lambda metrics: metrics["loss"]
    >>> with Manager(folder, keep=1, best_fn=loss, best_mode="min") as manager:
    ...   for step in (1, 2, 3):
    ...     state = {"w": jnp.float32(step)}
    ...     _ = manager.save(step, state, metrics={"loss": abs(step - 2)})
    ...   manager.wait_until_finished()
    ...   manager.all_steps(), manager.latest_step(), manager.best_step()
    ([2, 3], 3, 2)
  """

  def __init__(
    self,
    folder: str | os.PathLike[str],
    keep: int = 2,
    *,
    save_interval_steps: int = 1,
    best_fn: BestFn | None = None,
    best_mode: str = "max",
    keep_best: int | None = None,
    preservation_policy: Any = None,
    save_decision_policy: Any = None,
    metadata: dict[str, Any] | None = None,
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
      keep: Number of the last checkpoints to keep.
      save_interval_steps: `save` does nothing at a step that is not a multiple
        of it, except the first one, or unless it is forced.
      best_fn: Function from the metrics of a step to the number that says how
        good it is; `save` then needs metrics.
      best_mode: Whether the best number is the "max" or the "min".
      keep_best: Number of the best checkpoints to keep, as well as the last
        ones; by default 1. Those without metrics are kept too.
      preservation_policy: Policy of `orbax.checkpoint.checkpoint_managers`
        that says what is kept, instead of `keep` and `keep_best`.
      save_decision_policy: Policy that says when to save, instead of
        `save_interval_steps`.
      metadata: JSON that is recorded with each step; see `metadata`.
      recipients: Recipients who can open them; None for plain checkpoints.
      identities: Keys that open them, to resume a run.
      name: Name of the model; sealed, and required to restore.
      run: Id of the run; sealed, and required to restore. By default it is a
        digest of the folder's absolute path, and checkpoints that record no
        run, as those of earlier releases, are restored too; those of another
        run never are. Give one if folders are moved, or to refuse checkpoints
        without one.
      signer: Private key to sign them with; see `checkpoint.save`.
      verify_key: Public key whose signature is required to restore; by default
        that of the signer, if there is one.
      impl: Where arrays are sealed and opened; see `checkpoint.save`.

    Raises:
      CheckpointStorageError: If the folder cannot be created or written.
      CheckpointContentError: If it holds sealed checkpoints and there are no
        recipients, or plain ones and there are some.
      KeyringError: If a policy needs the metrics of sealed steps that are
        there, and no identity opens them.
      ValueError: If a number is below 1, options contradict each other, keys, a
        name or a run are given without recipients, or the name or the run has
        other characters than `save` accepts.
    """
    check_optional_name(name, "name")
    check_optional_name(run, "run")
    signatures.check_signer(signer)
    self._best_fn = best_fn
    self._metadata = check_custom(metadata, "Manager: metadata")
    options = make_options(
      keep=keep,
      keep_best=keep_best,
      best_fn=best_fn,
      best_mode=best_mode,
      save_interval_steps=save_interval_steps,
      preservation_policy=preservation_policy,
      save_decision_policy=save_decision_policy,
    )
    place = locations.absolute_path(folder)
    self._steps: SealedSteps | PlainSteps
    if recipients is None:
      keys = {"signer": signer, "verify_key": verify_key}
      openers = as_identities(identities)
      _refuse_in_the_clear(identities=openers, name=name, run=run, **keys)
      self._steps = PlainSteps(place)
    else:
      self._steps = SealedSteps(
        place,
        recipients=_at_least_one(recipients),
        identities=as_identities(identities),
        name=name,
        run=run,
        signer=signer,
        verify_key=verify_key,
        impl=impl,
      )
    self._folder = RunFolder(
      place,
      self._steps,
      options,
      # Without keys, such a policy finds no metrics.
      reads_metrics=best_fn is not None
      or (preservation_policy is not None and self._steps.can_open()),
    )
    self._orbax = self._folder.orbax

  def save(
    self,
    step: int,
    state: Any = None,
    *,
    args: Any = None,
    metrics: dict[str, float] | None = None,
    custom_metadata: dict[str, Any] | None = None,
    force: bool = False,
  ) -> bool:
    """Save a state, or several items, under a step.

    It returns before they are on disk. What is saved is what they are now.

    Args:
      step: Number of the step, after that of the last one.
      state: Tree of arrays.
      args: Instead of a state, items by name: `orbax.checkpoint.args.Composite`
        of `StandardSave`, `PyTreeSave`, `JsonSave` and Grain's
        `CheckpointSave`.
      metrics: Finite numbers by name.
      custom_metadata: JSON that is recorded with that of the run.
      force: Whether to save whatever `should_save` says.

    Returns:
      Whether it was saved: not if `should_save` says no.

    Raises:
      ValueError: If the state has something other than arrays, an item is not
        JSON or has an unsuitable name, the step is not after the last one, the
        manager is closed, or the metrics are missing or not finite.
      CheckpointStorageError: If this save or the previous one failed, or
        another Manager saves into the folder.
    """
    step = checked_step(step)
    given = step_items.as_composite(state, args, ocp.args.StandardSave)
    custom = check_custom(custom_metadata, "custom_metadata")
    metadata = StepMetadata(
      items={name: step_items.kind_of(name, x) for name, x in given.items()},
      metrics=check_metrics(metrics),
      custom_metadata=self._metadata | custom,
    )
    check_score(self._best_fn, metadata.metrics)
    self._folder.check_can_write()
    latest = self.latest_step()
    if latest is not None and step <= latest:
      raise ValueError(f"step {step} is not after step {latest}")
    if not force and not self.should_save(step):
      return False
    items = step_items.freeze(given)
    made = self._steps.save_args(step, items, metadata)
    self._folder.save(step, made, metadata.metrics)
    return True

  def should_save(self, step: int) -> bool:
    """Return whether `save` would save at a step, by Orbax's policy."""
    return self._orbax.should_save(checked_step(step))

  def all_steps(self) -> list[int]:
    """Return the steps in their order, one that is being saved included."""
    return list(self._orbax.all_steps())

  def latest_step(self) -> int | None:
    """Return the last step, which may still be being saved, or None."""
    return self._orbax.latest_step()

  def best_step(self) -> int | None:
    """Return the best step by `best_fn`, or None if none has metrics.

    Raises:
      ValueError: If there is no `best_fn`.
    """
    if self._best_fn is None:
      raise ArgumentError("best_step: give this Manager a best_fn")
    return self._orbax.best_step()

  def metadata(self, step: int | None = None) -> StepMetadata:
    """Return what a step records: kinds of items, metrics, custom metadata.

    Args:
      step: Step; the latest one by default.

    Raises:
      FileNotFoundError, KeyringError, CheckpointError: As `restore`.
    """
    return self._steps.open(self._folder.find(step)).metadata

  def restore(
    self, like: Any = None, step: int | None = None, *, args: Any = None
  ) -> Any:
    """Read a state, or items; the latest ones by default.

    Args:
      like: What a state is restored like; see `checkpoint.restore`. None gives
        it as it was saved.
      step: Step; the latest one by default.
      args: Items to read: `orbax.checkpoint.args.Composite` of
        `StandardRestore`, `PyTreeRestore`, `JsonRestore` and Grain's
        `CheckpointRestore`.

    Returns:
      The state. With `args`, or if several items were saved, a `Composite` of
      items.

    Raises:
      FileNotFoundError: If there is no checkpoint, or no such item in it.
      KeyringError: If no identity opens it.
      CheckpointError: If it cannot be read, or is of another state.
      ArgumentError: If an item is of another kind than its arguments.
    """
    if isinstance(like, numbers.Integral):
      raise ArgumentError(f"restore({like}): give step={like} by its name")
    given = None
    if args is not None or like is not None:
      given = step_items.as_composite(like, args, ocp.args.StandardRestore)
    opened = self._steps.open(self._folder.find(step))
    found = step_items.read_items(opened, given)
    has_names = given is None and not step_items.is_single(opened.items)
    if has_names or isinstance(args, ocp.args.Composite):
      return ocp.args.Composite(**found)
    return found[step_items.STATE]

  def delete(self, step: int) -> None:
    """Remove a step; on a disk as a whole, even if the process is killed.

    Raises:
      FileNotFoundError: If there is no such step.
      ValueError: If the manager is closed.
      CheckpointStorageError: If it cannot be removed, or another Manager saves
        into the folder.
    """
    self._folder.delete(checked_step(step))

  def reload(self) -> None:
    """Look for the steps that are there now, such as those of another process.

    Raises:
      CheckpointStorageError: If a save failed, or the folder cannot be read.
    """
    self._folder.reload()

  def wait_until_finished(self) -> None:
    """Wait until all saves are on disk.

    Raises:
      CheckpointStorageError: If a save failed.
    """
    self._folder.wait()

  def close(self) -> None:
    """Wait for all saves and release the folder.

    Raises:
      CheckpointStorageError: If a save failed.
    """
    self._folder.close()

  def __enter__(self) -> "Manager":
    return self

  def __exit__(self, *_: Any) -> None:
    self.close()


def _at_least_one(
  recipients: Recipient | Iterable[Recipient],
) -> list[Recipient]:
  if found := as_recipients(recipients):
    return found
  raise ValueError(
    "Manager: recipients is empty: give at least one, or None for plain "
    "checkpoints"
  )


def _refuse_in_the_clear(**given: Any) -> None:
  """Refuse what only sealed checkpoints have if those to save are plain."""
  if names := [name for name, x in given.items() if x not in (None, "", [])]:
    raise ValueError(
      f"Manager: {' and '.join(names)} without recipients: checkpoints would "
      "be saved in the clear; give recipients too"
    )
