"""Two models of one task between which nothing transfers."""

import functools
import math

import numpy as np

from experiments.studies import base
from keyjax.attacks import xor_artefact
from keyjax.attacks.evasion import pgd
from keyjax.attacks.game import Examples
from keyjax.attacks.transfer_matrix import UNCHANGED, transfer_matrix

TITLE = "Where transfer fails"
SENTENCE = (
  "Transfer is no law: where a linear and a quadratic model can use different "
  "features of the same inputs, what fools one does not fool the other."
)
DATASETS = ("digits",)

_ANYWHERE = (-math.inf, math.inf)
# Accuracy of (target, source), linked and control.
_PROTOTYPE = {
  ("linear", "linear"): (0, 0),
  ("quadratic", "linear"): (100, 0),
  ("quadratic", "quadratic"): (0, 0),
  ("linear", "quadratic"): (97.5, 0),
}


def run(lab: base.Lab) -> list[base.Figure]:
  """Return the accuracy of both models under attacks on both."""
  return [
    *_pair(lab, linked=True, name="product is the class"),
    *_pair(lab, linked=False, name="control, random product"),
  ]


def _pair(lab: base.Lab, linked: bool, name: str) -> list[base.Figure]:
  train, test = (
    _with_artefact(lab, part, linked=linked, seed=lab.seed + i)
    for i, part in enumerate((lab.train, lab.test))
  )
  found = transfer_matrix(
    # A single start can end where both features are 0: a saddle.
    functools.partial(pgd, steps=100, restarts=4),
    {
      "linear": xor_artefact.linear(*train),
      "quadratic": xor_artefact.quadratic(*train),
    },
    *test,
    epsilon=3.0,
    norm="l2",
    bounds=_ANYWHERE,
    rng=lab.rng,
  )
  figures = []
  for (target, source), percent in _PROTOTYPE.items():
    error, low, high = found[source][target]
    figures.append(
      base.Figure(
        f"{name}: accuracy of {target} under PGD on {source}",
        1 - error,
        1 - high,
        1 - low,
        len(test.label),
        f"{percent[not linked]} % (prototype)",
      )
    )
  for target, share in found[UNCHANGED].items():
    error, low, high = share
    figures.append(
      base.Figure(
        f"{name}: accuracy of {target}",
        1 - error,
        1 - high,
        1 - low,
        len(test.label),
        "100 % (prototype)",
      )
    )
  return figures


def _with_artefact(
  lab: base.Lab, part: Examples, linked: bool, seed: int
) -> Examples:
  """Return threes and sevens, centred, with two more features."""
  chosen = np.isin(part.label, (3, 7))
  mean = lab.train.image[np.isin(lab.train.label, (3, 7))].mean(0)
  image = (part.image[chosen] - mean).reshape(chosen.sum(), -1)
  label = (part.label[chosen] == 7).astype(np.int32)
  made = xor_artefact.with_artefact(image, label, linked=linked, seed=seed)
  return Examples(made, label)
