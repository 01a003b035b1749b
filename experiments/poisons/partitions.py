"""A vote of networks on parts of the data, with certificates, under attack.

The attack adds one example to each part: the test image that it is about,
almost, with the label of the class that came second. The certificate bounds it
and every other attack.
"""

import jax.numpy as jnp
import numpy as np

from experiments.poisons import base
from keyjax.attacks import fit
from keyjax.attacks.game import Examples
from keyjax.defenses.poisoning import partitions
from keyjax.scheme import PyTree

TITLE = "Deep partition aggregation"
SENTENCE = (
  "A vote of networks, each on its part of the data, is proved to stay as it "
  "is whatever an attacker who changes a few examples writes in them."
)
DATASETS = ("digits", "mnist")
AXIS = "changed training examples"

_PARTS = (10, 25, 50)
_RADII = (1, 3, 5, 10)
_ACCURACY = {10: 94.6, 25: 94.1, 50: 93.3}
_CERTIFIED = {
  10: (91.9, 82.4, 8.9, 0.0),
  25: (92.2, 87.8, 80.9, 46.9),
  50: (91.5, 88.1, 85.2, 68.7),
}
_RECIPE = fit.Recipe("adam", 5e-3, batch_size=32)
_STEPS = 200
_ATTACKED, _VICTIMS = 10, 5  # Parts of the vote, and test images.
_CHANGE = 1e-3  # Of pixels, so that copies are in different parts.


def run(lab: base.Lab) -> list[base.Figure]:
  """Return accuracies, certified shares, and what an attack gets."""
  figures = []
  for k in _PARTS:
    counts = _votes(lab, _train(lab, lab.train, k), lab.test.image)
    figures += _certified(lab, k, counts)
  return [*figures, *_attack(lab)]


def _train(lab: base.Lab, data: Examples, k: int) -> PyTree:
  model = base.network(lab)
  like = jnp.zeros((1, *data.image.shape[1:]))
  return partitions.train(
    model.apply,
    lambda rng: model.init(rng, like),
    data,
    k,
    lab.dataset.num_classes,
    _RECIPE,
    lab.seed,
    steps=_STEPS,
  )


def _votes(lab: base.Lab, params: PyTree, images: np.ndarray) -> np.ndarray:
  return partitions.votes(base.network(lab).apply, params, images)


def _certified(lab: base.Lab, k: int, counts: np.ndarray) -> list[base.Figure]:
  found = partitions.certify(counts)
  right = found.label == lab.test.label
  digits = lab.dataset.name == "digits"
  curve = f"{k} parts: certified accuracy"

  def target(value: float) -> str:
    return f"{value} % (prototype)" if digits else ""

  figures = [
    base.share(f"{k} parts: accuracy", right, target(_ACCURACY[k]), curve, 0.0)
  ]
  for radius, value in zip(_RADII, _CERTIFIED[k], strict=True):
    hits = right & (found.radius >= radius)
    name = f"{k} parts, {radius} changed: certified accuracy"
    figures.append(base.share(name, hits, target(value), curve, float(radius)))
  return figures


def _attack(lab: base.Lab) -> list[base.Figure]:
  """Return what insertions within the radius, and many more, change."""
  k = _ATTACKED
  counts = _votes(lab, _train(lab, lab.train, k), lab.test.image)
  found = partitions.certify(counts)
  victims = np.flatnonzero(
    (found.label == lab.test.label) & (found.radius > 0)
  )[:_VICTIMS]
  within: list[bool] = []
  beyond: list[bool] = []
  for i in victims:
    rival = np.argsort(counts[i], kind="stable")[-2]
    for copies, parts, hits in (
      (1, range(int(found.radius[i])), within),
      (_RECIPE.batch_size, range(k), beyond),
    ):
      poison = _copies(lab.test.image[i], k, parts, copies)
      data = Examples(
        np.concatenate([lab.train.image, poison]),
        np.append(lab.train.label, np.full(len(poison), rival)),
      )
      again = _votes(lab, _train(lab, data, k), lab.test.image[i : i + 1])
      hits.append(partitions.certify(again).label[0] != found.label[i])
  title = f"{k} parts, copies of an image with the second class"
  return [
    base.share(f"{title}, within its radius: changed", within, "0 (proved)"),
    base.share(f"{title}, {_RECIPE.batch_size} in each part: changed", beyond),
  ]


def _copies(image: np.ndarray, k: int, parts: range, each: int) -> np.ndarray:
  """Return near copies of an image, as many as asked for in each part."""
  noise = np.random.default_rng(0).uniform(
    0, _CHANGE, (40 * k * each, *image.shape)
  )
  made = np.clip(image + noise, 0, 1).astype(np.float32)
  place = partitions.assign(made, k)
  rows = [np.flatnonzero(place == part)[:each] for part in parts]
  return made[np.concatenate(rows)]
