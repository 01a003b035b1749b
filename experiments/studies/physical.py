"""Attacks through a camera: photos of prints, and accessories that are worn.

The photos are simulated. Changed images are photographed once each, and a
destruction rate is the share of those that fooled the network and no longer do
so on the photo. Accessories are made for some photos of a class and judged on
others as well.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from experiments.studies import base
from keyjax.attacks import evasion, physical
from keyjax.attacks.evasion.problem import LogitsFn, misclassified
from keyjax.attacks.evasion.wrappers import RandomTransform

TITLE = "Through a camera: photos of prints, and accessories"
SENTENCE = (
  "Adversarial images still fool a network after they are printed and "
  "photographed, and so does a pattern on a pair of glasses."
)
DATASETS = ("digits", "mnist")

_IMAGES = 300
_EPSILONS = (0.15, 0.3)
_DRAWS = 8  # Of the expectation over photos.
# The parts of a photo, and the whole without what the target's photo lacked.
_ALL = physical.HANDHELD
_BASIC = _ALL._replace(perspective=0.0, shade=0.0, quality=None)
_NONE = physical.Photo()
_CARELESS = physical.Photo(  # Every part about twice as strong.
  perspective=0.06,
  rotation=12.0,
  shift=0.6,
  blur=0.8,
  gain=(0.7, 1.2),
  offset=0.1,
  shade=0.2,
  noise=0.06,
  levels=256,
  quality=50,
)
_PARTS = {
  "perspective, rotation and shift": _NONE._replace(
    perspective=_ALL.perspective, rotation=_ALL.rotation, shift=_ALL.shift
  ),
  "blur": _NONE._replace(blur=_ALL.blur),
  "light": _NONE._replace(gain=_ALL.gain, offset=_ALL.offset, shade=_ALL.shade),
  "noise": _NONE._replace(noise=_ALL.noise),
  "JPEG": _NONE._replace(quality=_ALL.quality),
}
_PHOTOS = 12  # Of each class, for an accessory; as many others to judge it.
_AHEAD = (1, 4, 7)  # Classes to impersonate, after that of the photos.
_GREYS = jnp.linspace(0.1, 0.9, 5)[:, None]  # Printable.
_TARGETS = {
  "clean": "68.9 %",
  "FGSM, epsilon 0.15": "41.9 %",
  "FGSM, epsilon 0.3": "10.1 %",
  "PGD, epsilon 0.15": "44.6 %",
  "PGD, epsilon 0.3": "9.5 %",
  "band, dodging": "84.0 %",
  "band, impersonation": "77.5 %",
  "band, random": "41.5 %",
}


def run(lab: base.Lab) -> list[base.Figure]:
  """Return destruction rates, and how often accessories succeed."""
  net = base.standard(lab)
  x, y = base.sample(lab, _IMAGES)
  return [
    *_rates(lab, net, x, y),
    *_knowing(lab, net, x, y),
    *_accessories(lab, net),
  ]


def _rates(
  lab: base.Lab, net: base.Network, x: jax.Array, y: jax.Array
) -> list[base.Figure]:
  """Return what a photo does to images changed without regard to it."""
  targets = _TARGETS if lab.dataset.name == "digits" else {}
  photo = _photographer(_BASIC)
  clean = net.logits_fn(photo(lab.rng, x)).argmax(-1) == y
  name = "photos of unchanged images: accuracy"
  figures = [base.share(name, clean, targets.get("clean", ""))]
  attacks = {
    "FGSM": functools.partial(base.compiled(evasion.fgsm), net.logits_fn),
    "PGD": functools.partial(
      base.compiled(evasion.pgd, steps=40, rng=lab.rng), net.logits_fn
    ),
  }
  for attack in attacks:
    for epsilon in _EPSILONS:
      changed = attacks[attack](x, y, epsilon=epsilon).inputs
      name = f"{attack}, epsilon {epsilon}"
      rate = _rate(lab, net.logits_fn, x, changed, y, photo)
      target = targets.get(name, "")
      figures.append(_figure(f"{name}: destruction rate", rate, target))
  changed = attacks["FGSM"](x, y, epsilon=_EPSILONS[0]).inputs
  for part, settings in _PARTS.items():
    name = f"FGSM, epsilon {_EPSILONS[0]}: destruction rate of {part} alone"
    photo = _photographer(settings)
    rate = _rate(lab, net.logits_fn, x, changed, y, photo)
    figures.append(_figure(name, rate))
  return figures


def _knowing(
  lab: base.Lab, net: base.Network, x: jax.Array, y: jax.Array
) -> list[base.Figure]:
  """Return what an attack gains by expecting photos, taken carelessly."""
  photo = _photographer(_CARELESS)
  expected = evasion.expectation(
    net.logits_fn,
    functools.partial(physical.photograph, settings=_CARELESS),
    draws=_DRAWS,
    rng=jax.random.fold_in(lab.rng, 1),
  )

  def error(images: jax.Array) -> jax.Array:
    return misclassified(net.logits_fn(photo(_judge(lab), images)), y)

  figures = [base.share("careless photos of unchanged images: error", error(x))]
  epsilon = _EPSILONS[0]
  # Images whose photos are wrong as they are have to be changed as well.
  attacks = {
    "PGD": functools.partial(
      base.compiled(evasion.pgd, steps=20), net.logits_fn
    ),
    "PGD in expectation over photos": functools.partial(
      base.compiled(evasion.transferable(evasion.pgd), steps=20), expected
    ),
  }
  for title, attack in attacks.items():
    changed = attack(x, y, epsilon=epsilon, rng=lab.rng).inputs
    name = f"careless photos, {title}, epsilon {epsilon}"
    rate = _rate(lab, net.logits_fn, x, changed, y, photo)
    figures += [
      _figure(f"{name}: destruction rate", rate),
      base.share(f"{name}: error", error(changed)),
    ]
  return figures


def _accessories(lab: base.Lab, net: base.Network) -> list[base.Figure]:
  """Return how often one accessory for each class succeeds."""
  made, others, labels = _people(lab, net.logits_fn)
  h, w = made.shape[2:4]
  masks = {"band": _band(h, w), "glasses": physical.glasses(h, w)}
  attacks = {
    goal: _accessories_of(
      net.logits_fn, lab.dataset.num_classes, goal == "impersonation"
    )
    for goal in ("dodging", "impersonation")
  }
  targets = _TARGETS if lab.dataset.name == "digits" else {}
  figures = []
  for title, mask in masks.items():
    name = f"{title}, {100 * mask.mean():.0f} % of the pixels"
    for goal, attack in attacks.items():
      found, elsewhere = attack(made, others, labels, mask, lab.rng)
      target = targets.get(f"{title}, {goal}", "")
      random = targets.get(f"{title}, random", "") if goal == "dodging" else ""
      figures += [
        base.share(f"{name}, {goal}: success", found.success, target),
        base.share(f"{name}, {goal}: success on other photos", elsewhere),
        base.share(f"{name}, {goal}: random fill", found.control, random),
      ]
  return figures


def _accessories_of(
  logits_fn: LogitsFn, classes: int, targeted: bool
) -> Callable[..., tuple[physical.Accessory, jax.Array]]:
  """Return a function that makes and judges accessories.

  One for each class to dodge it; to impersonate, one for each of a few others.
  """

  def one(
    made: jax.Array,
    others: jax.Array,
    label: jax.Array,
    ahead: jax.Array,
    mask: jax.Array,
    rng: jax.Array,
  ) -> tuple[physical.Accessory, jax.Array]:
    labels = jnp.full(len(made), label)
    targets = (labels + ahead) % classes if targeted else None
    found = physical.accessory_attack(
      logits_fn, made, labels, mask, targets=targets, palette=_GREYS, rng=rng
    )
    worn = physical.wear(others, found.pattern, mask)
    return found, misclassified(logits_fn(worn), labels, targets)

  each = jax.vmap(one, in_axes=(0, 0, 0, None, None, None))
  every = jax.vmap(each, in_axes=(None, None, None, 0, None, None))
  ahead = jnp.asarray(_AHEAD if targeted else _AHEAD[:1], jnp.int32)
  return jax.jit(
    lambda made, others, labels, mask, rng: every(
      made, others, labels, ahead, mask, rng
    )
  )


def _people(
  lab: base.Lab, logits_fn: LogitsFn
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Return two sets of photos [classes, n, h, w, c], and the classes.

  All are classified correctly without an accessory. Where a class has fewer
  such images than two sets take, all classes have as few.

  Raises:
    ValueError: If a class has fewer than two.
  """
  x, y = base.sample(lab, 2000)
  right = np.asarray(logits_fn(x).argmax(-1) == y)
  classes = np.arange(lab.dataset.num_classes, dtype=np.int32)
  found = [np.flatnonzero(right & (np.asarray(y) == c)) for c in classes]
  each = min(_PHOTOS, *(len(rows) // 2 for rows in found))
  if not each:
    raise ValueError(
      "physical: a class has fewer than two images that the network classifies "
      "correctly"
    )
  made, others = (
    np.stack([rows[part] for rows in found])
    for part in (slice(each), slice(each, 2 * each))
  )
  return x[made], x[others], jnp.asarray(classes)


def _band(h: int, w: int) -> np.ndarray:
  """Return a mask of a quarter of the rows, in the middle."""
  mask = np.zeros((h, w), bool)
  mask[3 * h // 8 : 5 * h // 8] = True
  return mask


def _photographer(settings: physical.Photo) -> RandomTransform:
  return jax.jit(functools.partial(physical.photograph, settings=settings))


def _judge(lab: base.Lab) -> jax.Array:
  """Return the rng of photos that no attack has seen."""
  return jax.random.fold_in(lab.rng, 2)


def _rate(
  lab: base.Lab,
  logits_fn: LogitsFn,
  x: jax.Array,
  changed: jax.Array,
  y: jax.Array,
  photo: RandomTransform,
) -> physical.Destruction:
  return physical.destruction_rate(logits_fn, x, changed, y, photo, _judge(lab))


def _figure(
  name: str, rate: physical.Destruction, target: str = ""
) -> base.Figure:
  return base.Figure(
    name, rate.rate, rate.low, rate.high, rate.adversarial, target
  )
