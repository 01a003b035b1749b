"""Distillation, attacked as published, and on logits divided by T.

At temperature 1 the softmax of a distilled network is saturated, so that
gradients through it are 0 in float32. The division is all that the second
attack changes: networks and images are the same.
"""

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from experiments.studies import base
from keyjax.attacks import evasion

TITLE = "Defensive distillation"
SENTENCE = (
  "A network that learned another one's softened predictions is more robust "
  "against adversarial inputs."
)
DATASETS = ("digits", "mnist")

_IMAGES = 200
_SOURCES = 15
_TEMPERATURE = 100.0
_EPSILON = 0.1
_UPSILON = {"digits": 0.4, "mnist": 0.145}
_TARGETS = {
  "digits": {
    "zero": "95.2 % to 96.3 %",
    "FGSM": "95.4 %",
    "PGD": "93.7 % to 95.0 %",
    "PGD / T": "17.4 % to 23.3 %",
    "margin": "20.4 %",
    "transfer": "46.1 %",
    "JSMA": "0 %",
    "JSMA / T": "over 90 %",
  },
  "mnist": {
    "clean": "94.9 %",
    "PGD": "91.5 %",
    "PGD / T": "0.7 %",
    "JSMA": "0.0 %; 0.45 % published",
    "JSMA / T": "98.6 %",
    "plain JSMA": "99.3 %; 95.9 % published",
  },
}


def run(lab: base.Lab) -> list[base.Figure]:
  """Return what the same attacks reach with and without the division."""
  plain = base.standard(lab)
  distilled = base.standard(
    lab, defense={"name": "distilled", "temperature": _TEMPERATURE}
  )
  x, y = base.sample(lab, _IMAGES)
  right = distilled.logits_fn(x).argmax(-1) == y
  targets = _TARGETS[lab.dataset.name]
  return [
    base.share("clean: accuracy", right, targets.get("clean", "")),
    _zero_gradients(distilled.logits_fn, x, y, targets.get("zero", "")),
    *_small_changes(lab, plain, distilled, x, y),
    *_few_pixels(lab, plain, distilled, x, y),
  ]


def _softened(logits_fn: base.LogitsFn) -> Partial:
  """Return logits / T: what the network was trained on."""
  return Partial(_divided, logits_fn)


def _divided(logits_fn: base.LogitsFn, x: jax.Array) -> jax.Array:
  return logits_fn(x) / _TEMPERATURE


def _zero_gradients(
  logits_fn: base.LogitsFn, x: jax.Array, y: jax.Array, target: str
) -> base.Figure:
  def loss(logits: jax.Array) -> jax.Array:
    return evasion.losses.cross_entropy(logits, y)

  _, _, slopes = evasion.problem.value_and_gradient(logits_fn, loss, x)
  zero = evasion.problem.sizes(slopes, "linf") == 0
  return base.share("gradients that are exactly 0", zero, target)


def _small_changes(
  lab: base.Lab,
  plain: base.Network,
  distilled: base.Network,
  x: jax.Array,
  y: jax.Array,
) -> list[base.Figure]:
  fn, soft = distilled.logits_fn, _softened(distilled.logits_fn)
  fgsm = base.compiled(evasion.fgsm)
  pgd = base.compiled(evasion.pgd, steps=40, restarts=2)
  on_margin = base.compiled(evasion.pgd, steps=40, restarts=2, loss="margin")
  given = {"epsilon": _EPSILON, "rng": lab.rng}
  other = pgd(plain.logits_fn, x, y, **given)
  found = {
    "FGSM": fgsm(fn, x, y, epsilon=_EPSILON).success,
    "PGD": pgd(fn, x, y, **given).success,
    "PGD / T": pgd(soft, x, y, **given).success,
    "margin": on_margin(fn, x, y, **given).success,
    "transfer": fn(other.inputs).argmax(-1) != y,
    "plain PGD": other.success,
  }
  titles = {
    "FGSM": "FGSM",
    "PGD": "PGD",
    "PGD / T": "PGD on logits / T",
    "margin": "PGD on the margin of logits",
    "transfer": "PGD on a network without distillation",
    "plain PGD": "without distillation, PGD",
  }
  targets = _TARGETS[lab.dataset.name]
  return [
    base.share(
      f"{titles[key]}, epsilon {_EPSILON}: accuracy", ~hit, targets.get(key, "")
    )
    for key, hit in found.items()
  ]


def _few_pixels(
  lab: base.Lab,
  plain: base.Network,
  distilled: base.Network,
  x: jax.Array,
  y: jax.Array,
) -> list[base.Figure]:
  fn, classes = distilled.logits_fn, lab.dataset.num_classes
  both = (fn(x).argmax(-1) == y) & (plain.logits_fn(x).argmax(-1) == y)
  # Every image with every other class.
  sources = jnp.repeat(jnp.flatnonzero(both)[:_SOURCES], classes - 1)
  others = jnp.arange(len(sources), dtype=y.dtype) % (classes - 1) + 1
  goals = (y[sources] + others) % classes
  attack = base.compiled(
    evasion.jsma, jacobian="softmax", upsilon=_UPSILON[lab.dataset.name]
  )
  targets = _TARGETS[lab.dataset.name]
  figures = []
  for key, title, attacked in (
    ("JSMA", "JSMA on softmax", fn),
    ("JSMA / T", "JSMA on softmax of logits / T", _softened(fn)),
    ("plain JSMA", "without distillation, JSMA on softmax", plain.logits_fn),
  ):
    found = attack(attacked, x[sources], y[sources], targets=goals)
    target = targets.get(key, "")
    figures.append(base.share(f"{title}: success", found.success, target))
  return figures
