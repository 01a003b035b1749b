"""The report of attacks."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any


def write(path: pathlib.Path, rows: Sequence[Mapping[str, Any]]) -> None:
  """Writes the report."""
