"""The referee: plays a game, scores its claims, sweeps settings, repeats."""

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from keyjax import arguments, tasks, tree
from keyjax.attacks import adversarial, forward, game, intervals, views
from keyjax.attacks.game import (
  Attack,
  Attacker,
  Budget,
  Cost,
  Examples,
  Forgery,
  Goal,
  Model,
  Score,
  Target,
)
from keyjax.tasks import Task


class Point(NamedTuple):
  """One point of a curve."""

  cost: Cost
  score: Score


@dataclasses.dataclass(frozen=True)
class AttackResult:
  """Result of an attack.

  Attributes:
    score: Score of the last claim: an attacker does not know which was best.
    cost: Cost of the whole attack.
    curve: Every claim, cheapest first.
    details: Numbers that the attack reports.
    setting: Hyper-parameters that gave this result.
  """

  score: Score
  cost: Cost
  curve: Sequence[Point]
  details: Mapping[str, Any]
  setting: Mapping[str, Any]

  def fields(self) -> dict[str, Any]:
    """Return what a row has of it beside the score: cost, curve, settings."""
    curve = [
      p.cost._asdict()
      | {"value": p.score.value, "low": p.score.low, "high": p.score.high}
      for p in self.curve
    ]
    return {
      "cost": self.cost._asdict(),
      "curve": curve,
      "details": {**self.score.details, **self.details},
      "setting": dict(self.setting),
    }


def play(
  attack: Attack,
  target: Target,
  attacker: Attacker,
  budget: Budget,
  setting: Mapping[str, Any] | None = None,
) -> AttackResult:
  """Run an attack and score its claims.

  Args:
    attack: Attack of the registry.
    target: The locked model.
    attacker: Attacker who holds at least what the attack needs.
    budget: What may be spent.
    setting: Hyper-parameters; by default the first setting of the attack.

  Raises:
    TypeError: If `attack` is none, such as a name.
    ValueError: If the attacker lacks something that the attack needs, or is
      granted more than there is, or the attack does not take the task.
  """
  _require_attack(attack)
  if attack.classes_only and target.task is not tasks.CLASSES:
    raise ValueError(
      f"{attack.name} needs one class for each example, but the task of this "
      f"model is {target.task.name}"
    )
  if not attacker.covers(attack.needs):
    raise ValueError(f"{attack.name} needs {attack.needs}, got {attacker}")
  _check_holdings(attack, target, attacker)
  setting = attack.grid[0] if setting is None else setting
  seen = views.view(target, attacker, budget.seed)
  if seen.victims is not None:
    target = dataclasses.replace(target, victims=seen.victims)
  curve: list[Point] = []
  details: Mapping[str, Any] = {}
  spent = busy = 0.0
  start, begun = time.perf_counter(), time.process_time()
  for claim in attack.run(seen, budget, **setting):
    spent += time.perf_counter() - start
    busy += time.process_time() - begun
    cost = claim.cost._replace(
      seconds=round(spent, 6), cpu_seconds=round(busy, 6)
    )
    curve.append(Point(cost, score(attack, claim.value, target)))
    details = claim.details
    # Scoring is the referee's time.
    start, begun = time.perf_counter(), time.process_time()
  if not curve:
    raise ValueError(f"{attack.name} made no claim")
  last = curve[-1]
  return AttackResult(last.score, last.cost, curve, details, setting)


def _require_attack(attack: Any) -> None:
  if not isinstance(attack, Attack):
    raise TypeError(
      f"{arguments.describe(attack)} is not an attack: "
      "keyjax.attacks.registry.get(name) returns one"
    )


def _check_holdings(attack: Attack, target: Target, attacker: Attacker) -> None:
  """Raise if an attacker is granted more than the target has.

  Otherwise rows would state more than the attacker had.
  """
  most = {
    "images": tasks.num_examples(target.train),
    "victims": tasks.num_examples(target.test),
    "copies": len(target.copies),
    "licensees": len(target.licensed),
  }
  for name, there in most.items():
    granted = getattr(attacker, name)
    if granted > there:
      raise ValueError(
        f"{attack.name}: an attacker with {name}={granted}, but this target "
        f"has {there}"
      )


def sweep(
  attack: Attack,
  target: Target,
  attacker: Attacker,
  budget: Budget,
  grid: Iterable[Mapping[str, Any]] | None = None,
) -> AttackResult:
  """Play every setting and return the best.

  The interval of a score over images is widened for the choice among settings
  (Bonferroni), and `sweep_seconds` are those of all of them.
  """
  _require_attack(attack)
  grid = list(attack.grid if grid is None else grid)
  played = [play(attack, target, attacker, budget, s) for s in grid]
  # NaN, as of outputs that are none, is no best, and would hide the others.
  best = max(played, key=lambda r: np.nan_to_num(r.score.value, nan=-np.inf))
  total = sum(r.cost.seconds for r in played)
  score = best.score
  if attack.goal in game.OVER_IMAGES and len(grid) > 1:
    ends = _widened(score, len(grid), target.task)
    score = score._replace(low=ends[0], high=ends[1])
  return dataclasses.replace(
    best,
    score=score,
    details={**best.details, "settings": len(grid), "sweep_seconds": total},
  )


