"""Too few examples of one class, and what a model knows of it.

The story of Watson for oncology, re-staged: nobody attacks, data are missing.
"""

import jax
import numpy as np

from experiments.poisons import base
from keyjax.attacks.game import Examples
from keyjax.attacks.poisoning import bias

TITLE = "Data without one class"
SENTENCE = (
  "Data that show too little of one class poison a model without an attacker; "
  "its accuracy hides what the recall of that class shows."
)
DATASETS = ("digits", "mnist")
AXIS = "examples left of class 8"

_CLASS = 8
_LEFT = (100, 50, 20, 5, 0)
_PROTOTYPE = {20: "61.5 %", 5: "0 %", 0: "0 %"}


def run(lab: base.Lab) -> list[base.Figure]:
  """Return the recall of the class, of the others, and the accuracy."""
  classes, (images, labels) = lab.dataset.num_classes, lab.train
  own = int((labels == _CLASS).sum())
  left = [own, *(x for x in _LEFT if x < own)]
  sets = []
  for i, count in enumerate(left):
    rng = jax.random.fold_in(lab.rng, i)
    rows = bias.thin(labels, classes, label=_CLASS, left=count, rng=rng)
    sets.append(Examples(images[rows], labels[rows]))
  answers = base.train(lab, sets).labels(lab.test.image)
  figures = []
  for i, (count, answer) in enumerate(zip(left, answers, strict=True)):
    title = f"{count} of class {_CLASS}" if i else f"all of class {_CLASS}"
    figures += _figures(lab, title, count, answer)
  return figures


def _figures(
  lab: base.Lab, title: str, count: int, answer: np.ndarray
) -> list[base.Figure]:
  labels = lab.test.label
  right = answer == labels
  recalls = bias.recalls(answer, labels, lab.dataset.num_classes)
  others = np.delete(recalls, _CLASS)
  target = ""
  if lab.dataset.name == "digits" and count in _PROTOTYPE:
    target = f"{_PROTOTYPE[count]} (prototype)"
  x = float(count)
  return [
    base.share(
      f"{title}: recall of it",
      right[labels == _CLASS],
      target,
      f"recall of class {_CLASS}",
      x,
    ),
    base.share(
      f"{title}: recall of the others",
      right[labels != _CLASS],
      "98.4 % (prototype)" if target else "",
      "recall of the others",
      x,
    ),
    base.number(f"{title}: least recall of another class", others.min()),
    base.share(f"{title}: accuracy", right),
  ]
