"""Output: lines or JSON on stdout, errors and progress bars on stderr."""

import contextlib
import json
import pathlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, TextIO

from keyjax.cli.exit_codes import Failure

Direction = Literal["read", "written", "both"]
_COUNTERS = {
  "read": ("rchar",),
  "written": ("wchar",),
  "both": ("rchar", "wchar"),
}
_IO = pathlib.Path("/proc/self/io")


class Result(NamedTuple):
  """Outcome of a command.

  Attributes:
    document: JSON object for `--json`.
    lines: Lines for people and for pipes.
    code: Exit code.
    problem: Message for stderr if the code is not 0.
  """

  document: dict[str, Any]
  lines: Sequence[str]
  code: int = 0
  problem: str = ""


def show(result: Result, as_json: bool) -> None:
  """Print a result."""
  if as_json:
    print(json.dumps(result.document, sort_keys=True))
  else:
    for line in result.lines:
      _print(line, sys.stdout)
  sys.stdout.flush()
  if result.problem:
    _print(f"keyjax: {result.problem}", sys.stderr)


def show_failure(failure: Failure, as_json: bool) -> int:
  """Print one line and return the exit code."""
  if as_json:
    print(json.dumps({"error": str(failure), "exit": failure.code}))
  _print(f"keyjax: {failure}", sys.stderr)
  return failure.code


def _print(line: str, stream: TextIO) -> None:
  encoding = stream.encoding or "ascii"
  data = printable(line).encode(encoding, "backslashreplace")
  print(data.decode(encoding), file=stream)


def printable(text: str) -> str:
  r"""Escape control characters: names in a checkpoint are not trusted.

  Example:
    >>> printable("layer\x1b[2J\n")
    'layer\\x1b[2J\\n'
  """
  return "".join(
    c if c.isprintable() else c.encode("unicode_escape").decode("ascii")
    for c in text
  )


def size(count: int) -> str:
  """Format a number of bytes.

  Example:
    >>> size(999), size(5 << 20)
    ('999 bytes', '5.0 MiB')
  """
  if count < 1024:
    return f"{count} bytes"
  number = float(count)
  for unit in ("KiB", "MiB", "GiB"):
    number /= 1024
    if number < 1024:
      return f"{number:.1f} {unit}"
  return f"{number / 1024:.1f} TiB"


def transferred(direction: Direction) -> int | None:
  """Return how many bytes this process has read, written, or both, so far.

  Returns:
    The number; None where the system does not count.

  Example:
    >>> transferred("read") is None or transferred("read") > 0
    True
  """
  try:
    lines = _IO.read_text().splitlines()
  except OSError:  # Not Linux, or not allowed.
    return None
  fields = dict(line.split(": ") for line in lines)
  return sum(int(fields[name]) for name in _COUNTERS[direction])


@contextlib.contextmanager
def progress_bar(
  title: str, as_json: bool, total: int, direction: Direction
) -> Iterator[None]:
  """Show a progress bar on a terminal.

  Args:
    title: One or two words.
    as_json: Whether the output is JSON; no bar is shown then.
    total: Approximate number of bytes to transfer.
    direction: Whether these bytes are read, written, or both.
  """
  if as_json or not sys.stderr.isatty():
    yield
    return
  from rich import console, progress  # Slow to import, and seldom needed.

  before = transferred(direction)

  class Bar(progress.Progress):
    """A bar that asks the system for its progress whenever it is drawn."""

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
    bar.add_task(title, total=None if before is None else max(total, 1))
    yield
