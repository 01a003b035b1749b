"""Tables of a card as lines of text, and the numbers in them."""

import io
import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box, console, table, text

from keyjax.cli.output import printable


def percent(value: float) -> str:
  """Return a share in percent."""
  return f"{100 * value:.2f}"


def span(row: Mapping[str, Any]) -> str:
  """Return the interval of a share in percent."""
  if row["low"] == row["high"]:  # One game, or keys that are all alike.
    return "-"
  return f"{percent(row['low'])} - {percent(row['high'])}"


def lines(
  title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]
) -> list[str]:
  """Return a table, or a line that says that it is empty.

  Args:
    title: Title of the table.
    columns: Names of the columns.
    rows: Cells of each row.
  """
  found = list(rows)
  if not found:
    return [f"{printable(title)}: none", ""]
  # Nothing here is trusted: no markup, no control characters.
  shown = text.Text(printable(title))
  grid = table.Table(title=shown, title_justify="left", box=box.ASCII)
  for name in columns:
    grid.add_column(name, overflow="fold")
  for row in found:
    grid.add_row(*(text.Text(printable(cell)) for cell in row))
  buffer = io.StringIO()
  width = shutil.get_terminal_size((100, 24)).columns
  console.Console(file=buffer, width=width, no_color=True).print(grid)
  return [line.rstrip() for line in buffer.getvalue().splitlines()] + [""]
