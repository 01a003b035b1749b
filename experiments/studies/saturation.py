"""Saturated networks: a penalty on hidden units that are not at 0 or 1.

The learning rate is constant, so that it is still high when the penalty has
grown: with one that falls to 0, 79 % of the units saturate, not 89 %. The
target's network had as many, and weights of the same kurtosis; yet accuracy
under PGD gains 8 points here and 20 there. Larger weights and rates gain little
more: 35 % (weight 32) and 37 % (rate 0.005), seed 0.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import scipy.stats

from experiments.studies import base
from keyjax.attacks import evasion

TITLE = "Saturated networks"
SENTENCE = (
  "Networks whose units saturate, as those of brains do, are hardly moved by "
  "small changes."
)
DATASETS = ("digits",)

_IMAGES = 200
_EPSILON = 0.1
_EDGE = 0.05  # A unit this near to 0 or 1 is saturated.
_WEIGHTS = (0, 4, 16)  # Of the sum, over layers, of the mean over units.
_TARGETS = {
  0: ("97.6 %", "42 %", "29 %", "23 %"),
  4: ("97.4 %", "65 %", "45 %", ""),
  16: ("96.9 %", "69 %", "49 %", "41 %"),
}


def run(lab: base.Lab) -> list[base.Figure]:
  """Return accuracies, and how saturated each network is."""
  x, y = base.sample(lab, _IMAGES)
  fgsm = base.compiled(evasion.fgsm)
  pgd = base.compiled(evasion.pgd, steps=40, restarts=2)
  figures = []
  for weight in _WEIGHTS:
    net = _network(lab, weight)
    fn = net.logits_fn
    ensemble = evasion.autoattack(
      fn, x, y, epsilon=_EPSILON, n_queries=1000, rng=lab.rng
    )
    right = {
      "clean": fn(x).argmax(-1) == y,
      "FGSM": ~fgsm(fn, x, y, epsilon=_EPSILON).success,
      "PGD": ~pgd(fn, x, y, epsilon=_EPSILON, rng=lab.rng).success,
      "AutoAttack, 1,000 queries": ensemble.robust,
    }
    named = zip(right.items(), _TARGETS[weight], strict=True)
    figures += [
      base.share(f"weight {weight}, {name}: accuracy", hits, target)
      for (name, hits), target in named
    ]
    figures += _signs(f"weight {weight}", net, x)
  return figures


def _network(lab: base.Lab, weight: float) -> base.Network:
  options: dict[str, Any] = {"hidden": (128, 128), "activation": "sigmoid"}
  if weight:  # `saturated` takes the mean over the units of both layers.
    options["defense"] = {"name": "saturated", "weight": 2.0 * weight}
  recipe = {"batch_size": 64, "schedule": "constant"}
  return base.standard(lab, train_config=recipe, **options)


def _signs(title: str, net: base.Network, x: Any) -> list[base.Figure]:
  """Return the share of saturated units, and how heavy the weights' tails are.

  The kurtosis of a Gaussian is 0.
  """
  _, state = net.model.apply(
    net.variables, x, capture_intermediates=True, mutable=["intermediates"]
  )
  layers = {k: v for k, v in state["intermediates"].items() if "dense" in k}
  units = [nn.sigmoid(v["__call__"][0]).reshape(-1) for v in layers.values()]
  values = jnp.concatenate(units)
  saturated = jnp.minimum(values, 1 - values) < _EDGE
  weights = [
    np.asarray(v["kernel"]).reshape(-1)
    for k, v in net.variables["params"].items()
    if k in layers
  ]
  kurtosis = scipy.stats.kurtosis(np.concatenate(weights))
  goals = {"weight 0": ("1 % to 17 %", "-0.25"), "weight 16": ("", "1.77")}
  share, tails = goals.get(title, ("", ""))
  n = saturated.size
  return [
    base.number(f"{title}: saturated units", saturated.mean(), n, share),
    base.number(f"{title}: kurtosis of weights", kurtosis, 1, tails),
  ]
