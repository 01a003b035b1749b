"""Commands of experiments/ in processes that do not import everything again.

A server imports the commands once; each call is a process forked from it, with
its own flags, streams and exit code, as `python -m experiments.NAME` has.
"""

import importlib
import multiprocessing
import os
import pathlib
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


def run(name: str, *args: str, seconds: float = 120) -> Ended:
  """Run a command with arguments, and wait for its end."""
  with tempfile.TemporaryDirectory() as folder:
    process = _SERVER.Process(target=_child, args=(name, args, folder))
    process.start()
    process.join(seconds)
    try:
      assert process.exitcode is not None, f"no end after {seconds} s"
    finally:
      process.kill()
    stdout, stderr = (
      (pathlib.Path(folder) / stream).read_text()
      for stream in ("stdout", "stderr")
    )
    return Ended(process.exitcode, stdout, stderr)


def _child(name: str, args: tuple[str, ...], folder: str) -> None:
  for number, stream in ((1, "stdout"), (2, "stderr")):
    file = os.open(pathlib.Path(folder) / stream, os.O_WRONLY | os.O_CREAT)
    os.dup2(file, number)
  os.chdir(ROOT)
  module = importlib.import_module(f"experiments.{name}")
  sys.argv = [f"experiments/{name}.py", *args]
  app.run(module.main, flags_parser=run_flags.parse_flags)
