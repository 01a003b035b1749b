"""Trojans searched in models: Neural Cleanse and fine-pruning, with controls.

Neural Cleanse searches the smallest mask for each class, and flags a network
with a class whose mask is far smaller than the others. A false alarm is a flag
on a network without poison, of 20 that differ in their initial weights. What it
finds is drawn beside the trigger.
"""

import dataclasses
import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from experiments.poisons import base, trojaned
from keyjax.attacks.evasion.problem import LogitsFn
from keyjax.attacks.game import Examples
from keyjax.attacks.poisoning import trojans
from keyjax.attacks.privacy import roc
from keyjax.defenses import trojans as detectors

TITLE = "Trojans searched in models"
SENTENCE = (
  "A trigger can be recovered from a network alone, which shows that it was "
  "poisoned, and removed by pruning and training on clean images."
)
DATASETS = ("digits", "mnist")

_CLEAN = 20  # Networks without poison, for false alarms.
_TROJANED = {"digits": 10, "mnist": 3}  # Networks of each case.
_FLAG = 2.0  # Robust deviations, as published.
_CASES = {
  "digits": (("patch", 72), ("blended", 72), ("one input", 5)),
  "mnist": (
    ("blended", 50),
    ("blended", 300),
    ("patch", 50),
    ("patch", 300),
    ("one input", 5),
  ),
}
_STEPS = {"digits": 400, "mnist": 200}
_BATCH = 32
_HELD = {"digits": 120, "mnist": 500}  # Clean images of the defender.
# The last layer of which units are removed, and the layer after it.
_PRUNED = {
  "digits": ("dense_1", "head"),
  "mnist": ("conv_1", "dense"),
}
_PROTOTYPE = {
  ("blended", 50): "2.60",
  ("blended", 300): "4.16",
  ("patch", 50): "2.48",
  ("patch", 300): "1.95: missed",
}


def run(lab: base.Lab) -> list[base.Figure]:
  """Return anomalies, false alarms, and success before and after pruning."""
  clean = [_reversed(lab, net) for net in trojaned.clean_networks(lab, _CLEAN)]
  figures = [*_false_alarms(lab, clean)]
  triggers = trojaned.triggers(lab)
  for name, count in _CASES[lab.dataset.name]:
    trigger, title = triggers[name], f"{name}, {count} poisons"
    networks = [
      _trojaned(lab, trigger, count, offset=i)
      for i in range(_TROJANED[lab.dataset.name])
    ]
    found = [_reversed(lab, net) for net in networks]
    target = _PROTOTYPE.get((name, count), "")
    figures += _cleanse(title, target, found, clean)
    _show(lab, title, trigger, found[0], clean[0])
    figures += _prune(lab, networks[0], title, trigger)
  return figures


def _trojaned(
  lab: base.Lab, trigger: trojans.Trigger, count: int, offset: int
) -> trojaned.Net:
  """Return one of several networks with poisons and weights of their own."""
  most = int((lab.train.label != trojaned.TARGET).sum())
  own = lab._replace(seed=lab.seed + 1000 * offset)
  data = trojaned.poisoned(own, trigger, min(count, most))
  return trojaned.train(lab, data.examples, offset=offset)


