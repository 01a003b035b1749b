"""Commands of experiments/ in processes that do not import everything again.

A server imports the commands once; each call is a process forked from it, with
its own flags, environment, streams and exit code, as `python -m
experiments.NAME` has. JAX starts its backend in the new process.
"""

import importlib
import multiprocessing
import os
import pathlib
import signal
import sys
import tempfile
from typing import NamedTuple

from absl import app

from experiments.run import flags as run_flags
from tests.conftest import ROOT

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload([__name__, "experiments.main"])


class Ended(NamedTuple):
  """The exit code and the output of a command."""

  code: int | None
  stdout: str
  stderr: str


class Started:
  """A command that runs in a process of its own."""

  def __init__(self, name: str, *args: str, **env: str) -> None:
    """Start a command with arguments and additional environment variables."""
    self._folder = tempfile.TemporaryDirectory()
    self._process = _SERVER.Process(
      target=_child, args=(name, args, env, self._folder.name)
    )
    self._process.start()

  @property
  def returncode(self) -> int | None:
    """The exit code; None while the command runs."""
    return self._process.exitcode

  def send_signal(self, number: int) -> None:
    """Send a signal to the process."""
    assert self._process.pid is not None
    os.kill(self._process.pid, number)

  def kill(self) -> None:
    """Kill the process, if it runs."""
    self._process.kill()

  def wait(self, seconds: float = 120) -> Ended:
    """Wait for the end; kill the process if it does not come."""
    self._process.join(seconds)
    try:
      assert self._process.exitcode is not None, f"no end after {seconds} s"
    finally:
      self._process.kill()
    stdout, stderr = (
      (pathlib.Path(self._folder.name) / stream).read_text()
      for stream in ("stdout", "stderr")
    )
    return Ended(self._process.exitcode, stdout, stderr)


def run(name: str, *args: str) -> Ended:
  """Run a command with arguments, and wait for its end."""
  return Started(name, *args).wait()


def _child(
  name: str, args: tuple[str, ...], env: dict[str, str], folder: str
) -> None:
  for number, stream in ((1, "stdout"), (2, "stderr")):
    file = os.open(pathlib.Path(folder) / stream, os.O_WRONLY | os.O_CREAT)
    os.dup2(file, number)
  # A shell without job control ignores it in what it runs in the background.
  signal.signal(signal.SIGINT, signal.default_int_handler)
  os.chdir(ROOT)
  os.environ.update(env)
  module = importlib.import_module(f"experiments.{name}")
  sys.argv = [f"experiments/{name}.py", *args]
  app.run(module.main, flags_parser=run_flags.parse_flags)
