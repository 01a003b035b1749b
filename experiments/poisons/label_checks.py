"""Wrong labels found before training: neighbours, and confident learning."""

from typing import Any

import jax
import numpy as np
import scipy.special

from experiments.poisons import base
from keyjax.attacks.game import Examples
from keyjax.attacks.poisoning import label_flips
from keyjax.defenses.poisoning import confident_learning, neighbours

TITLE = "Checks of labels"
SENTENCE = (
  "Wrong labels are found before training, as anomalies: by the labels of the "
  "nearest examples, or by models of other parts of the data."
)
DATASETS = ("digits", "mnist")
AXIS = "share of labels flipped"

_SHARES = (0.05, 0.1, 0.2, 0.4)
_PAIR, _OF_CLASS = (3, 8), 0.5
_FOLDS = 5
_NEAR = {0.05: "recall 98-100 %", 0.2: "recall 98-100 %"}
_PRECISION = {0.05: "82 % (prototype)", 0.2: "96 % (prototype)"}

_Case = tuple[float | None, label_flips.Flipped]


def run(lab: base.Lab) -> list[base.Figure]:
  """Return recall and precision of both checks, and accuracy after them."""
  classes, labels = lab.dataset.num_classes, lab.train.label
  rngs = iter(jax.random.split(lab.rng, len(_SHARES) + 1))
  made: dict[str, _Case] = {
    f"{s:.0%} at random": (
      s, label_flips.at_random(labels, s, classes, rng=next(rngs))
    )
    for s in _SHARES
  }  # fmt: skip
  source, target = _PAIR
  made[f"{_OF_CLASS:.0%} of class {source} as {target}"] = (
    None,
    label_flips.of_pair(
      labels, _OF_CLASS, classes, source=source, target=target, rng=next(rngs)
    ),
  )
  figures, sets, titles = [], [], []
  for title, (x, flips) in made.items():
    for check, flagged in _checks(lab, flips.label).items():
      figures += _found(lab, f"{title}, {check}", check, x, flagged, flips)
      kept = ~flagged
      sets.append(Examples(lab.train.image[kept], flips.label[kept]))
      titles.append(f"{title}, {check}: accuracy without what is flagged")
    sets.append(Examples(lab.train.image, flips.label))
    titles.append(f"{title}: accuracy with all")
  right = base.train(lab, sets).labels(lab.test.image) == lab.test.label
  return figures + [
    base.share(title, own) for title, own in zip(titles, right, strict=True)
  ]


def _checks(lab: base.Lab, labels: np.ndarray) -> dict[str, np.ndarray]:
  classes, images = lab.dataset.num_classes, lab.train.image

  def fit(train: np.ndarray, held: np.ndarray) -> Any:
    networks = base.train(lab, [Examples(images[train], labels[train])])
    return scipy.special.softmax(networks.logits(images[held])[0], -1)

  probabilities = confident_learning.out_of_fold(
    labels, classes, fit, _FOLDS, lab.seed
  )
  return {
    "neighbours": neighbours.flags(images, labels, classes),
    "confident learning": confident_learning.flags(labels, probabilities),
  }


def _found(
  lab: base.Lab,
  title: str,
  check: str,
  x: float | None,
  flagged: np.ndarray,
  flips: label_flips.Flipped,
) -> list[base.Figure]:
  digits = lab.dataset.name == "digits" and check == "neighbours"
  recall, precision = "", ""
  if digits and x is not None:
    recall = f"{_NEAR[x]} (prototype)" if x in _NEAR else ""
    precision = _PRECISION.get(x, "")

  def share(what: str, hits: np.ndarray, target: str) -> base.Figure:
    curve = "" if x is None else f"{check}: {what}"
    return base.share(f"{title}: {what}", hits, target, curve, x)

  made = [share("recall", flagged[flips.flipped], recall)]
  if flagged.any():  # Otherwise there is no precision.
    made.append(share("precision", flips.flipped[flagged], precision))
  return made
