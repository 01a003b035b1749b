"""One game against one locked model, and the row that it makes."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from experiments.attacking import rows
from experiments.attacking.targets import Targets
from experiments.run import results
from keyjax import tasks
from keyjax.attacks import intervals, referee, registry
from keyjax.attacks.game import (
  OVER_IMAGES,
  Attack,
  Attacker,
  Budget,
  Cost,
  Goal,
  Score,
)
from keyjax.attacks.referee import AttackResult
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
      result = over_seeds(
        [
          referee.sweep(attack, target, attacker, each, grid)
          for each in _budgets(budget, rows.seeds_of(spec))
        ],
        target.task,
      )
    row = game_row(
      self._config, scheme, label, attack, attacker, result, target.task
    )
    if attack.goal == Goal.FUNCTION:
      row["right"] = self._targets.right(scheme).value
    return row


def _budgets(budget: Budget, seeds: int) -> list[Budget]:
  return [
    dataclasses.replace(budget, seed=budget.seed + i) for i in range(seeds)
  ]


def over_seeds(
  results: Sequence[AttackResult], task: Task = tasks.CLASSES
) -> AttackResult:
  """Return the mean of results; of one, the result itself.

  Args:
    results: Results of attackers who differ in their seed.
    task: What the model is asked to do.

  Returns:
    The mean score, with Student's interval over seeds, the mean cost, and the
    curve of the means if all have as many points. The details are those of the
    last one, with the mean of every number, and `values`, the score of each.
  """
  if len(results) == 1:
    return results[0]
  ends = [referee.Point(r.cost, r.score) for r in results]
  last = _mean_point(ends, task)
  curves = [r.curve for r in results]
  curve = [last]
  if len({len(c) for c in curves}) == 1:
    curve = [_mean_point(at, task) for at in zip(*curves, strict=True)]
  return dataclasses.replace(
    results[-1], score=last.score, cost=last.cost, curve=curve
  )


def _mean_point(points: Sequence[referee.Point], task: Task) -> referee.Point:
  """Return the mean of a point of each seed."""
  values = [p.score.value for p in points]
  low, high = intervals.mean_interval(np.array(values), task.bounds)
  details = {
    name: _mean([p.score.details.get(name) for p in points])
    for name in points[-1].score.details
  }
  score = Score(float(np.mean(values)), low, high, details | {"values": values})
  spent = Cost(*np.mean([p.cost for p in points], axis=0).tolist())
  cost = spent._replace(steps=round(spent.steps), queries=round(spent.queries))
  return referee.Point(cost, score)


def _mean(values: Sequence[Any]) -> Any:
  """Return the mean of numbers; of anything else the last one."""
  if all(isinstance(x, int | float) for x in values):
    return float(np.mean(values))
  return values[-1]


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
    **result.fields(),
  )


def _interval(
  attack: Attack, spec: ConfigDict, result: referee.AttackResult, task: Task
) -> str:
  if spec.trials:
    return f"Clopper-Pearson over {spec.trials} games"
  if rows.seeds_of(spec) > 1:
    return f"Student's t over {rows.seeds_of(spec)} seeds"
  if attack.goal in OVER_IMAGES:
    return f"{intervals.method(task)}, Bonferroni over settings"
  if result.score.low < result.score.high:
    return "Clopper-Pearson over 1 game"
  return "one game: no interval"
