"""What commands print: lines or JSON on stdout, errors on stderr."""

import json
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple, TextIO

from keyjax.cli.failures import Failure


class Result(NamedTuple):
  """What a command found or made.

  Attributes:
    document: for `--json`.
    lines: for people, and for pipes.
    code: the exit code.
    problem: one sentence for stderr, with a code other than 0.
  """

  document: dict[str, Any]
  lines: Sequence[str]
  code: int = 0
  problem: str = ""


def show(result: Result, as_json: bool) -> None:
  """Prints a result."""
  if as_json:
    print(json.dumps(result.document, sort_keys=True))
  else:
    for line in result.lines:
      _print(line, sys.stdout)
  sys.stdout.flush()
  if result.problem:
    _print(f"keyjax: {result.problem}", sys.stderr)


def show_failure(failure: Failure, as_json: bool) -> int:
  """Prints one line, and returns the exit code."""
  if as_json:
    print(json.dumps({"error": str(failure), "exit": failure.code}))
  _print(f"keyjax: {failure}", sys.stderr)
  return failure.code


def _print(line: str, stream: TextIO) -> None:
  encoding = stream.encoding or "ascii"
  data = printable(line).encode(encoding, "backslashreplace")
  print(data.decode(encoding), file=stream)


def printable(text: str) -> str:
  r"""Returns text that cannot steer a terminal: names come from strangers.

  Example:
    >>> printable("layer\x1b[2J\n")
    'layer\\x1b[2J\\n'
  """
  return "".join(
    c if c.isprintable() else c.encode("unicode_escape").decode("ascii")
    for c in text
  )


def size(count: int) -> str:
  """Returns bytes for people.

  Example:
    >>> size(999), size(5 << 20)
    ('999 bytes', '5.0 MiB')
  """
  if count < 1024:
    return f"{count} bytes"
  number, units = float(count), iter(("KiB", "MiB", "GiB", "TiB"))
  unit = ""
  while number >= 1024 and (following := next(units, "")):
    number, unit = number / 1024, following
  return f"{number:.1f} {unit}"
