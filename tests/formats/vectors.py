"""The format vectors: files of each format with their keys and contents.

`examples/read_*.py` were written from `docs/formats` and share no code with
KeyJAX: what both open, and both refuse, is what the documents say.
"""

import base64
import functools
import json
import pathlib
from typing import Any

FOLDER = pathlib.Path(__file__).parent.parent / "vectors/formats"
SECRET = bytes(range(32))
octets = base64.b64decode


@functools.cache
def vectors(name: str) -> dict[str, Any]:
  """Return a file of vectors, parsed."""
  return json.loads((FOLDER / f"{name}.json").read_text())
