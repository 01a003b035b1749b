"""A signal is seen after a step, and nothing of it stays behind."""

import os
import signal
import threading

from experiments import preemption


def test_signal_is_seen_and_the_handler_put_back() -> None:
  before = signal.getsignal(signal.SIGTERM)
  with preemption.watch() as preempted:
    assert not preempted(1)
    os.kill(os.getpid(), signal.SIGTERM)
    assert preempted(2) and preempted(3)
  assert signal.getsignal(signal.SIGTERM) is before


def test_other_threads_leave_signals_alone() -> None:
  seen: list[bool] = []

  def work() -> None:
    with preemption.watch() as preempted:
      seen.append(preempted(1))

  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  assert seen == [False]


def test_message_says_what_to_do() -> None:
  text = str(preemption.Preempted(7, 60))
  assert "step 7 of 60 is saved" in text and "same command" in text
