"""Rows of measurements: read from files, compared, taken field by field."""

import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from keyjax.card.errors import CardError
from keyjax.errors import KeyringError
from keyjax.keyring.encoding import dump

Row = Mapping[str, Any]
INTERVAL = ("value", "low", "high", "interval")
_RUN = ("command", "commit", "hardware", "date", "jax")
_MAX_BYTES = 1 << 28


def read_rows(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
  """Read `results.json`, a list of rows, or `rows.jsonl`, one row per line.

  Raises:
    CardError: If it contains something else, or NaN.
    OSError: If it cannot be read.
  """
  path = pathlib.Path(path)
  if path.stat().st_size > _MAX_BYTES:
    raise CardError(f"{path} is too large for a file of rows")
  try:
    text = path.read_text("utf-8").strip()
    if text.startswith("["):
      rows = _load(text)
    else:
      rows = [_load(line) for line in text.splitlines()]
  except (ValueError, RecursionError):
    rows = None
  if not rows or not all(isinstance(row, dict) for row in rows):
    raise CardError(f"{path} holds no rows, or a number that is not JSON")
  return rows


def _load(text: str) -> Any:
  return json.loads(text, parse_constant=_refuse)


def _refuse(constant: str) -> NoReturn:
  raise ValueError(constant)


def unique(rows: Iterable[Row]) -> list[Row]:
  """Return rows without repetition, in an order independent of the input."""
  try:
    return [json.loads(x) for x in sorted({dump(dict(r)) for r in rows})]
  except KeyringError as error:
    raise CardError(f"a row is not evidence: {error}") from None


def one(rows: Sequence[Row], field: str) -> Any:
  """Return the value of a field on which all rows must agree.

  Raises:
    CardError: If they do not, or none of them has it.
  """
  found = unique({field: row[field]} for row in rows if field in row)
  if not found:
    raise CardError(f"the rows do not have {field!r}: use rows of one release")
  if len(found) > 1:
    raise CardError(
      f"the rows disagree on {field!r}: use rows of one release, one data set, "
      "one network and one scheme"
    )
  return found[0][field]


def require(
  row: Row, fields: Iterable[str], what: str, why: str = "it is not evidence"
) -> dict[str, Any]:
  """Return some fields of a row, all of which it must have.

  Args:
    row: The row.
    fields: Their names.
    what: What the row is of, for the error.
    why: What a row without one of them is not, for the error.

  Raises:
    CardError: If one is missing, or null.
  """
  missing = [k for k in fields if row.get(k) is None]
  if missing:
    raise CardError(f"{what} has no {missing[0]!r}: {why}")
  return {k: row[k] for k in fields}


def runs_of(rows: Iterable[Row]) -> list[Row]:
  """Return the runs that rows are from, without repetition.

  Raises:
    CardError: If a row does not say by which command it was measured.
  """
  rows = list(rows)
  if not all(row.get("command") for row in rows):
    raise CardError("a row has no 'command': nobody could measure it again")
  return unique({k: row.get(k, "") for k in _RUN} for row in rows)


def run_of(row: Row, runs: Sequence[Row]) -> dict[str, int]:
  """Return the number of a row's run, as a field."""
  return {"run": runs.index({k: row.get(k, "") for k in _RUN})}
