"""The result of a robustness run in words, and in four numbers."""

from collections.abc import Sequence

from experiments.evasion import tasks
from experiments.evasion.comparisons import LACK_KEY, attacked
from experiments.report.page import Html, element
from experiments.report.robustness_view import Model, Row, Setting, of
from experiments.report.text import tile
from experiments.report.view import how_many, numbers, span, word


def lead(
  rows: Sequence[Row], models: Sequence[Model], setting: Setting | None
) -> list[Html]:
  """Return the summary and its tiles.

  Args:
    rows: All rows.
    models: Models that were attacked.
    setting: Setting to summarise; None if there is no attack.
  """
  if setting is None:
    sentence = "Claims about attacks and defences, measured over seeds."
    return [element("p", sentence, class_="lead")]
  sentences = [
    f"{how_many(len(models), 'model').capitalize()}, right on "
    f"{span([m.clean.value for m in models])} of the images as they are.",
    _about_attacks(models, setting),
    _about_keys(models, setting),
    _about_locks(models, setting),
    _about_audits(rows),
  ]
  tiles = [tile(*texts) for texts in _tiles(models, setting)]
  return [
    element("p", " ".join(x for x in sentences if x), class_="lead"),
    element("div", *tiles, class_="tiles"),
  ]


def _worst(
  models: Sequence[Model], setting: Setting, is_defended: bool
) -> list[float]:
  return numbers(
    m.at("worst", setting).value for m in models if m.is_defended == is_defended
  )


def _about_attacks(models: Sequence[Model], setting: Setting) -> str:
  """Say what the worst case leaves, and what random changes do."""
  bare = _worst(models, setting, False)
  defended = _worst(models, setting, True)
  left = [
    f"{span(values)} {kind} a defence"
    for values, kind in ((bare, "without"), (defended, "with"))
    if values
  ]
  random = numbers(m.at("noise", setting).value for m in models)
  control = f"; random changes of that size leave {span(random)}"
  return (
    f"In the worst case, changes of epsilon {setting.epsilon:g} {setting.norm} "
    f"leave {' and '.join(left)}{control if random else ''}."
  )


def _about_keys(models: Sequence[Model], setting: Setting) -> str:
  """Say what attackers leave of the locks if they lack the key."""
  left = []
  for model in models:
    found = [
      r["value"]
      for r in attacked(model.rows)
      if of(r) == setting and r["condition"] in LACK_KEY
    ]
    if found and not model.is_defended:
      left.append(min(found))
  if not left:
    return ""
  return f"Of locks alone, attackers who lack the key leave {span(left)}."


def _about_locks(models: Sequence[Model], setting: Setting) -> str:
  """Say which locks alone withstand more than the unlocked model."""
  alone = [m for m in models if not m.is_defended]
  plain = [m.at("worst", setting).high for m in alone if not m.is_locked]
  locks = [m for m in alone if m.is_locked]
  if not numbers(plain) or not locks:
    return ""
  most = max(numbers(plain))
  better = [m for m in locks if (m.at("worst", setting).low or 0.0) > most]
  names = ", ".join(m.title for m in better) or "no lock alone"
  verb = "withstand" if len(better) > 1 else "withstands"
  return f"{names[0].upper()}{names[1:]} {verb} more than the unlocked model."


def _about_audits(rows: Sequence[Row]) -> str:
  """Say where gradients are masked, so that robustness may be an illusion."""
  audited = [r for r in rows if r["metric"] == tasks.AUDIT]
  if not audited:
    return ""
  models = {r["model_name"]: r["title"] for r in audited}
  masked = dict.fromkeys(r["title"] for r in audited if r["value"])
  which = f": {'; '.join(masked)}" if masked else ""
  return (
    f"Gradients look masked in {word(len(masked)) if masked else 'none'} of "
    f"{how_many(len(models), 'audited model')}{which}."
  )


def _tiles(
  models: Sequence[Model], setting: Setting
) -> list[tuple[str, str, str]]:
  random = numbers(m.at("noise", setting).value for m in models)
  found = [
    ("no attack", numbers(m.clean.value for m in models)),
    ("random changes", random),
    ("worst case, no defence", _worst(models, setting, False)),
    ("worst case, defended", _worst(models, setting, True)),
  ]
  return [
    (name, span(values), how_many(len(values), "model"))
    for name, values in found
    if values
  ]
