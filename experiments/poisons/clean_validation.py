"""Is the error on suspect data that on trusted data? How many flips are seen?

Networks train on suspect data, of which 200 examples are held out; Fisher's
exact test compares their error with that on 200 trusted ones.
"""

from typing import NamedTuple

import jax
import numpy as np

from experiments.poisons import base
from keyjax.attacks.game import Examples
from keyjax.attacks.poisoning import label_flips
from keyjax.defenses.poisoning import clean_validation
from keyjax.defenses.poisoning.clean_validation import Counts

TITLE = "Validation on clean data"
SENTENCE = (
  "Data are suspicious if a model's error on a held-out part of them is not "
  "its error on data that are known to be clean."
)
DATASETS = ("digits", "mnist")
AXIS = "share of labels flipped"

_SHARES = (0.0, 0.05, 0.1, 0.2, 0.3)
_PROTOTYPE = ("0.89", "0.086", "0.0065", "8.9e-8", "2e-10")
_HELD = 200
_DRAWS = 8  # Of the flips and of the held-out part, for each share.
_LEVEL = 0.01


class _Draw(NamedTuple):
  """Suspect data, trained on and held out, and rows of trusted images."""

  train: Examples
  held: Examples
  trusted: np.ndarray


def run(lab: base.Lab) -> list[base.Figure]:
  """Return p-values, how often flips are seen, and how often they would be."""
  rngs = jax.random.split(lab.rng, (len(_SHARES), _DRAWS))
  draws = [
    [_draw(lab, share, rng) for rng in own]
    for share, own in zip(_SHARES, rngs, strict=True)
  ]
  flat = [draw for own in draws for draw in own]
  networks = base.train(lab, [x.train for x in flat])
  on_held = networks.labels(np.concatenate([x.held.image for x in flat]))
  on_test = networks.labels(lab.test.image) != lab.test.label
  size = len(flat[0].held.label)
  figures = []
  for i, share in enumerate(_SHARES):
    found, errors = [], []
    for j in range(i * _DRAWS, (i + 1) * _DRAWS):
      own = on_held[j, j * size : (j + 1) * size]
      wrong = int((own != flat[j].held.label).sum())
      missed = on_test[j, flat[j].trusted]
      pair = Counts(wrong, size), Counts(int(missed.sum()), len(missed))
      found.append(clean_validation.compare(*pair, _LEVEL))
      errors.append([wrong / size, missed.mean()])
    figures += _figures(share, found, np.mean(errors, 0), size, lab)
  return figures


def _draw(lab: base.Lab, share: float, rng: jax.Array) -> _Draw:
  images, labels = lab.train
  flips, order, choice = jax.random.split(rng, 3)
  found = label_flips.at_random(
    labels, share, lab.dataset.num_classes, rng=flips
  )
  rows = np.asarray(jax.random.permutation(order, len(labels)))
  held, rest = rows[:_HELD], rows[_HELD:]
  return _Draw(
    Examples(images[rest], found.label[rest]),
    Examples(images[held], found.label[held]),
    np.asarray(jax.random.permutation(choice, len(lab.test.label)))[:_HELD],
  )


def _figures(
  share: float,
  found: list[clean_validation.Found],
  errors: np.ndarray,
  size: int,
  lab: base.Lab,
) -> list[base.Figure]:
  title = f"{share:.0%} of labels flipped"
  before = dict(zip(_SHARES, _PROTOTYPE, strict=True))[share]
  target = f"{before} (prototype)" if lab.dataset.name == "digits" else ""
  median = np.median([x.pvalue for x in found])
  on_held, on_trusted = errors.tolist()
  power = clean_validation.power(
    on_held, on_trusted, size, min(_HELD, len(lab.test.label)), _LEVEL
  )
  seen = [x.suspicious for x in found]
  return [
    base.number(f"{title}: median p", median, len(found), target),
    base.share(f"{title}: found, level 0.01", seen, "", "found", share),
    base.number(
      f"{title}: power, from the mean errors",
      power,
      len(found),
      "",
      "exact power",
      share,
    ),
  ]
