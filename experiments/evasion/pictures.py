"""Images before and after an attack, kept for the report."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.evasion.measure import Attempt
from experiments.evasion.models import Judged
from experiments.run import files
from experiments.run.pictures import keep, pixels

_SHOWN = 6


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
  entry = {
    "title": f"{spec['title']}, epsilon {found.epsilon:g} {spec['norm']}",
    "model": model.title,
    "image": pixels(clean[index]),
    "changed": pixels(found.inputs[index]),
    "change": pixels(0.5 + 0.5 * change / most),
  }
  keep(folder, label, entry)
