"""Small pictures that a run keeps for its page."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.run import files, results

_FILE = "pictures.json"


def read(folder: files.AnyPath) -> dict[str, Any]:
  """Return the pictures of a folder by label; none if it has none."""
  file = folder / _FILE
  return json.loads(file.read_text()) if file.exists() else {}


def keep(folder: files.AnyPath, label: str, entry: Mapping[str, Any]) -> None:
  """Add an entry to a folder's pictures, or replace it."""
  folder.mkdir(parents=True, exist_ok=True)
  results.write_json(folder / _FILE, read(folder) | {label: dict(entry)})


def pixels(images: Any) -> list[Any]:
  """Return images in [0, 1] as numbers from 0 to 255.

  Example:
    >>> pixels(np.asarray([0.0, 0.5, 2.0]))
    [0, 128, 255]
  """
  shown = 255 * np.clip(np.asarray(images), 0, 1)
  return np.round(shown).astype(np.uint8).tolist()
