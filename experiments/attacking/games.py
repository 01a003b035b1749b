"""One game against one locked model, and the row that it makes."""

from typing import Any

from ml_collections import ConfigDict

from experiments.attacking import rows
from experiments.attacking.targets import Targets
from experiments.run import results
from keyjax import tasks
from keyjax.attacks import intervals, referee, registry
from keyjax.attacks.game import OVER_IMAGES, Attack, Attacker, Goal
from keyjax.tasks import Task


class Games:
  """Plays the attacks of `keyjax.attacks.registry`."""

  def __init__(self, config: ConfigDict, targets: Targets) -> None:
    """Prepare to play.

    Args:
      config: Config with `schemes` and `attacks`.
      targets: Locked models to attack.
    """
    self._config = config
    self._targets = targets

  def __call__(self, scheme: str, label: str) -> dict[str, Any]:
    """Play one pair of labels and return its row."""
    spec = self._config.attacks[label]
    attack = registry.get(spec.attack)
    target = self._targets.get(scheme)
    count = tasks.num_examples(target.train)
    attacker = rows.attacker_of(spec, count)
    budget = rows.budget_of(self._config, label)
    result: referee.AttackResult | str
    if attack.classes_only and target.task is not tasks.CLASSES:
      result = f"it needs one class for each example, not {target.task.name}"
    elif attacker.has_base and target.base is None:
      result = "there is no base model"
    elif spec.trials:
      targets = self._targets.with_fresh_keys(
        scheme, spec.trials, decoys=attack.goal == Goal.DISTINGUISH
      )
      result = referee.trials(attack, targets, attacker, budget)
    else:
      grid = spec.grid.settings or attack.grid
      result = referee.sweep(attack, target, attacker, budget, grid)
    row = game_row(
      self._config, scheme, label, attack, attacker, result, target.task
    )
    if attack.goal == Goal.FUNCTION:
      row["right"] = self._targets.right(scheme).value
    return row


def game_row(
  config: ConfigDict,
  scheme: str,
  label: str,
  attack: Attack,
  attacker: Attacker,
  result: referee.AttackResult | str,
  task: Task = tasks.CLASSES,
) -> dict[str, Any]:
  """Return a row: the game, the score with its interval, cost and curve.

  Args:
    config: Config with `schemes` and `attacks`.
    scheme: Label of the scheme.
    label: Label of the attack.
    attack: The attack.
    attacker: What its attacker holds.
    result: What it reached, or why it was not played.
    task: What the model is asked to do.
  """
  base = rows.fields(config, scheme, label, attacker) | {
    "condition": rows.condition(config, scheme, attack.condition),
    "metric": str(attack.goal),
  }
  # An attack that claims nothing says why.
  note = result if isinstance(result, str) else result.details.get("note")
  if isinstance(result, str) or note:
    return results.row(base, value=None, note=note)
  return results.row(
    base,
    value=result.score.value,
    low=result.score.low,
    high=result.score.high,
    interval=_interval(attack, config.attacks[label], result, task),
    cost=result.cost._asdict(),
    curve=[
      p.cost._asdict()
      | {"value": p.score.value, "low": p.score.low, "high": p.score.high}
      for p in result.curve
    ],
    details=dict(result.score.details) | dict(result.details),
    setting=dict(result.setting),
  )


def _interval(
  attack: Attack, spec: ConfigDict, result: referee.AttackResult, task: Task
) -> str:
  if spec.trials:
    return f"Clopper-Pearson over {spec.trials} games"
  if attack.goal in OVER_IMAGES:
    return f"{intervals.method(task)}, Bonferroni over settings"
  if result.score.low < result.score.high:
    return "Clopper-Pearson over 1 game"
  return "one game: no interval"
