"""Kills at the boundaries of what a job writes, spread over all of it."""

import pathlib
import signal
from collections.abc import Callable

import numpy as np

from tests.checkpoint.children import Server

# The job of the child, indented as a module, is put between these.
_BEFORE = """
import os, pathlib, signal, sys

folder, job, at = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
count = 0

def deadly(function):
  def call(*args, **kwargs):
    global count
    count += 1
    if count == at:
      os.kill(os.getpid(), signal.SIGKILL)
    return function(*args, **kwargs)
  return call
"""
_DURING = """
for name in ("mkdir", "rename", "replace", "unlink", "rmdir", "fsync", "link"):
  setattr(os, name, deadly(getattr(os, name)))
os.open = deadly(os.open)
"""
_AFTER = """
print("calls", count, flush=True)
"""


def child(prepare: str, work: str) -> str:
  """Return a program that is killed before its `at`-th call; 0 for never.

  Args:
    prepare: What it does before calls are counted; it has `folder` and `job`.
    work: What it does while they are.
  """
  return "".join((_BEFORE, prepare, _DURING, work, _AFTER))


def walk(
  program: str,
  folder: pathlib.Path,
  children: Server,
  job: str,
  points: int,
  check: Callable[[pathlib.Path, str], None],
) -> None:
  """Kill at boundaries spread over the whole job, first and last included."""
  done = children.start(program, folder, job, 0)
  assert done.wait() == 0, done.err()
  total = int(done.out().split()[-1])
  check(folder, job)
  assert total >= 5
  every = np.unique(np.linspace(1, total, min(points, total)).astype(int))
  for at in every.tolist():
    killed = children.start(program, folder, job, at)
    assert killed.wait() in (0, -signal.SIGKILL), killed.err()
    check(folder, job)
