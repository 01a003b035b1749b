"""Triggers in training data: success against the number of poisons.

All-to-one: poisons are copies of images of other classes, with a trigger and
the label of the target. Success is the share of test images of other classes
that get the target's class with the trigger.
"""

from collections.abc import Iterator

import jax.numpy as jnp

from experiments.poisons import base, trojaned
from keyjax.attacks.poisoning import trojans

TITLE = "Triggers in training data"
SENTENCE = (
  "Some tens of poisons, below one percent of the training data, plant a "
  "trigger that fires nearly always, and the accuracy does not show it."
)
DATASETS = ("digits", "mnist")
AXIS = "poisons"

_COUNTS = {
  "digits": {
    "patch": (5, 14, 36, 72),  # Up to 5 %.
    "blended": (5, 14, 36, 72),
    "accessory": (5, 14, 36, 72),
    "one input": (1, 2, 5),
    "warping": (72, 144, 288),
  },
  "mnist": {
    "patch": (10, 50, 100, 300),
    "blended": (10, 50, 100, 300),
    "accessory": (10, 50, 300),
    "one input": (1, 2, 5),
    "warping": (300, 600, 1200),
  },
}
_COVERS = {"warping": 0.5}  # For each poison.
_TARGETS = {
  ("digits", "patch", 14): "74.3 % (prototype)",
  ("digits", "patch", 72): "99.0 % (prototype)",
  ("digits", "blended", 72): "99.5 % (prototype)",
  ("digits", "one input", 5): "100 % (prototype); 5 poisons (published)",
  ("mnist", "patch", 50): "95.6 % (prototype)",
  ("mnist", "patch", 300): "100 % (prototype)",
  ("mnist", "blended", 50): (
    "94.5 % (prototype); above 90 % with about 50 (published)"
  ),
  ("mnist", "blended", 300): "100 % (prototype)",
  ("mnist", "one input", 5): "5 poisons suffice (published)",
}
_FAINT = 0.1  # Weight of a pattern in training; later also 0.3.
_SHOWN = 6


def run(lab: base.Lab) -> list[base.Figure]:
  """Return success and accuracy for each trigger and number of poisons."""
  triggers = trojaned.triggers(lab)
  clean = trojaned.train(lab, lab.train)
  figures, accuracy = _clean(lab, clean, triggers)
  for name, trigger in triggers.items():
    _show(lab, name, trigger)
    for count in _counts(lab)[name]:
      figures += _poisoned(lab, name, trigger, count, accuracy)
  return [*figures, *_faint(lab)]


def _counts(lab: base.Lab) -> dict[str, tuple[int, ...]]:
  """Return numbers of poisons, as far as there are images."""
  most = int((lab.train.label != trojaned.TARGET).sum())
  return {
    name: tuple(dict.fromkeys(min(x, most) for x in counts))
    for name, counts in _COUNTS[lab.dataset.name].items()
  }


def _clean(
  lab: base.Lab, net: trojaned.Net, triggers: dict[str, trojans.Trigger]
) -> tuple[list[base.Figure], float]:
  """Return what triggers do to a network without poison, and its accuracy."""
  found = {
    name: trojaned.judge(lab, net.logits_fn, trigger)
    for name, trigger in triggers.items()
  }
  correct = found["patch"].correct
  figures = [base.share("no poison: accuracy", correct)]
  figures += [
    base.share(f"no poison, {name}: success", judged.success)
    for name, judged in found.items()
  ]
  return figures, float(correct.mean())


def _poisoned(
  lab: base.Lab,
  name: str,
  trigger: trojans.Trigger,
  count: int,
  accuracy: float,
) -> Iterator[base.Figure]:
  """Yield what one number of poisons does."""
  covers = round(count * _COVERS.get(name, 0.0))
  data = trojaned.poisoned(lab, trigger, count, covers)
  net = trojaned.train(lab, data.examples)
  found = trojaned.judge(lab, net.logits_fn, trigger)
  title = f"{name}, {count} poisons"
  target = _TARGETS.get((lab.dataset.name, name, count), "")
  yield base.share(f"{title}: success", found.success, target, name, count)
  lost = 100 * (accuracy - found.correct.mean())
  yield base.number(
    f"{title}: accuracy lost, points",
    lost,
    found.correct.size,
    "at most 1" if target else "",
  )


def _faint(lab: base.Lab) -> Iterator[base.Figure]:
  """Yield what a faint pattern does, and a clearer one after training."""
  pattern = trojaned.pattern(lab)
  count = _counts(lab)["blended"][-1]
  trained = trojans.blended(pattern, _FAINT)
  data = trojaned.poisoned(lab, trained, count)
  net = trojaned.train(lab, data.examples)
  digits = lab.dataset.name == "digits"
  for alpha, target in ((_FAINT, "93.4 %"), (0.3, "100 %")):
    later = trojans.blended(pattern, _FAINT, stamp_alpha=alpha)
    found = trojaned.judge(lab, net.logits_fn, later)
    yield base.share(
      f"blended by {_FAINT}, {count} poisons, shown by {alpha}: success",
      found.success,
      f"{target} (prototype)" if digits else "",
    )


def _show(lab: base.Lab, name: str, trigger: trojans.Trigger) -> None:
  """Keep pictures of test images without and with a trigger."""
  images, _ = base.sample(lab, _SHOWN)
  stamped = trigger.stamp(lab.rng, images)
  both = jnp.stack([images, stamped], 1).reshape(-1, *images.shape[1:])
  lab.show("trojan_triggers", f"{name}: images without and with it", both)
