"""A signal is noticed after a step, and the handlers are restored."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from experiments.run import errors, preemption


@pytest.fixture(autouse=True)
def not_ignored() -> Iterator[None]:
  """Handle interrupts as in a terminal: a shell's `&` makes them ignored."""
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noticed_and_the_handler_restored(number: int) -> None:
  before = signal.getsignal(number)
  with preemption.watch() as preempted:
    assert not preempted(1)
    os.kill(os.getpid(), number)
    assert preempted(2) and preempted(3)
  assert signal.getsignal(number) is before


def test_a_second_interrupt_stops_at_once() -> None:
  with pytest.raises(KeyboardInterrupt), preemption.watch() as preempted:
    os.kill(os.getpid(), signal.SIGINT)
    assert preempted(1)
    os.kill(os.getpid(), signal.SIGINT)
  assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_ignored_interrupt_stays_ignored() -> None:
  before = signal.signal(signal.SIGINT, signal.SIG_IGN)
  try:
    with preemption.watch() as preempted:
      os.kill(os.getpid(), signal.SIGINT)
      assert not preempted(1)
  finally:
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
  "stop, status, message",
  [
    (preemption.Preempted(7, 60), 75, "step 7 of 60 is saved"),
    (KeyboardInterrupt(), 130, "run the same command again"),
  ],
)
def test_a_stop_is_one_line_and_an_exit_code(
  stop: BaseException,
  status: int,
  message: str,
  capsys: pytest.CaptureFixture[str],
) -> None:
  with pytest.raises(SystemExit) as ended, errors.reported():
    raise stop
  assert ended.value.code == status
  (line,) = capsys.readouterr().err.splitlines()
  assert message in line


def test_other_threads_leave_signals_alone() -> None:
  seen: list[bool] = []

  def work() -> None:
    with preemption.watch() as preempted:
      seen.append(preempted(1))

  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  assert seen == [False]


def test_the_message_says_how_to_resume() -> None:
  text = str(preemption.Preempted(7, 60))
  assert "step 7 of 60 is saved" in text and "same command" in text