def _defender(lab: base.Lab) -> tuple[Examples, base.Lab]:
  """Return clean images of the defender, and a lab to judge on others."""
  d = lab.dataset
  n = min(_HELD[d.name], len(d.test_labels) // 2)
  held = Examples(*(x[:n] for x in lab.test))
  rest = d.test_images[n:], d.test_labels[n:]
  others = dataclasses.replace(d, test_images=rest[0], test_labels=rest[1])
  return held, lab._replace(dataset=others)


@functools.partial(jax.jit, static_argnames=("steps",))
def _search(
  logits_fn: LogitsFn, images: jax.Array, rng: jax.Array, steps: int
) -> detectors.Reversed:
  return detectors.neural_cleanse(
    logits_fn, images, steps=steps, batch_size=_BATCH, rng=rng
  )


def _reversed(lab: base.Lab, net: trojaned.Net) -> detectors.Reversed:
  """Return the mask and pattern of each class."""
  held = jnp.asarray(_defender(lab)[0].image)
  steps = _STEPS[lab.dataset.name]
  return jax.device_get(_search(net.logits_fn, held, lab.rng, steps))


def _false_alarms(
  lab: base.Lab, found: list[detectors.Reversed]
) -> Iterator[base.Figure]:
  """Yield how many clean networks are flagged, and their anomalies."""
  most = np.asarray([detectors.anomaly(x.size).max() for x in found])
  digits = lab.dataset.name == "digits"
  title = "Neural Cleanse, no poison"
  yield base.share(f"{title}: networks flagged", most > _FLAG)
  target = "2.41: false alarm" if digits else "1.18"
  yield base.number(
    f"{title}: median anomaly",
    np.median(most),
    len(most),
    f"{target} (prototype)",
  )
  yield base.number(f"{title}: greatest anomaly", most.max(), len(most))


def _cleanse(
  title: str,
  target: str,
  found: list[detectors.Reversed],
  clean: list[detectors.Reversed],
) -> Iterator[base.Figure]:
  """Yield how many trojans are found, and how far they are from clean ones."""
  anomalies = np.stack([detectors.anomaly(x.size) for x in found])  # [m, k]
  most, own = anomalies.max(1), anomalies[:, trojaned.TARGET]
  name, n = f"Neural Cleanse, {title}", len(found)
  text = f"{target} (prototype)" if target else ""
  yield base.number(
    f"{name}: median anomaly of the target", np.median(own), n, text
  )
  yield base.share(f"{name}: networks flagged", most > _FLAG)
  right = (own > _FLAG) & (anomalies.argmax(1) == trojaned.TARGET)
  yield base.share(f"{name}: flagged by the target", right)
  others = np.asarray([detectors.anomaly(x.size).max() for x in clean])
  scores = np.concatenate([most, others])
  curve = roc.curve(scores, np.arange(len(scores)) < n)
  yield base.number(
    f"{name}: AUC against no poison", roc.auc(curve), len(scores)
  )
  sizes = [x.size[trojaned.TARGET] for x in found]
  yield base.number(f"{name}: median size of the mask", np.median(sizes), n)


def _show(
  lab: base.Lab,
  title: str,
  trigger: trojans.Trigger,
  found: detectors.Reversed,
  clean: detectors.Reversed,
) -> None:
  """Keep the trigger, on black, and what was found with and without it."""
  black = jnp.zeros((1, *lab.train.image.shape[1:]))
  planted = np.asarray(trigger.stamp(lab.rng, black))[0]
  masks = [
    x.mask[trojaned.TARGET][..., None] * x.pattern[trojaned.TARGET]
    for x in (found, clean)
  ]
  lab.show(
    "trojan_models",
    f"{title}: planted, recovered, and recovered from a clean network",
    np.stack([planted, *masks]),
  )


def _prune(
  lab: base.Lab, net: trojaned.Net, title: str, trigger: trojans.Trigger
) -> Iterator[base.Figure]:
  """Yield success and accuracy before pruning, after it and after training."""
  held, others = _defender(lab)
  layer, following = _PRUNED[lab.dataset.name]
  units = net.variables["params"][layer]["bias"].size
  hidden = net.hidden(held.image, following)
  hidden = hidden.reshape(len(hidden), -1, units)
  repaired = detectors.fine_prune(
    net.model.apply, net.variables, held, hidden, layer=layer, seed=lab.seed
  )
  name = f"fine-pruning, {title}"
  yield base.number(f"{name}: units removed", len(repaired.units), units)
  for state, variables in (
    ("before", net.variables),
    ("pruned", repaired.pruned),
    ("pruned and trained", repaired.tuned),
  ):
    logits_fn = net._replace(variables=variables).logits_fn
    judged = trojaned.judge(others, logits_fn, trigger)
    yield base.share(f"{name}, {state}: success", judged.success)
    yield base.share(f"{name}, {state}: accuracy", judged.correct)
