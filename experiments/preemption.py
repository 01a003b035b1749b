"""Machines that are taken away: save, leave, and go on later.

A cloud sends SIGTERM before it takes a machine (preemption, maintenance). With
several processes, JAX tells all of them, and all stop after the same step.
"""

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.experimental import multihost_utils

EXIT_STATUS = 75  # EX_TEMPFAIL of sysexits.h: run the same command again.


class Preempted(Exception):
  """A run was asked to stop, and has saved all of its steps."""

  def __init__(self, step: int, steps: int) -> None:
    """Says at which step, of how many."""
    super().__init__(
      f"asked to stop: step {step} of {steps} is saved; run the same command "
      "again to go on from there"
    )


@contextlib.contextmanager
def watch() -> Iterator[Callable[[int], bool]]:
  """Yields a function that tells, after a step, whether to save and leave.

  Every process must call it at every step. The signal is handled for as long
  as the context lasts; where a process joined others, JAX handles it.
  """
  if jax.process_count() > 1:
    yield multihost_utils.reached_preemption_sync_point
    return
  asked = []

  def ask(*_: Any) -> None:
    asked.append(True)

  try:
    before = signal.signal(signal.SIGTERM, ask)
  except ValueError:  # Not the main thread: whoever runs it decides.
    yield lambda step: False
    return
  try:
    yield lambda step: bool(asked)
  finally:
    signal.signal(signal.SIGTERM, before)
