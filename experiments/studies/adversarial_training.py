"""Training on attacked inputs, judged inside and outside the trained size."""

from typing import Any

from experiments.studies import base
from keyjax.attacks import evasion

TITLE = "Adversarial training"
SENTENCE = (
  "Training on changed inputs teaches a network to withstand them, yet "
  "prevents no attack for certain."
)
DATASETS = ("digits",)

_IMAGES = 200
_TRAINED = 0.1
_EPSILONS = (_TRAINED, 2 * _TRAINED)
_DEFENSES: dict[str, dict[str, Any]] = {
  "none": {},
  "FGSM": {"name": "fgsm"},
  "PGD": {"name": "pgd"},
  "fast": {"name": "fast"},
  "TRADES": {"name": "trades"},
}
# Of unchanged inputs, under PGD at the trained size, and at twice that.
_TARGETS = {
  "none": ("98.1 %", "45.9 %", "0.6 %"),
  "FGSM": ("99.1 %", "82.8 %", "13.0 %"),
  "PGD": ("99.1 %", "85.6 %", "18.9 %"),
}


def run(lab: base.Lab) -> list[base.Figure]:
  """Return accuracies without and with each training."""
  x, y = base.sample(lab, _IMAGES)
  pgd = base.compiled(evasion.pgd, steps=40, restarts=2)
  figures = []
  for name, defense in _DEFENSES.items():
    targets = _TARGETS.get(name, ("", "", ""))
    net = _network(lab, defense)
    right = net.logits_fn(x).argmax(-1) == y
    figures.append(base.share(f"{name}: accuracy", right, targets[0]))
    for epsilon, target in zip(_EPSILONS, targets[1:], strict=True):
      found = pgd(net.logits_fn, x, y, epsilon=epsilon, rng=lab.rng)
      title = f"{name}: accuracy, PGD, epsilon {epsilon}"
      figures.append(base.share(title, ~found.success, target))
    if name in ("none", "PGD"):
      figures.append(_ensemble(lab, name, net, x, y))
  return figures


def _network(lab: base.Lab, defense: dict[str, Any]) -> base.Network:
  if not defense:
    return base.standard(lab)
  return base.standard(lab, defense=defense | {"epsilon": _TRAINED})


def _ensemble(
  lab: base.Lab, name: str, net: base.Network, x: Any, y: Any
) -> base.Figure:
  found = evasion.autoattack(
    net.logits_fn, x, y, epsilon=_TRAINED, n_queries=1000, rng=lab.rng
  )
  title = f"{name}: accuracy, AutoAttack, 1,000 queries, epsilon {_TRAINED}"
  return base.share(title, found.robust)
