"""Detectors of poisoned data and of triggered inputs: rates and false alarms.

Spectral signatures and activation clustering look at training data, through the
network that was trained on them; STRIP looks at inputs of that network. Each
has a rate of true alarms and one of false ones.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.poisons import base, trojaned
from keyjax.attacks.poisoning import trojans
from keyjax.attacks.privacy import roc
from keyjax.defenses import trojans as detectors

TITLE = "Detectors of poisoned data and of triggered inputs"
SENTENCE = (
  "Poisons leave a trace in what a network computes, and detectors find it: "
  "most poisons where there are hundreds, few where tens suffice."
)
DATASETS = ("digits", "mnist")
AXIS = "false alarms"

_CASES = {  # Few poisons, and many.
  "digits": (
    ("patch", 14),
    ("patch", 72),
    ("blended", 14),
    ("blended", 72),
    ("one input", 5),
    ("warping", 144),
  ),
  "mnist": (
    ("blended", 50),
    ("blended", 300),
    ("patch", 50),
    ("patch", 300),
    ("one input", 5),
    ("warping", 1200),
  ),
}
_DRAWN = {"digits": ("patch, 72", "blended, 72"), "mnist": ("patch, 300",)}
_CLEAN = 20  # Networks without poison, for false alarms.
_RATES = (0.01, 0.05, 0.1, 0.2, 0.5)
_RATE = 0.05  # Of false alarms, where one is chosen.
_INPUTS = 300  # Triggered and clean ones for STRIP, and as many to add.
# Spectral AUC and share removed; clustering recall and precision (prototype).
_PROTOTYPE = {
  ("blended", 50): ("0.75", "26 %", "0", "0"),
  ("blended", 300): ("0.71", "72 %", "98 %", "100 %"),
  ("patch", 50): ("0.80", "52 %", "100 %", "100 %"),
  ("patch", 300): ("0.81", "77 %", "100 %", "100 %"),
}
_RANGES = ("0.57 to 0.80", "", "55 to 61 %", "")  # On the digits.
_STRIP = {"digits": "0.67 to 0.91 (prototype)", "mnist": ""}


class Case(NamedTuple):
  """A poisoned network, and what the detectors see.

  Attributes:
    title: Trigger and number of poisons.
    targets: Published figures of the detectors of data.
    net: The network.
    trigger: Its trigger.
    data: Its training data.
  """

  title: str
  targets: tuple[str, ...]
  net: trojaned.Net
  trigger: trojans.Trigger
  data: trojans.Poisoned


def run(lab: base.Lab) -> list[base.Figure]:
  """Return the rates of each detector, and of data without poison."""
  figures = []
  for case in _cases(lab):
    figures += [
      *_spectral(lab, case),
      *_clustering(case),
      *_strip(lab, case),
    ]
  return [*figures, *_without_poison(lab)]


def _cases(lab: base.Lab) -> Iterator[Case]:
  triggers = trojaned.triggers(lab)
  most = int((lab.train.label != trojaned.TARGET).sum())
  for name, count in _CASES[lab.dataset.name]:
    covers = min(count, most) // 2 if name == "warping" else 0
    data = trojaned.poisoned(lab, triggers[name], min(count, most), covers)
    net = trojaned.train(lab, data.examples)
    targets = _PROTOTYPE.get((name, count), ("",) * 4)
    if lab.dataset.name == "digits":
      targets = _RANGES
    made = tuple(f"{x} (prototype)" if x else "" for x in targets)
    yield Case(f"{name}, {count}", made, net, triggers[name], data)


def _spectral(lab: base.Lab, case: Case) -> Iterator[base.Figure]:
  """Yield how well scores rank poisons in the target's class."""
  image, label = case.data.examples
  scores = detectors.spectral_scores(case.net.hidden(image), label)
  here = label == trojaned.TARGET
  found = roc.curve(scores[here], case.data.poison[here])
  removed = detectors.largest(scores, label, int(case.data.poison.sum()))
  yield from _ranked(lab, "spectral signatures", case, found, case.targets[0])
  title = f"spectral signatures, {case.title}"
  poison = removed[case.data.poison]
  yield base.share(f"{title}: poisons removed", poison, case.targets[1])
  yield base.share(
    f"{title}: clean examples removed", removed[~case.data.poison]
  )


def _clustering(case: Case) -> Iterator[base.Figure]:
  """Yield the poisons that are flagged, and the clean examples."""
  image, label = case.data.examples
  found = detectors.clusters(case.net.hidden(image), label)
  called = detectors.flagged(found, label)
  poison = case.data.poison
  title = f"activation clustering, {case.title}"
  yield base.share(f"{title}: recall", called[poison], case.targets[2])
  precision = poison[called] if called.any() else np.zeros(1, bool)
  yield base.share(f"{title}: precision", precision, case.targets[3])
  yield base.share(f"{title}: clean examples flagged", called[~poison])


def _strip(lab: base.Lab, case: Case) -> Iterator[base.Figure]:
  """Yield how well entropies tell triggered inputs from clean ones."""
  rng = jax.random.fold_in(lab.rng, 79)
  image, label = lab.test
  others = image[label != trojaned.TARGET]
  n = min(_INPUTS, len(others) // 3)
  triggered = case.trigger.stamp(rng, jnp.asarray(others[:n]))
  judged = jnp.concatenate([triggered, jnp.asarray(others[n : 2 * n])])
  entropies = np.asarray(
    _entropies(case.net.logits_fn, judged, jnp.asarray(others[2 * n :]), rng)
  )
  found = roc.curve(-entropies, np.arange(2 * n) < n)
  target = _STRIP[lab.dataset.name]
  yield from _ranked(lab, "STRIP", case, found, target)
  title = f"STRIP, {case.title}"
  yield base.number(
    f"{title}: found at {_RATE:.0%} false alarms", roc.tpr_at(found, _RATE), n
  )


_entropies = jax.jit(
  lambda logits_fn, inputs, clean, rng: detectors.entropies(
    logits_fn, inputs, clean, rng=rng
  )
)


def _ranked(
  lab: base.Lab, name: str, case: Case, found: roc.Curve, target: str
) -> Iterator[base.Figure]:
  """Yield the area under a curve, and the curve itself in some cases."""
  title = f"{name}, {case.title}"
  n = found.members + found.others
  yield base.number(f"{title}: AUC", roc.auc(found), n, target)
  if case.title in _DRAWN[lab.dataset.name]:
    for rate in _RATES:
      yield base.number(
        f"{title}: found at {rate:.0%} false alarms (curve)",
        roc.tpr_at(found, rate),
        n,
        curve=title,
        x=rate,
      )


def _without_poison(lab: base.Lab) -> Iterator[base.Figure]:
  """Yield what clustering flags in the data of clean networks."""
  flagged = []
  for net in trojaned.clean_networks(lab, _CLEAN):
    found = detectors.clusters(net.hidden(lab.train.image), lab.train.label)
    flagged.append(detectors.flagged(found, lab.train.label))
  alarms = np.concatenate(flagged)
  yield base.share("activation clustering, no poison: flagged", alarms)
  some = [bool(x.any()) for x in flagged]
  yield base.share("activation clustering, no poison: networks flagged", some)
