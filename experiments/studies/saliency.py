"""Changes of few pixels, towards every other class: JSMA.

The digits have 64 pixels, of which the published share of 14.5 % is 9: more
pixels are allowed there as well.
"""

import jax.numpy as jnp

from experiments.studies import base
from keyjax.attacks import evasion

TITLE = "Few pixels: the saliency map attack (JSMA)"
SENTENCE = (
  "A few pixels that a saliency map chooses turn an image into any class the "
  "attacker wants."
)
DATASETS = ("digits", "mnist")

_IMAGES = 15
_UPSILONS = {"digits": (0.145, 0.25, 0.4), "mnist": (0.145,)}
_SUCCESS = {
  "digits": ("65.4 %", "93.0 %", "99.3 %"),
  "mnist": ("97.1 % published (LeNet); 99.3 % here before",),
}
_CHANGED = {
  "digits": ("9.8 %", "", ""),
  "mnist": ("4.02 % published (LeNet); 2.81 % here before",),
}


def run(lab: base.Lab) -> list[base.Figure]:
  """Return how many targets are reached, and by changes of how many pixels."""
  net = base.standard(lab)
  x, y = base.sample(lab, 4 * _IMAGES)
  right = jnp.flatnonzero(net.logits_fn(x).argmax(-1) == y)[:_IMAGES]
  classes = lab.dataset.num_classes
  # Every image with every other class.
  sources = jnp.repeat(right, classes - 1)
  others = jnp.tile(jnp.arange(1, classes, dtype=y.dtype), len(right))
  targets = (y[sources] + others) % classes
  figures = []
  name = lab.dataset.name
  settings = zip(_UPSILONS[name], _SUCCESS[name], _CHANGED[name], strict=True)
  for upsilon, success, changed in settings:
    attack = base.compiled(evasion.jsma, upsilon=upsilon)
    found = attack(net.logits_fn, x[sources], y[sources], targets=targets)
    share = found.distance[found.success].mean() / x[0].size
    title = f"JSMA, at most {upsilon:.1%} of the pixels"
    figures += [
      base.share(f"{title}: success", found.success, success),
      base.number(
        f"{title}: share changed", share, int(found.success.sum()), changed
      ),
    ]
  return figures
