"""Wycheproof test vectors, from tests/vectors."""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

FOLDER = pathlib.Path(__file__).parent / "vectors"


def read(name: str) -> Any:
  """Return a test vector file, parsed."""
  return json.loads((FOLDER / name).read_text())


def cases(name: str) -> Iterator[dict[str, Any]]:
  """Yield the cases of all groups of a test vector file."""
  for group in read(name)["testGroups"]:
    yield from group["tests"]
