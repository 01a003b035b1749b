"""Many steps, random starts, an ensemble, and what an attacker may want.

The goals are the survey's: less confidence, any wrong class, and a given class
from a given image. The fourth, a given class from nothing, is fooling.
"""

import jax
import jax.numpy as jnp

from experiments.studies import base
from keyjax.attacks import evasion

TITLE = "Many steps: BIM, PGD and AutoAttack"
SENTENCE = (
  "Repeated small steps find what one step misses; an attacker may want less "
  "confidence, any error, or an error of their choice."
)
DATASETS = ("digits", "mnist")

_IMAGES = 200
_EPSILONS = {"digits": (0.05, 0.1, 0.15, 0.2), "mnist": (0.05, 0.1, 0.2)}
_PGD = {
  "digits": {0.05: "83.7 %", 0.1: "38.3 %", 0.15: "4.4 %", 0.2: "0.0 %"},
  "mnist": {0.1: "3.3 %"},
}
_GOAL_EPSILONS = (0.1, 0.2, 0.3)
_GOAL = {"digits": ("12.6 %", "77.6 %", "99.6 %"), "mnist": ("", "", "")}
_STRONGEST = {"digits": "31.0 %, by an ensemble without FAB", "mnist": ""}


def run(lab: base.Lab) -> list[base.Figure]:
  """Return accuracies under each attack, and how often goals are reached."""
  net = base.standard(lab)
  x, y = base.sample(lab, _IMAGES)
  return [
    *_accuracies(lab, net, x, y),
    *_goals(lab, net, x, y),
    _ensemble(lab, net, x, y),
  ]


def _accuracies(
  lab: base.Lab, net: base.Network, x: jax.Array, y: jax.Array
) -> list[base.Figure]:
  bim = base.compiled(evasion.bim, steps=10)
  pgd = base.compiled(evasion.pgd, steps=40, restarts=2)
  targets = _PGD[lab.dataset.name]
  figures = []
  for epsilon in _EPSILONS[lab.dataset.name]:
    name = f"epsilon {epsilon}: accuracy"
    few = bim(net.logits_fn, x, y, epsilon=epsilon)
    many = pgd(net.logits_fn, x, y, epsilon=epsilon, rng=lab.rng)
    target = targets.get(epsilon, "")
    figures += [
      base.share(f"BIM, 10 steps, {name}", ~few.success),
      base.share(f"PGD, 40 steps, 2 starts, {name}", ~many.success, target),
    ]
  return figures


def _goals(
  lab: base.Lab, net: base.Network, x: jax.Array, y: jax.Array
) -> list[base.Figure]:
  pgd = base.compiled(evasion.pgd, steps=40)
  changed = pgd(net.logits_fn, x, y, epsilon=0.05, rng=lab.rng).inputs
  digits = lab.dataset.name == "digits"

  def confidence(x: jax.Array) -> jax.Array:
    chances = jax.nn.softmax(net.logits_fn(x))
    return jnp.take_along_axis(chances, y[:, None], 1).mean()

  name = "probability of the right class"
  figures = [
    base.number(name, confidence(x), len(x), "0.920" if digits else ""),
    base.number(
      f"{name}, PGD, epsilon 0.05",
      confidence(changed),
      len(x),
      "0.755" if digits else "",
    ),
  ]
  shift = jax.random.randint(lab.rng, y.shape, 1, lab.dataset.num_classes)
  wanted = (y + shift) % lab.dataset.num_classes
  goals = zip(_GOAL_EPSILONS, _GOAL[lab.dataset.name], strict=True)
  for epsilon, target in goals:
    found = pgd(
      net.logits_fn, x, y, epsilon=epsilon, targets=wanted, rng=lab.rng
    )
    title = f"a chosen class, PGD, epsilon {epsilon}: success"
    figures.append(base.share(title, found.success, target))
  return figures


def _ensemble(
  lab: base.Lab, net: base.Network, x: jax.Array, y: jax.Array
) -> base.Figure:
  found = evasion.autoattack(
    net.logits_fn, x, y, epsilon=0.1, n_queries=1000, rng=lab.rng
  )
  title = "AutoAttack, 1,000 queries, epsilon 0.1: accuracy"
  return base.share(title, found.robust, _STRONGEST[lab.dataset.name])
