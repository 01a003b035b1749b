"""Rows of `experiments.robustness`, made by hand."""

from typing import Any

import numpy as np

from experiments.evasion import measure, plan, tasks
from experiments.evasion.models import Judged
from experiments.run import results
from experiments.tables import survey

Row = dict[str, Any]
IMAGES = 200
BASE = {
  "config": "tiny",
  "dataset": "digits",
  "model": "mlp",
  "command": "python -m experiments.robustness --config=configs/tiny.py",
  "commit": "abc1234",
  "hardware": "1 x cpu",
  "date": "2026-01-02T03:04:05+00:00",
  "jax": "0.10.2",
  "source": "made up",
  "classes": 10,
}
TITLES = {
  "none/none": "no lock",
  "hpnn/none": "HPNN",
  "none/pgd": "no lock, PGD training",
}


def judged(model: str = "none/none", title: str = "") -> Any:
  """Return a model that has only what its rows need."""
  scheme, defense = model.split("/")
  mechanism = "identity" if scheme == "none" else scheme
  fields = {"scheme": scheme, "mechanism": mechanism, "defense": defense}
  title = title or TITLES.get(model, model)
  return Judged(model, title, fields, *[None] * 4)  # type: ignore[arg-type]


def attack(
  value: float | None,
  model: str = "none/none",
  label: str = "pgd",
  *,
  game: str = "",
  attack_title: str = "",
  title: str = "",
  epsilon: float = 0.1,
  norm: str = "linf",
  holder: str = "right",
  images: int = IMAGES,
  nonfinite: int = 0,
  passes: float = 40.0,
  start: int = 0,
) -> Row:
  """Return the row of an attack that leaves an accuracy.

  Args:
    value: The accuracy; None where no logits are finite.
    model: `SCHEME/DEFENSE`.
    label: Label of the attack.
    game: Its name; the label by default.
    attack_title: Its title.
    title: Title of the model.
    epsilon: Largest change.
    norm: Norm.
    holder: Who computes it.
    images: Number of images.
    nonfinite: Images whose logits are not finite.
    passes: Passes for an image.
    start: First of the images that it breaks.
  """
  kept = images if value is None else round(value * images)
  broken = np.roll(np.arange(images) >= kept, start)
  found = measure.Attempt(
    epsilon=epsilon,
    inputs=np.zeros(0),
    broken=broken,
    distance=np.where(broken, epsilon, 0.0),
    queries=passes,
    nonfinite=images if value is None else nonfinite,
    seconds=1.5,
  )
  spec = plan.attack(game or label, attack_title or label.upper(), norm=norm)
  spec["holder"] = holder
  return measure.row(judged(model, title), label, spec, found) | BASE


def clean(value: float, model: str = "none/none", title: str = "") -> Row:
  """Return the row of the accuracy without attack."""
  return attack(
    value, model, "clean", title=title, epsilon=0.0, attack_title="no attack"
  )


def audit(model: str, check: str, masked: bool = False) -> Row:
  """Return the row of one check of an audit."""
  return results.row(
    BASE,
    title=TITLES.get(model, model),
    model_name=model,
    metric=tasks.AUDIT,
    condition="right",
    value=float(masked),
    low=0.2 if masked else 0.0,
    high=0.4 if masked else 0.03,
    check=check,
    note=f"{check} in a sentence",
    images=IMAGES,
    epsilon=0.1,
  )


def transfer(source: str, target: str, value: float) -> Row:
  """Return an entry of the transfer matrix."""
  return results.row(
    BASE,
    metric=tasks.TRANSFER,
    source_title=TITLES.get(source, source),
    source_name=source,
    title=TITLES.get(target, target),
    model_name=target,
    epsilon=0.1,
    value=value,
    low=max(value - 0.05, 0.0),
    high=min(value + 0.05, 1.0),
    images=IMAGES,
  )


def study(name: str, seed: int, value: float) -> Row:
  """Return a figure of a study."""
  return results.row(
    BASE,
    metric=survey.METRIC,
    title=f"{name}, share",
    study=name,
    study_title=f"Study of {name}",
    sentence=f"The survey says that {name} works.",
    seed=seed,
    value=value,
    low=value,
    high=value,
    images=IMAGES,
    target="85.9 % (published)",
  )


def sound() -> list[Row]:
  """Return the rows of a run that answers each question with yes."""
  rows: list[Row] = []
  left = {"none/none": 0.05, "hpnn/none": 0.05, "none/pgd": 0.7}
  for model, value in left.items():
    rows.append(clean(0.97, model))
    for epsilon in (0.05, 0.1, 0.2):
      kept = min(value * 0.1 / epsilon, 0.9)
      rows += [
        attack(0.95, model, "noise", epsilon=epsilon, passes=1),
        attack(kept + 0.05, model, "fgsm", epsilon=epsilon, passes=2),
        attack(kept, model, "pgd", epsilon=epsilon),
      ]
    rows += [
      attack(value, model, "pgd_long", game="pgd", passes=200, start=2),
      attack(value + 0.02, model, "square", holder="api", passes=1000),
      attack(0.4, model, "carlini_wagner", norm="l2", epsilon=0.5, images=50),
      audit(model, "unbounded"),
      audit(model, "hidden_steps"),
    ]
    rows += [
      transfer(model, other, 0.95 if other == model else 0.3) for other in left
    ]
  for holder, value in {"wrong": 0.6, "leaked": 0.5, "keys": 0.3}.items():
    label = f"pgd_{holder}"
    rows.append(attack(value, "hpnn/none", label, game="pgd", holder=holder))
  rows += [study("fgsm", seed, 0.5 + 0.1 * seed) for seed in range(3)]
  return rows + measure.worst_cases(rows)
