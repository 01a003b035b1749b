"""Preemption: save the run, exit, and resume later.

A cloud sends SIGTERM before it takes a machine away (preemption, maintenance);
Ctrl-C sends SIGINT. With several processes, JAX notifies all of them, and all
stop after the same step.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.experimental import multihost_utils

EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: run the same command again.
_Handler = Callable[[int, Any], Any]


class Preempted(Exception):
  """A run was asked to stop and has saved all of its steps."""

  def __init__(self, step: int, steps: int) -> None:
    """Create the error.

    Args:
      step: Last step, which is saved.
      steps: Number of steps of the whole run.
    """
    super().__init__(
      f"asked to stop: step {step} of {steps} is saved; run the same command "
      "again to resume"
    )


@contextlib.contextmanager
def watch() -> Iterator[Callable[[int], bool]]:
  """Yield a function from a finished step to whether to save and exit.

  Every process must call it at every step. Signals are handled only inside the
  context; if this process has joined others, JAX handles SIGTERM. A second
  SIGINT raises KeyboardInterrupt.
  """
  several = jax.process_count() > 1
  requests: list[bool] = []

  def request_stop(*_: Any) -> None:
    if several:
      os.kill(os.getpid(), signal.SIGTERM)
    requests.append(True)

  with contextlib.ExitStack() as stack:
    try:
      stack.enter_context(_handled_once(signal.SIGINT, request_stop))
      if not several:
        stack.enter_context(_handled(signal.SIGTERM, request_stop))
    except ValueError:  # Not the main thread: its owner handles signals.
      pass
    if several:
      yield multihost_utils.reached_preemption_sync_point
    else:
      yield lambda step: bool(requests)


@contextlib.contextmanager
def _handled(number: int, handler: _Handler) -> Iterator[None]:
  """Handle a signal, and restore the previous handler afterwards."""
  before = signal.signal(number, handler)
  try:
    yield
  finally:
    signal.signal(number, before)


@contextlib.contextmanager
def _handled_once(number: int, handler: _Handler) -> Iterator[None]:
  """Handle a signal once, unless it is ignored, as under nohup."""
  before = signal.getsignal(number)
  if before == signal.SIG_IGN:
    yield
    return

  def once(*args: Any) -> None:
    signal.signal(number, before)
    handler(*args)

  with _handled(number, once):
    yield
