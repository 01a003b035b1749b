"""What detectors have in common: two sets of images, and AP50 on both.

One set has labels. The other one has photographs without labels: there the
boxes of the plain detector are the truth, so that its AP50 is 1 by definition,
and that of a locked one says how much of them is left.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from experiments.published import matching
from experiments.published.images import Labelled
from experiments.published.matching import Found
from experiments.published.subject import Figure, Forward, Judged, Subject
from keyjax import tasks

Detect = Callable[[Any, np.ndarray], Found]


def subject(
  model: nn.Module,
  variables: Any,
  example: Any,
  layers: str,
  detect: Detect,
  labelled: Sequence[Labelled],
  photos: Sequence[np.ndarray],
  about: Mapping[str, Any],
) -> Subject:
  """Return the subject of a detector.

  Args:
    model: Module.
    variables: Its variables.
    example: Input for the generation of keys.
    layers: Pattern of the layers that HPNN locks.
    detect: Function of a forward pass and an image, which returns its boxes.
    labelled: Images with their boxes.
    photos: Images without.
    about: Fields for rows.
  """
  plain = jax.jit(functools.partial(model.apply, variables))
  truth = [detect(plain, photo).boxes for photo in photos]

  def judge(forward: Forward) -> Judged:
    counted = _Counted(forward)
    found = [detect(counted, x.image) for x in labelled]
    again = [detect(counted, photo) for photo in photos]
    boxes = tasks.get("boxes")
    known = matching.statistics(found, [x.boxes for x in labelled])
    return Judged(
      {
        "ap50": Figure(boxes, known),
        "ap50 against plain": Figure(boxes, matching.statistics(again, truth)),
      },
      counted.nonfinite / max(counted.numbers, 1),
    )

  return Subject(
    model=model,
    variables=variables,
    batch={"image": example},
    layers=layers,
    judge=judge,
    about={
      "examples": len(labelled),
      "objects": sum(len(x.boxes) for x in labelled),
      "photos": len(photos),
      "objects in photos": sum(map(len, truth)),
    }
    | dict(about),
  )


class _Counted:
  """A forward pass that counts the numbers that are not finite."""

  def __init__(self, forward: Forward) -> None:
    self._forward = forward
    self.numbers = self.nonfinite = 0

  def __call__(self, inputs: Any) -> Any:
    outputs = self._forward(inputs)
    for x in jax.tree.leaves(outputs):
      self.numbers += x.size
      self.nonfinite += x.size - int(np.isfinite(x).sum())
    return outputs
