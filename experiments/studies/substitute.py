"""A substitute for a black box on MNIST, from 2,200 labels."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from jax.tree_util import Partial

from experiments import models
from experiments.studies import base
from experiments.studies.base import Figure, Lab, number, share
from keyjax.attacks.evasion import fgsm
from keyjax.attacks.game import Examples
from keyjax.attacks.intervals import clopper_pearson
from keyjax.attacks.substitute import Oracle, Substitute, substitute
from keyjax.attacks.transfer_matrix import SIGNS, Share, transfer_matrix

TITLE = "A substitute for a black box"
SENTENCE = (
  "An attacker who only sees the labels of a network trains a substitute on "
  "inputs of their own making; what fools it fools the network."
)
DATASETS = ("mnist",)

_NAME = "substitute"
_JUDGED = 1000  # Test images at most that are changed.


class Plan(NamedTuple):
  """How many labels the attacker asks for; see `substitute`."""

  seeds: int
  rounds: int
  reservoir_after: int
  reservoir: int = 400


# 150 * 2^2 + 400 * 4 = 2,200 labels.
_PLAN = Plan(seeds=150, rounds=6, reservoir_after=2)
_PUBLISHED = {
  0.2: "60.6 % (prototype)",
  0.25: "75.5 % (prototype)",
  0.3: "above 80 %: 85.9 % (prototype), 84.24 % (published, 6,400 queries)",
}


def run(lab: Lab) -> list[Figure]:
  """Return agreement and errors."""
  owner = base.standard(lab)
  box = labels_of(owner.logits_fn)
  right = box(lab.test.image) == lab.test.label
  outcome = attack(lab, box, _PLAN, tuple(_PUBLISHED))
  epsilon = max(_PUBLISHED)
  few = attack(lab, box, _PLAN._replace(rounds=0), (epsilon,))
  return [
    share("network: accuracy", right),
    *outcome.figures("network", _PUBLISHED, "80.2 % (prototype)"),
    Figure(
      f"network, epsilon {epsilon}: error, substitute of the first images",
      *few.errors[epsilon][0],
      few.judged,
    ),
  ]


class Outcome(NamedTuple):
  """What an attack on a black box came to.

  Attributes:
    substitute: The trained substitute.
    judged: Number of test images.
    errors: For each epsilon, the box's error on images crafted with the
      substitute, and under random signs.
  """

  substitute: Substitute
  judged: int
  errors: Mapping[float, tuple[Share, Share]]

  def figures(
    self,
    box: str,
    targets: Mapping[float, str],
    agreement: str = "",
  ) -> list[Figure]:
    """Return the outcome as figures.

    Args:
      box: Name of the black box.
      targets: Published error at each epsilon, in words.
      agreement: The same for the last agreement.
    """
    n, found = self.judged, self.substitute
    figures = [number(f"{box}: label queries", found.queries)]
    first, last = found.agreement[0], found.agreement[-1]
    for when, value, target in (
      ("on the first images alone", first, ""),
      ("at the end", last, agreement),
    ):
      low, high = clopper_pearson(round(value * n), n)
      name = f"{box}: agreement with the substitute, {when}"
      figures.append(Figure(name, float(value), low, high, n, target))
    for epsilon, (crafted, signs) in self.errors.items():
      name = f"{box}, epsilon {epsilon}"
      target = targets.get(epsilon, "")
      figures += [
        Figure(f"{name}: error, FGSM on the substitute", *crafted, n, target),
        Figure(f"{name}: error, random signs", *signs, n),
      ]
    return figures


def attack(
  lab: Lab, box: Oracle, plan: Plan, epsilons: Sequence[float]
) -> Outcome:
  """Train a substitute on a black box's labels, and try FGSM on it.

  The attacker starts from a few test images, half of them at most; the others
  are changed.

  Args:
    lab: Data and seed.
    box: Function from images to labels.
    plan: Queries.
    epsilons: Sizes of the change.
  """
  order = np.random.default_rng([lab.seed, 1]).permutation(len(lab.test.label))
  image, label = (x[order] for x in lab.test)
  seeds = min(plan.seeds, len(label) // 2)
  cut = slice(seeds, seeds + _JUDGED)
  judged = Examples(image[cut], label[cut])
  channels = image.shape[-1]
  student = _student(lab.dataset.num_classes, channels)
  start = student.init(jax.random.fold_in(lab.rng, 1), image[:1])
  found = substitute(
    box,
    student.apply,
    start,
    image[:seeds],
    rounds=plan.rounds,
    reservoir=plan.reservoir,
    reservoir_after=plan.reservoir_after,
    held_out=Examples(judged.image, np.asarray(box(judged.image))),
    seed=lab.seed,
  )
  sources = {_NAME: Partial(student.apply, found.params)}
  errors = {
    epsilon: transfer_matrix(
      fgsm,
      sources,
      *judged,
      epsilon=epsilon,
      oracles={"box": box},
      rng=lab.rng,
    )
    for epsilon in epsilons
  }
  pairs = {e: (x[_NAME]["box"], x[SIGNS]["box"]) for e, x in errors.items()}
  return Outcome(found, len(judged.label), pairs)


def labels_of(logits_fn: Any) -> Oracle:
  """Return a network as a black box: its labels, on the host."""
  return lambda images: np.asarray(logits_fn(images).argmax(-1))


# One object, so that training compiles once for all black boxes.
@functools.lru_cache(maxsize=4)
def _student(classes: int, channels: int) -> nn.Module:
  mean, std = (0.0,) * channels, (1.0,) * channels
  return models.create("mlp", classes, mean, std, hidden=(200, 200))
