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
from keyjax.defenses import trojans as detectors

TITLE = "Trojans searched in models"
SENTENCE = (
  "A trigger can be recovered from a network alone, which shows that it was "
  "poisoned, and removed by pruning and training on clean images."
)
DATASETS = ("digits", "mnist")

_CLEAN = 20  # Networks without poison, for false alarms.
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
  clean = trojaned.clean_networks(lab, _CLEAN)
  found = [_reversed(lab, net) for net in clean]
  figures = [*_false_alarms(lab, found)]
  triggers = trojaned.triggers(lab)
  most = int((lab.train.label != trojaned.TARGET).sum())
  for name, count in _CASES[lab.dataset.name]:
    data = trojaned.poisoned(lab, triggers[name], min(count, most))
    net = trojaned.train(lab, data.examples)
    title = f"{name}, {count} poisons"
    target = _PROTOTYPE.get((name, count), "")
    figures += _cleanse(lab, net, title, target, triggers[name], found[0])
    figures += _prune(lab, net, title, triggers[name])
  return figures


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
  lab: base.Lab,
  net: trojaned.Net,
  title: str,
  target: str,
  trigger: trojans.Trigger,
  clean: detectors.Reversed,
) -> Iterator[base.Figure]:
  """Yield the anomaly of the target's class, and draw what was found."""
  found = _reversed(lab, net)
  anomaly = detectors.anomaly(found.size)
  name = f"Neural Cleanse, {title}"
  n = len(anomaly)
  text = f"{target} (prototype)" if target else ""
  own = anomaly[trojaned.TARGET]
  yield base.number(f"{name}: anomaly of the target", own, n, text)
  yield base.number(f"{name}: greatest anomaly", anomaly.max(), n)
  right = own > _FLAG and anomaly.argmax() == trojaned.TARGET
  yield base.number(f"{name}: target found", right)
  yield base.number(f"{name}: size of the mask", found.size[trojaned.TARGET], n)
  _show(lab, title, trigger, found, clean)


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
