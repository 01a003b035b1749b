"""Images before and after an attack, kept for the report."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.evasion.measure import Attempt
from experiments.evasion.models import Judged
from experiments.run import files, results

_SHOWN = 6
_FILE = "pictures.json"


def add(
  folder: files.AnyPath,
  label: str,
  spec: Mapping[str, Any],
  model: Judged,
  found: Attempt,
) -> None:
  """Add the first images that an attack broke to the folder's pictures.

  Args:
    folder: Folder of the run.
    label: Label of the attack.
    spec: The attack.
    model: The model.
    found: What the attack found at its largest epsilon.
  """
  clean = model.test.image[: len(found.broken)]
  moved = found.broken & (found.distance > 0)
  index = np.flatnonzero(moved)[:_SHOWN]
  if not len(index):
    return
  change = found.inputs[index] - clean[index]  # [k, h, w, c]
  most = np.abs(change).max((1, 2, 3), keepdims=True)
  kept = read(folder)
  kept[label] = {
    "title": f"{spec['title']}, epsilon {found.epsilon:g} {spec['norm']}",
    "model": model.title,
    "image": _pixels(clean[index]),
    "changed": _pixels(found.inputs[index]),
    "change": _pixels(0.5 + 0.5 * change / most),
  }
  results.write_json(folder / _FILE, kept)


def read(folder: files.AnyPath) -> dict[str, Any]:
  """Return the pictures of a folder by attack; none if it has none."""
  file = folder / _FILE
  return json.loads(file.read_text()) if file.exists() else {}


def _pixels(images: np.ndarray) -> list[Any]:
  return np.round(255 * np.clip(images, 0, 1)).astype(np.uint8).tolist()
