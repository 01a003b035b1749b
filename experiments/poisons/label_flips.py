"""Wrong labels, at random and of one pair of classes, and what they cost."""

from collections.abc import Iterator, Sequence

import jax
import numpy as np

from experiments.poisons import base
from keyjax.attacks.game import Examples
from keyjax.attacks.poisoning import label_flips

TITLE = "Flipped labels"
SENTENCE = (
  "An attacker who changes labels before training lowers accuracy; networks "
  "bear many wrong labels at random, and few of one class as another."
)
DATASETS = ("digits", "mnist")
AXIS = "share of labels"

_SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
_PROTOTYPE = tuple(
  f"{x} % (prototype)" for x in (97.1, 96.2, 95.0, 94.1, 91.9, 90.1, 83.8)
)
_PAIR = (3, 8)
_OF_CLASS = (0.1, 0.3, 0.5, 0.7)


def run(lab: base.Lab) -> list[base.Figure]:
  """Return accuracy by share of flips, and what one class is taken for."""
  classes, (images, labels) = lab.dataset.num_classes, lab.train
  rngs = iter(jax.random.split(lab.rng, len(_SHARES) + len(_OF_CLASS)))
  source, target = _PAIR
  made = [
    label_flips.at_random(labels, s, classes, rng=next(rngs)) for s in _SHARES
  ] + [
    label_flips.of_pair(
      labels, s, classes, source=source, target=target, rng=next(rngs)
    )
    for s in _OF_CLASS
  ]
  sets = [Examples(images, x.label) for x in made]
  answers = base.train(lab, sets).labels(lab.test.image)
  random, pair = answers[: len(_SHARES)], answers[len(_SHARES) :]
  return [*_at_random(lab, random), *_of_pair(lab, [answers[0], *pair])]


def _at_random(lab: base.Lab, answers: np.ndarray) -> Iterator[base.Figure]:
  """Yield the accuracy for each share of labels."""
  targets = _PROTOTYPE if lab.dataset.name == "digits" else ("",) * len(_SHARES)
  for s, answer, target in zip(_SHARES, answers, targets, strict=True):
    yield base.share(
      f"{s:.0%} of labels at random: accuracy",
      answer == lab.test.label,
      target,
      "accuracy, labels at random",
      s,
    )


def _of_pair(
  lab: base.Lab, answers: Sequence[np.ndarray]
) -> Iterator[base.Figure]:
  """Yield what the class is taken for, and the accuracy, for each share."""
  source, target = _PAIR
  own = lab.test.label == source
  for s, answer in zip((0.0, *_OF_CLASS), answers, strict=True):
    title = f"{s:.0%} of class {source} as {target}"
    curve = f"{source} taken for {target}, labels of that pair"
    yield base.share(
      f"{title}: taken for {target}", answer[own] == target, "", curve, s
    )
    yield base.share(f"{title}: accuracy", answer == lab.test.label)