def trials(
  attack: Attack,
  targets: Iterable[Target],
  attacker: Attacker,
  budget: Budget,
  setting: Mapping[str, Any] | None = None,
) -> AttackResult:
  """Play the same game against independent targets, fresh keys each.

  Returns:
    The share of games that were won (score 1), with its exact interval; the
    cost is the mean.
  """
  played = [
    play(
      attack,
      t,
      attacker,
      dataclasses.replace(budget, seed=budget.seed + i),
      setting,
    )
    for i, t in enumerate(targets)
  ]
  won = sum(r.score.value == 1 for r in played)
  low, high = intervals.clopper_pearson(won, len(played))
  seconds = [r.cost.seconds for r in played]
  mean = Cost(
    steps=round(float(np.mean([r.cost.steps for r in played]))),
    queries=round(float(np.mean([r.cost.queries for r in played]))),
    flops=float(np.mean([r.cost.flops for r in played])),
    seconds=float(np.mean(seconds)),
    cpu_seconds=float(np.mean([r.cost.cpu_seconds for r in played])),
  )
  details = {
    **played[-1].details,
    "won": won,
    "games": len(played),
    "seconds_median": float(np.median(seconds)),
    "seconds_max": float(np.max(seconds)),
    "cpu_seconds_median": float(
      np.median([r.cost.cpu_seconds for r in played])
    ),
  }
  score = Score(won / len(played), low, high)
  return AttackResult(
    score, mean, [Point(mean, score)], details, played[-1].setting
  )


# ------------------------------------------------------------------- referees


_WON_OR_LOST = (Goal.DISTINGUISH, Goal.FORGE)


def score(attack: Attack, value: Any, target: Target) -> Score:
  """Score a claim; a claim of None scores 0."""
  if value is None and attack.goal in _WON_OR_LOST:
    return _one_game(False)
  if value is None and attack.goal == Goal.FUNCTION and target.task.exact:
    total = tasks.num_examples(target.test)
    return Score(0.0, *intervals.clopper_pearson(0, total))
  if value is None:
    return Score(0.0, 0.0, 0.0)
  return (attack.referee or _REFEREES[attack.goal])(value, target)


def judge(
  model: Model,
  examples: Examples,
  task: Task = tasks.CLASSES,
  batch_size: int = 500,
) -> Score:
  """Return the metric of a model, such as its accuracy, with its interval.

  Args:
    model: The model.
    examples: Inputs and labels, at least one example.
    task: What it is asked to do.
    batch_size: Examples of a call over all devices.

  Returns:
    The score. Its details are the number of examples, called `images`, the
    number of them with outputs that are not finite, and further metrics.
  """
  found, bad = forward.judged(model, examples, task, batch_size)
  more = [name for name in task.metrics if name != task.metric]
  details = {"nonfinite": int(np.ceil(bad).sum()), "images": len(bad)}
  return Score(
    task.value(found),
    *intervals.of_metric(task, found),
    details | {name: task.value(found, name) for name in more},
  )


def _widened(score: Score, among: int, task: Task) -> tuple[float, float]:
  number = score.details.get("images", 0)
  if task.exact and number:
    hits = round(score.value * number)
    return intervals.clopper_pearson(hits, number, among)
  return intervals.widened(score[:3], among, task.bounds)


def _function(value: Model, target: Target) -> Score:
  return judge(value, target.test, target.task)


def _key(value: Any, target: Target) -> Score:
  return _share(value, target.key)


def _weights(value: Any, target: Target) -> Score:
  changed = set(views.locked_paths(target))
  paths, plain, _ = tree.flatten(target.params)
  claimed = tree.flatten(value)[1]
  pairs = zip(paths, claimed, plain, strict=True)
  locked = [(x, y) for path, x, y in pairs if path in changed]
  return _share([x for x, _ in locked], [y for _, y in locked])


def _distinguish(value: bool, target: Target) -> Score:
  return _one_game(bool(value) == target.genuine)


def _forge(value: Forgery, target: Target) -> Score:
  opened = target.scheme.decrypt(target.key, value.locked)
  same = tree.same_bits(opened, value.edit(target.params))
  moved = not tree.same_bits(opened, target.params)
  return _one_game(same and moved)


def _one_game(won: bool) -> Score:
  """Return the score of a game that is won or lost, with its wide interval."""
  return Score(float(won), *intervals.clopper_pearson(won, 1))


def _alike(a: Any, b: Any) -> bool:
  return bool(jax.tree.structure(a) == jax.tree.structure(b))  # type: ignore[operator]


def _share(claimed: Any, true: Any) -> Score:
  """Return the share of array elements with the same bits.

  It is that of one key, counted in full: an interval over keys takes several
  games.
  """
  if not _alike(claimed, true):
    return Score(0.0, 0.0, 0.0)
  right = total = 0
  for x, y in zip(jax.tree.leaves(claimed), jax.tree.leaves(true), strict=True):
    a, b = tree.bits(x), tree.bits(y)
    total += b.size
    right += int((a == b).sum()) if a.shape == b.shape else 0
  value = right / max(total, 1)
  return Score(value, value, value)


_REFEREES: dict[Goal, game.Referee] = {
  Goal.KEY: _key,
  Goal.WEIGHTS: _weights,
  Goal.FUNCTION: _function,
  Goal.DISTINGUISH: _distinguish,
  Goal.FORGE: _forge,
  Goal.TRANSFER: adversarial.score,
}
