"""Machines that are taken away: save, leave, and go on later.

A cloud sends SIGTERM before it takes a machine (preemption, maintenance), a
person types Ctrl-C, which is SIGINT. With several processes, JAX tells all of
them, and all stop after the same step.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.experimental import multihost_utils

EXIT_STATUS = 75  # EX_TEMPFAIL of sysexits.h: run the same command again.
_Handler = Callable[[int, Any], Any]


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

  Every process must call it at every step. Signals are handled for as long as
  the context lasts; where a process joined others, JAX handles SIGTERM. A
  second SIGINT is a KeyboardInterrupt.
  """
  several, asked = jax.process_count() > 1, []

  def ask(*_: Any) -> None:
    if several:
      os.kill(os.getpid(), signal.SIGTERM)
    asked.append(True)

  with contextlib.ExitStack() as stack:
    try:
      stack.enter_context(_once(signal.SIGINT, ask))
      if not several:
        stack.enter_context(_handled(signal.SIGTERM, ask))
    except ValueError:  # Not the main thread: whoever runs it decides.
      pass
    if several:
      yield multihost_utils.reached_preemption_sync_point
    else:
      yield lambda step: bool(asked)


@contextlib.contextmanager
def _handled(number: int, handler: _Handler) -> Iterator[None]:
  """Handles a signal, and puts back what handled it before."""
  before = signal.signal(number, handler)
  try:
    yield
  finally:
    signal.signal(number, before)


@contextlib.contextmanager
def _once(number: int, handler: _Handler) -> Iterator[None]:
  """Handles a signal once, unless it is ignored, as under nohup."""
  before = signal.getsignal(number)
  if before == signal.SIG_IGN:
    yield
    return

  def once(*args: Any) -> None:
    signal.signal(number, before)
    handler(*args)

  with _handled(number, once):
    yield
