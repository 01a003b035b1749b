"""Who was in the training data of a network that computes an XOR.

Inputs are 16 random bits, labels the XOR of two of them. Networks learn it from
300 examples so well that new inputs are right, and are then asked who was among
the 300: by the label alone, which tells nothing where everything is right, by
the loss, and by LiRA with the other networks as shadow models. Controls are
members that are drawn again, of whom a network cannot tell; labels that are
random, which have to be learnt by heart; and a label that is one bit. Under a
secret mask, a key of the inputs, each input is XORed with the same 16 bits.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from experiments.data.sets import bits
from experiments.studies import base
from keyjax.attacks import fit, intervals
from keyjax.attacks.game import Examples
from keyjax.attacks.privacy import (
  baselines,
  lira,
  roc,
  shadows,
  signals,
  stacked,
)

TITLE = "The XOR of features"
SENTENCE = (
  "Membership is told by overfitting: a network that computes the XOR of "
  "features generalises perfectly, and tells nothing of its training data."
)
DATASETS = ("bits",)

_BYTES = 2  # Of an input: 16 bits.
_HIDDEN = (256,)
_RECIPE = fit.Recipe(learning_rate=3e-3, batch_size=64)

Array = np.ndarray


class Size(NamedTuple):
  """How much is trained.

  Attributes:
    models: Networks, each judged by its loss, the others its shadow models.
    steps: Steps of training.
    judged: Networks that LiRA judges.
  """

  models: int = 65
  steps: int = 600
  judged: int = 8


class Case(NamedTuple):
  """A function to learn.

  Attributes:
    labels: Function from bits, int32[n, 16], and a generator to int32[n].
    pool: Examples, at most, half of which each network learns from.
    masked: Whether inputs are XORed with a secret mask.
    known: What a prototype had for the AUC by the loss; empty if nothing.
    accuracy: What it had for the accuracy on new inputs.
  """

  labels: Callable[[Array, np.random.Generator], Array]
  pool: int = 600
  masked: bool = False
  known: str = ""
  accuracy: str = ""


def _xor(bits_of: Array, rng: np.random.Generator) -> Array:
  return bits_of[:, 0] ^ bits_of[:, 1]


def _one_bit(bits_of: Array, rng: np.random.Generator) -> Array:
  return bits_of[:, 0]


def _random(bits_of: Array, rng: np.random.Generator) -> Array:
  return rng.integers(0, 2, len(bits_of), np.int32)


CASES = {
  "XOR of two bits": Case(
    _xor, known="0.716 (prototype)", accuracy="99.9 % (prototype)"
  ),
  "XOR of two bits, 2,000 examples": Case(_xor, pool=2000),
  "XOR of two bits, under a mask": Case(_xor, masked=True),
  "one bit": Case(_one_bit, known="0.606 (prototype)"),
  "random labels": Case(_random, known="0.785 (prototype)"),
}


def run(lab: base.Lab) -> list[base.Figure]:
  """Return what networks know, and what they tell of who taught them."""
  return [f for name in CASES for f in measured(lab, name, CASES[name])]


def measured(
  lab: base.Lab, name: str, case: Case, size: Size | None = None
) -> list[base.Figure]:
  """Return the figures of one function.

  Args:
    lab: Blocks of random bits, and the seed.
    name: What figures call the function.
    case: The function.
    size: How much is trained; by default as the study does.
  """
  size = size or Size()
  rng = np.random.default_rng([lab.seed, list(CASES).index(name)])
  pool, new = _examples(lab, case, rng)
  model = base.models.create("mlp", 2, (0.5,), (0.5,), hidden=_HIDDEN)
  even = size.models + size.models % 2
  found = shadows.train(
    model.apply,
    lambda key: model.init(key, pool.image[:1]),
    pool,
    shadows.split(even, len(pool.label), lab.seed)[: size.models],
    _RECIPE,
    lab.seed,
    steps=size.steps,
    chunk=size.models,
    logits=True,
  )
  assert found.logits is not None
  fresh = stacked.answers(model.apply, found.params, new.image)
  known = (found.logits.argmax(-1) == pool.label)[found.members]
  shares = (fresh.argmax(-1) == new.label).mean(-1)
  learnt = float(known.mean())
  return [
    base.number(f"{name}: members right", learnt, len(pool.label) // 2),
    _accuracy(f"{name}: new inputs right", shares, new, case.accuracy),
    *_told(name, case.known, pool, found, size.judged, rng),
  ]


def _told(
  name: str,
  known: str,
  pool: Examples,
  found: shadows.Shadows,
  judged: int,
  rng: np.random.Generator,
) -> list[base.Figure]:
  """Return the AUC of each attack: means over networks."""
  logits: Any = found.logits
  members = found.members
  losses = [baselines.loss(x, pool.label) for x in logits]
  gaps = [baselines.gap(x, pool.label) for x in logits]
  phi = signals.log_odds(logits, pool.label)
  ratios = [
    lira.scores(
      phi[i], np.delete(phi, i, 0), np.delete(members, i, 0), variance="fixed"
    )
    for i in range(judged)
  ]
  again = rng.permuted(members, axis=1)
  return [
    base.number(f"{name}: {words}, AUC", _area(scores, who), len(who[0]), at)
    for words, scores, who, at in (
      ("the label alone", gaps, members, ""),
      ("loss threshold", losses, members, known),
      ("LiRA, one variance", ratios, members, ""),
      ("control, loss and members drawn again", losses, again, "0.5 by chance"),
    )
  ]


def _examples(
  lab: base.Lab, case: Case, rng: np.random.Generator
) -> tuple[Examples, Examples]:
  """Return a pool and new inputs, float32[n, 2, 8, 1], with labels."""
  given = lab.dataset
  order = rng.permutation(len(given.train_images))[: case.pool]
  mask = rng.integers(0, 256, _BYTES, np.uint8) * np.uint8(case.masked)
  made = []
  for images in (given.train_images[order], given.test_images):
    blocks = bits.to_blocks(images)[:, :_BYTES]
    labels = case.labels(np.unpackbits(blocks, axis=-1).astype(np.int32), rng)
    seen = bits.to_bits(blocks ^ mask).astype(np.float32) / 255
    made.append(Examples(seen, labels))
  return made[0], made[1]


def _accuracy(
  name: str, shares: Array, new: Examples, known: str
) -> base.Figure:
  low, high = intervals.mean_interval(shares)
  return base.Figure(
    name,
    float(shares.mean()),
    low,
    high,
    len(new.label),
    known,
    method="Student's t over networks",
  )


def _area(scores: list[Array], members: Array) -> float:
  """Return the mean AUC of some networks, the first of all."""
  pairs = zip(scores, members, strict=False)
  return float(np.mean([roc.auc(roc.curve(x, who)) for x, who in pairs]))
