"""Lines of progress with the seconds since a command began."""

import time
from collections.abc import Callable

import rich.console


def with_seconds(console: rich.console.Console) -> Callable[[str], None]:
  """Return a function that prints a line, as it is, after the seconds so far.

  Args:
    console: Where it prints.
  """
  begun = time.monotonic()

  def note(text: str) -> None:
    console.print(f"{time.monotonic() - begun:6.0f} s  {text}", markup=False)

  return note
