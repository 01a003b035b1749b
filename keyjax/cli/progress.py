"""Bars on a terminal: how much this process has read or written so far."""

import contextlib
import pathlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Literal

Direction = Literal["read", "written"]
_COUNTERS = {"read": "rchar", "written": "wchar"}
_IO = pathlib.Path("/proc/self/io")


def transferred(direction: Direction) -> int | None:
  """Returns how many bytes this process moved; None where nobody counts.

  Example:
    >>> transferred("read") is None or transferred("read") > 0
    True
  """
  try:
    lines = _IO.read_text().splitlines()
  except OSError:  # Not Linux, or not allowed.
    return None
  fields = dict(line.split(": ") for line in lines)
  return int(fields[_COUNTERS[direction]])


@contextlib.contextmanager
def working(
  what: str, as_json: bool, total: int, direction: Direction
) -> Iterator[None]:
  """Shows on a terminal how far something is.

  Args:
    what: a word or two.
    as_json: then nothing is shown.
    total: how many bytes it will move, about.
    direction: which way.
  """
  if as_json or not sys.stderr.isatty():
    yield
    return
  from rich import console, progress  # Slow to load, and seldom needed.

  before = transferred(direction)

  class Bar(progress.Progress):
    """Asks the system for its progress whenever it is drawn."""

    def get_renderables(self) -> Iterable[Any]:
      now = transferred(direction)
      for task in self.tasks:
        if now is not None and before is not None:
          self.update(task.id, completed=min(now - before, total))
      return super().get_renderables()

  columns = (
    progress.TextColumn("{task.description}"),
    progress.BarColumn(),
    progress.DownloadColumn(binary_units=True),
    progress.TimeElapsedColumn(),
  )
  stderr = console.Console(stderr=True)
  with Bar(*columns, console=stderr, transient=True) as bar:
    bar.add_task(what, total=None if before is None else max(total, 1))
    yield
