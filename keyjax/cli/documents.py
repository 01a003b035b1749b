"""Files of JSON that commands are given."""

import json
import pathlib
from typing import Any

from keyjax.cli.failures import REFUSED, Failure


def json_object(path: str | None) -> dict[str, Any]:
  """Reads a file that holds one JSON object; empty for None.

  Raises:
    Failure: it holds something else.
    OSError: it cannot be read.
  """
  if path is None:
    return {}
  try:
    found = json.loads(pathlib.Path(path).read_text("utf-8"))
  except (ValueError, RecursionError):
    found = None
  if not isinstance(found, dict):
    raise Failure(REFUSED, f"{path} does not hold a JSON object")
  return found
