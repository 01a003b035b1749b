"""The least change in l2: with gradients, and from predicted classes alone.

Distances are over the images that the network classifies correctly. Random
probes cost HopSkipJump about 30 % of distance here; the target's run lost 18 %.
"""

import jax
import jax.numpy as jnp

from experiments.studies import base
from keyjax.attacks import evasion

TITLE = "Least change: L-BFGS, C&W, DeepFool, HopSkipJump"
SENTENCE = (
  "Optimisation finds wrong inputs that are hardly different; a server that "
  "returns no scores does not prevent it."
)
DATASETS = ("digits",)

_IMAGES = 100
_QUERIES = 2760
_TARGETS = {
  "C&W": ("0.484", "0.500"),
  "HopSkipJump": ("", "0.591, with 2,760 queries"),
}


def run(lab: base.Lab) -> list[base.Figure]:
  """Return shares of success, and the mean and median of the distances."""
  net = base.standard(lab)
  x, y = base.sample(lab, _IMAGES + _IMAGES // 5)
  right = net.logits_fn(x).argmax(-1) == y
  x, y = x[right][:_IMAGES], y[right][:_IMAGES]
  carlini = base.compiled(
    evasion.carlini_wagner,
    steps=200,
    binary_search_steps=6,
    learning_rate=0.05,
    initial_constant=1.0,
  )
  lbfgs = base.compiled(evasion.lbfgs, steps=100, binary_search_steps=6)
  hop = base.compiled(evasion.hop_skip_jump, budget=_QUERIES)

  def classes_only(x: jax.Array) -> jax.Array:
    found = net.logits_fn(x).argmax(-1)
    return 10 * jax.nn.one_hot(found, lab.dataset.num_classes)

  found = {
    "C&W": carlini(net.logits_fn, x, y),
    "L-BFGS": lbfgs(net.logits_fn, x, y),
    "DeepFool": base.compiled(evasion.deepfool)(net.logits_fn, x, y),
    "HopSkipJump": hop(classes_only, x, y, rng=lab.rng),
  }
  size = jnp.sqrt(jnp.square(x).sum((1, 2, 3))).mean()
  figures = [base.number("images: mean l2 norm", size, len(x))]
  for name, result in found.items():
    figures += _figures(name, result, _TARGETS.get(name, ("", "")))
  queries = found["HopSkipJump"].queries
  figures.append(
    base.number("HopSkipJump: most queries", queries.max(), len(x))
  )
  return figures


def _figures(
  name: str, found: evasion.Evasion, targets: tuple[str, str]
) -> list[base.Figure]:
  distances = found.distance[found.success]
  mean, median = distances.mean(), jnp.median(distances)
  n = distances.size
  return [
    base.share(f"{name}: success", found.success, "100 %"),
    base.number(f"{name}: mean l2", mean, n, targets[0]),
    base.number(f"{name}: median l2", median, n, targets[1]),
  ]
