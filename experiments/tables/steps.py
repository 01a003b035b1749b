"""Cost of schemes for training steps and forward passes, from a benchmark."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
_METRICS = ("training_step", "forward_pass", "forward_pass_ahead")


def read(files: Sequence[str], config: str) -> list[dict[str, Any]]:
  """Return the rows that time the network of a config.

  Args:
    files: Files of `python -m experiments.benchmark overhead --json=FILE`.
    config: Name of the config.

  Raises:
    ValueError: If a file has no such rows.
    OSError: If a file cannot be read.
  """
  return [row for file in files for row in _read(file, config)]


def times(file: str, config: str) -> bool:
  """Return whether a file times the network of a config."""
  return bool(_found(file, config))


def _read(file: str, config: str) -> list[dict[str, Any]]:
  found = _found(file, config)
  if not found:
    raise ValueError(
      f"{file} times no step of {config}: write it with "
      "`python -m experiments.benchmark overhead --json=FILE`"
    )
  return found


def _found(file: str, config: str) -> list[dict[str, Any]]:
  try:
    rows = json.loads(pathlib.Path(file).read_text())
    return [
      r
      for r in rows
      if r.get("config") == config and r.get("metric") in _METRICS
    ]
  except (ValueError, AttributeError, TypeError):
    return []


def cell(rows: Sequence[Row], scheme: str) -> str:
  """Return `1; 1.10 [1.05, 1.15]; -`: steps, passes, and decrypted ahead.

  Args:
    rows: Result of `read`.
    scheme: Label of the scheme.
  """
  by = {r["metric"]: r for r in rows if r["scheme"] == scheme}
  if not by:
    return "-"
  return "; ".join(_ratio(by.get(metric)) for metric in _METRICS)


def _ratio(row: Row | None) -> str:
  if row is None:
    return "-"
  if row["low"] == row["value"] == row["high"]:  # By construction.
    return f"{row['value']:.3g}"
  return f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
