"""Orbax's manager and its policies, for the steps of a `Manager`."""

import contextlib
import os
import shutil
import warnings
from collections.abc import Sequence
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy as policy

from keyjax import arguments
from keyjax.checkpoint.errors import CheckpointContentError
from keyjax.checkpoint.steps.step_metadata import BestFn, Metrics, check_score
from keyjax.checkpoint.storage import commit_mark, folders, locations
from keyjax.errors import ArgumentError


def make_options(
  *,
  keep: int,
  keep_best: int | None,
  best_fn: BestFn | None,
  best_mode: str,
  save_interval_steps: int,
  preservation_policy: Any,
  save_decision_policy: Any,
) -> ocp.CheckpointManagerOptions:
  """Return Orbax's options; see `Manager`.

  Raises:
    ArgumentError: If they contradict each other.
  """
  number = arguments.whole_number
  keep = number(keep, "Manager: keep")
  interval = number(save_interval_steps, "Manager: save_interval_steps")
  arguments.require_choice(best_mode, "Manager: best_mode", ("max", "min"))
  if best_fn is not None and not callable(best_fn):
    raise ArgumentError(
      f"Manager: best_fn={arguments.show(best_fn)}: a function of the metrics"
    )
  if keep_best is not None:
    keep_best = number(keep_best, "Manager: keep_best")
    if best_fn is None or preservation_policy is not None:
      raise ArgumentError(
        "Manager: keep_best needs best_fn, and is not for a preservation_policy"
      )
  if save_decision_policy is not None and interval != 1:
    raise ArgumentError(
      "Manager: give save_interval_steps or save_decision_policy, not both"
    )
  kept: list[Any] = [policy.LatestN(keep)]
  if best_fn is not None:
    reverse = best_mode == "min"
    best = policy.BestN(
      get_metric_fn=best_fn, reverse=reverse, n=keep_best or 1
    )
    kept.append(best)
  return ocp.CheckpointManagerOptions(
    save_interval_steps=interval,
    best_fn=best_fn,
    best_mode=best_mode,
    preservation_policy=policy.AnyPreservationPolicy(kept)
    if preservation_policy is None
    else _KeepAllAfterError(preservation_policy),
    save_decision_policy=save_decision_policy,
    prevent_write_metrics=True,  # In the clear; `save_args` has them.
  )


class _KeepAllAfterError(policy.PreservationPolicy):
  """A user's policy, which Orbax asks when it is writing a step already."""

  def __init__(self, inner: policy.PreservationPolicy):
    self._inner = inner

  def should_preserve(
    self, checkpoints: Sequence[Any], *, context: Any
  ) -> Sequence[bool]:
    try:
      return self._inner.should_preserve(checkpoints, context=context)
    except Exception as error:
      what = arguments.first_line(error)
      warnings.warn(
        f"no step is removed: preservation_policy failed: {what}", stacklevel=2
      )
      return [True] * len(checkpoints)


class OrbaxManager(ocp.CheckpointManager):
  """Orbax's manager, which reads metrics where they are, sealed or plain."""

  def __init__(
    self,
    folder: Any,
    steps: Any,
    options: ocp.CheckpointManagerOptions,
  ):
    """Find the steps of a folder, without their metrics.

    Args:
      folder: Folder, from `locations.absolute_path`.
      steps: `SealedSteps` or `PlainSteps` of the folder.
      options: From `make_options`.
    """
    self._steps = steps
    self._best_fn = options.best_fn
    self._reads_metrics = False
    options.temporary_path_class = commit_mark.temporary_path_class(folder)
    super().__init__(folder, options=options, item_handlers=steps.handlers())
    if not locations.is_remote(folder):
      self._checkpoint_deleter: Any = _Deleter(folder)

  def read_metrics(self) -> None:
    """Read the metrics of the steps that are there, now and in `reload`.

    Raises:
      KeyringError: If no identity opens them.
      CheckpointStorageError: If they cannot be read.
    """
    self._reads_metrics = True
    self.reload()

  def metrics(self, step: int) -> Metrics | None:
    """Return the metrics of an earlier step, if they are needed.

    A step that is damaged is never the best, and never removed because it is
    not: nobody knows.
    """
    if not self._reads_metrics:
      return None
    try:
      metrics = self._steps.open(step).metadata.metrics
      if metrics is not None:
        check_score(self._best_fn, metrics)
    except FileNotFoundError:  # Removed meanwhile.
      return None
    except (CheckpointContentError, ArgumentError) as error:
      warnings.warn(
        f"step {step} is left out of what is best: {error}", stacklevel=2
      )
      return None
    return metrics


class _Deleter:
  """Removes steps of a disk as a whole.

  Orbax removes one file after the other: what a kill leaves would be taken for
  a step.
  """

  def __init__(self, folder: Any):
    self._folder = folder

  def delete(self, step: int) -> None:
    if jax.process_index():  # The first process acts for the whole run.
      return
    path = self._folder / str(step)
    name = folders.temporary(path).name + f"-removed-{os.urandom(4).hex()}"
    removed = path.with_name(name)
    with contextlib.suppress(FileNotFoundError):  # Someone else removed it.
      os.rename(path, removed)
    shutil.rmtree(removed, ignore_errors=True)  # Or the next Manager does.

  def delete_steps(self, steps: Sequence[int]) -> None:
    for step in steps:
      self.delete(step)

  def close(self) -> None:
    pass
