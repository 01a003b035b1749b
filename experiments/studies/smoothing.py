"""Randomised smoothing: the share of images with a proof, by its radius."""

import numpy as np

from experiments.studies import base
from keyjax import defenses

TITLE = "Randomised smoothing"
SENTENCE = (
  "The most frequent class under noise is proved not to change within a radius "
  "in l2: a defence that no attack can break, as far as it goes."
)
DATASETS = ("digits",)

_IMAGES = 200
_SAMPLES = 2000
_RADII = (0.0, 0.25, 0.5, 0.75, 1.0)
_TARGETS = {
  0.25: ("98.0 %", "91.5 %", "55.0 %", "0 %", "0 %"),
  0.5: ("90.0 %", "73.5 %", "39.0 %", "8.5 %", "0 %"),
}


def run(lab: base.Lab) -> list[base.Figure]:
  """Return certified accuracies of networks trained under two noises."""
  x, y = base.sample(lab, _IMAGES)
  figures = []
  for sigma, targets in _TARGETS.items():
    net = base.standard(lab, defense={"name": "noise", "sigma": sigma})
    found = defenses.certify(
      net.logits_fn, x, sigma=sigma, samples=_SAMPLES, rng=lab.rng
    )
    right = found.label == np.asarray(y)
    for radius, target in zip(_RADII, targets, strict=True):
      title = f"noise {sigma}, radius {radius}: certified accuracy"
      figures.append(
        base.share(title, right & (found.radius >= radius), target)
      )
  return figures
