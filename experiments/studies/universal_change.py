"""One change for all images, made on training images, judged on test images.

Networks differ by more than 10 points, with DeepFool's steps by more than 30.
"""

import jax
import jax.numpy as jnp

from experiments.studies import base
from keyjax.attacks import evasion

TITLE = "One change for all images"
SENTENCE = (
  "A single perturbation fools a network on most images, and other networks "
  "too."
)
DATASETS = ("digits", "mnist")

_IMAGES = 500
_MADE_ON = 1000
_EPSILONS = {"digits": (0.1, 0.2, 0.3), "mnist": (0.1, 0.2)}
_SGD = {"digits": ("9.6 %", "38.0 %", "80.2 %"), "mnist": ("50.1 %", "88.9 %")}
_OTHER = {"digits": ("", "", ""), "mnist": ("37.6 %", "82.5 %")}
_RANDOM = {"digits": ("", "", ""), "mnist": ("2.5 %", "18.6 %")}
_PUBLISHED_EPSILON = 0.2
_PUBLISHED_ON = 100  # Images one after the other: as many as take seconds.


def run(lab: base.Lab) -> list[base.Figure]:
  """Return shares of test images whose predicted class a change changes."""
  net = base.standard(lab)
  other = base.standard(lab._replace(seed=lab.seed + 1))
  x, _ = base.sample(lab, _IMAGES)
  made_on = jnp.asarray(lab.train.image[:_MADE_ON])
  labels = jnp.asarray(lab.train.label[:_MADE_ON])
  random = jax.random.rademacher(lab.rng, x.shape[1:], x.dtype)
  figures = []

  def add(title: str, fn: base.LogitsFn, change: jax.Array, goal: str) -> None:
    moved = fn(jnp.clip(x + change[None], 0, 1)).argmax(-1)
    figures.append(base.share(title, moved != fn(x).argmax(-1), goal))

  name = lab.dataset.name
  goals = zip(
    _EPSILONS[name], _SGD[name], _OTHER[name], _RANDOM[name], strict=True
  )
  for epsilon, sgd, transferred, control in goals:
    title = f"epsilon {epsilon}: fooled"
    found = evasion.universal_sgd(
      net.logits_fn, made_on, labels, epsilon=epsilon, rng=lab.rng
    )
    change = found.perturbation
    add(f"gradient ascent, {title}", net.logits_fn, change, sgd)
    add(
      f"the same, a second network, {title}",
      other.logits_fn,
      change,
      transferred,
    )
    add(f"random signs, {title}", net.logits_fn, epsilon * random, control)
  found = evasion.universal_deepfool(
    net.logits_fn,
    made_on[:_PUBLISHED_ON],
    epsilon=_PUBLISHED_EPSILON,
    rng=lab.rng,
  )
  title = (
    f"DeepFool's steps, as published, epsilon {_PUBLISHED_EPSILON}: fooled"
  )
  goal = "15 %" if name == "digits" else ""
  add(title, net.logits_fn, found.perturbation, goal)
  return figures
