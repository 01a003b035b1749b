"""What each attack learns of who was trained on, in each condition of a key.

    plain     no lock
    right     with the key, as a user or a service answers
    wrong     with other keys
    no_key    the stolen file alone

Shadow models are trained as the judged model was. Where a model trains under a
key, so were they, under the same one, and they answer in the same condition:
that is more than an attacker without the key could do. Otherwise they are
plain, which an attacker trains without any key.
"""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

import keyjax
from experiments.interpretation.conditions import Condition, conditions
from experiments.membership import (
  attacks,
  models,
  plan,
  private,
  replies,
  rows,
)
from experiments.membership.attacks import Answers
from experiments.protection.job import Rows
from experiments.run import results
from experiments.run.tasks import Task
from keyjax.attacks.privacy import leakage, roc, stacked
from keyjax.scheme import PyTree, binds

RATES = (0.01, 0.001)  # FPRs at which rows have the TPR.
_BATCH = 500
_UNLOCKED = keyjax.identity()
_CONDITIONS = ("right", "wrong", "no_key")


_CHUNK = 8  # Models that answer side by side.


class Kept:
  """What was computed last, which attacks and judges share.

  Attributes:
    judged: Answers of the judged models of a group in a condition, and their
      members, by the names of both.
    shadows: What all models of a group answer, of the pool and of the rest, by
      the names of the models and of the condition.
  """

  def __init__(self) -> None:
    """Keep nothing yet."""
    self.judged: dict[tuple[str, str], list[tuple[Answers, np.ndarray]]] = {}
    self.shadows: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]] = {}


def tasks(config: ConfigDict, found: models.Models) -> list[Task]:
  """Return what a config asks for, group by group.

  Args:
    config: Config with `privacy`.
    found: Its models.
  """
  made, kept = [], Kept()
  for group in plan.groups(config):
    judge = Judge(config, found, group, kept)
    for condition in judge.conditions:
      made.append(judge.task(condition, "", ""))
      for attack in config.privacy.attacks:
        made.append(judge.task(condition, attack, ""))
    if group == f"{plan.NONE}/{plan.NONE}":
      for reply in config.privacy.replies:
        for attack in config.privacy.attacks:
          if not attacks.get(attack).asks:
            made.append(judge.task("api", attack, reply))
  return made


class Judge:
  """Judges the models of one group.

  Attributes:
    conditions: Names of the conditions that the group has.
  """

  def __init__(
    self, config: ConfigDict, found: models.Models, group: str, kept: Kept
  ) -> None:
    """Prepare to judge; nothing is trained yet.

    Args:
      config: Config with `privacy`.
      found: Its models.
      group: Name of the group.
      kept: Shared by all judges.
    """
    self._kept = kept
    self._config = config
    self._models = found
    self._group = group
    self._scheme = group.split("/")[0]
    self.conditions: tuple[str, ...] = _CONDITIONS
    if found.job.config.schemes[self._scheme].scheme == "identity":
      self.conditions = ("plain",)
    elif not config.privacy.wrong_keys:
      self.conditions = ("right", "no_key")

  def task(self, condition: str, attack: str, reply: str) -> Task:
    """Return a task: an attack, or "" for the accuracy alone."""
    parts = (condition, attack, reply)
    title = plan.title(self._config, self._group)
    said = replies.parse(reply)[0] if reply else condition
    what = attacks.get(attack).title if attack else "accuracy"
    measure = self._attack if attack else self._accuracy
    return Task(
      name=plan.row_name(self._config, self._group, parts),
      title=f"{title}, {said}: {what}",
      measure=functools.partial(measure, *parts),
    )

  @functools.cached_property
  def _guaranteed(self) -> dict[str, Any]:
    found = self._models.guarantee(self._group)
    if found is None:
      return {}
    forgets = plan.forgets_noise(self._config, self._group)
    return {"privacy": found.fields(), "forgets_noise": forgets}

  def _fields(self, condition: str, attack: str, reply: str) -> dict[str, Any]:
    spec = self._config.schemes[self._scheme]
    fields = results.names(self._scheme, spec) | self._guaranteed
    fields |= {
      "title": plan.title(self._config, self._group),
      "training": self._group.split("/")[1],
      "condition": condition,
      "attack": attack,
      "attack_title": attacks.get(attack).title if attack else "",
      "reply": reply,
      "examples": self._config.privacy.pool,
      "shadows": self._config.privacy.models - 1,
      "label_noise": self._config.privacy.noise,
    }
    return rows.stated(self._config, self._models.job, fields) | fields

  def _accuracy(self, condition: str, attack: str, reply: str) -> Rows:
    """Return how well the judged models classify, members and others."""
    fields = self._fields(condition, attack, reply)
    shares: dict[str, list[float]] = {"train": [], "test": []}
    finite = []
    for found, members in self._judged(condition):
      right = found.logits.argmax(-1) == found.labels
      right &= np.isfinite(found.logits).all(-1)
      rest = found.rest.argmax(-1) == found.rest_labels
      rest &= np.isfinite(found.rest).all(-1)
      shares["train"].append(float(right[members].mean()))
      shares["test"].append(float(rest.mean()))
      finite.append(float(np.isfinite(found.rest).all(-1).mean()))
    return [
      results.row(
        fields,
        metric=f"{name}_accuracy",
        value=float(np.mean(values)),
        low=min(values),
        high=max(values),
        interval="least and greatest of the judged models",
        values=values,
        nonfinite=1 - float(np.mean(finite)),
      )
      for name, values in shares.items()
    ]

  def _attack(self, condition: str, attack: str, reply: str) -> Rows:
    """Return AUC, accuracy and TPRs of one attack, over the judged models."""
    scores = attacks.get(attack).scores
    delta = self._config.privacy.delta
    leaks, curves, bounds = [], [], []
    for found, members in self._judged(condition):
      seen = _through(found, reply) if reply else found
      named = scores(seen)
      leaks.append(leakage.leak(named, members, RATES))
      curves.append(rows.thinned(roc.curve(named, members)))
      if delta:
        bounds.append(private.bound(named, members, delta))
    fields = self._fields(condition, attack, reply)
    fields |= {
      "models": len(leaks),
      "members": leaks[0].members,
      "others": leaks[0].others,
      "nan": sum(x.nan for x in leaks) / len(leaks),
    }
    found_rows = [
      rows.row(fields, "auc", [x.auc for x in leaks], curves=curves),
      rows.row(fields, "balanced_accuracy", [x.accuracy for x in leaks]),
    ]
    for i, rate in enumerate(RATES):
      points = [x.points[i] for x in leaks]
      resolved = all(p.resolved for p in points)
      tprs = [p.tpr for p in points]
      found_rows.append(
        rows.row(fields, f"tpr_{rate:g}", tprs, resolved=resolved)
      )
    if bounds:
      found_rows.append(rows.audit(fields, bounds, delta))
    return found_rows

  def _judged(self, condition: str) -> list[tuple[Answers, np.ndarray]]:
    """Return the answers of each judged model, and who its members are."""
    name = (self._group, "plain" if condition == "api" else condition)
    if name not in self._kept.judged:
      self._kept.judged.clear()
      members = self._models.group(self._group).members
      self._kept.judged[name] = [
        (found, members[number])
        for number in range(self._config.privacy.targets)
        for found in self._answers(number, condition)
      ]
    return self._kept.judged[name]

  def _answers(self, number: int, condition: str) -> Iterator[Answers]:
    """Yield the answers of one model: with several wrong keys, of each."""
    target = self._models.target(self._group, number)
    job = self._models.job
    wanted = "right" if condition in ("plain", "api") else condition
    wrong = self._config.privacy.wrong_keys if wanted == "wrong" else 0
    for one in conditions(job, self._scheme, target, wrong):
      if one.name == wanted:
        yield self._in_condition(number, one, target.apply_fn)

  def _in_condition(
    self, number: int, condition: Condition, apply_fn: Any
  ) -> Answers:
    group, rest = self._models.group(self._group), self._models.rest
    pool = self._models.pool
    trains = self._models.job.locks[self._scheme].trains
    others = [i for i in range(len(group.members)) if i != number]

    def answered(x: np.ndarray) -> np.ndarray:
      return logits_in(condition, apply_fn, own, x)[0]

    def answered_by_shadow(x: np.ndarray) -> np.ndarray:
      return logits_in(condition if trains else None, apply_fn, first, x)[0]

    first = jax.tree.map(lambda x: x[others[:1]], group.params)
    own = jax.tree.map(lambda x: np.asarray(x)[None], condition.params)
    of_pool, of_rest = self._of_all(condition if trains else None, apply_fn)
    return Answers(
      labels=pool.label,
      logits=answered(pool.image),
      shadows=of_pool[others],
      members=group.members[others],
      rest_labels=rest.label,
      rest=answered(rest.image),
      rest_shadows=of_rest[others],
      images=pool.image,
      predict=lambda x: _classes(answered(x)),
      predict_shadow=lambda x: _classes(answered_by_shadow(x)),
      seed=number,
    )

  def _of_all(
    self, condition: Condition | None, apply_fn: Any
  ) -> tuple[np.ndarray, np.ndarray]:
    """Return what all models of the group answer, of the pool and of the rest.

    Each judged model has the others as its shadow models, so these are kept,
    but under wrong keys, of which each judged model has its own.
    """
    models_name = self._models.trained(self._group)
    name = models_name, condition.name if condition else "plain"
    kept = self._kept.shadows
    if name in kept:
      return kept[name]
    params = self._models.group(self._group).params
    chunk = min(_CHUNK, self._config.privacy.side_by_side)
    of_pool, of_rest = (
      logits_in(condition, apply_fn, params, x.image, chunk=chunk)
      for x in (self._models.pool, self._models.rest)
    )
    kept.clear()
    if name[1] != "wrong":
      kept[name] = of_pool, of_rest
    return of_pool, of_rest


def logits_in(
  condition: Condition | None,
  apply_fn: Any,
  params: PyTree,
  images: np.ndarray,
  chunk: int = 1,
) -> np.ndarray:
  """Return what stacked models answer, float32[k, n, c], NaN or not.

  Args:
    condition: Condition whose key they run under; None for plain models.
    apply_fn: Plain forward pass.
    params: Variables, with a first axis over models.
    images: float32[n, ...].
    chunk: Models that answer side by side.
  """
  shared, run = {}, apply_fn
  if condition and binds(condition.scheme):
    shared = models.key_collection(condition.key)
    run = models.under_key(condition.scheme, apply_fn)
  return stacked.answers(
    run,
    params,
    images,
    chunk=chunk,
    batch_size=_BATCH,
    shared=shared,
    finite=False,
  )


def _classes(logits: np.ndarray) -> np.ndarray:
  """Return the predicted classes; -1 where a model answers NaN."""
  is_finite = np.isfinite(logits).all(-1)
  return np.where(is_finite, logits.argmax(-1), -1)


def _through(found: Answers, reply: str) -> Answers:
  """Return answers as a service gives them, of shadow models too."""
  answer = replies.parse(reply)[1]
  return found._replace(
    logits=answer(found.logits),
    shadows=answer(found.shadows),
    rest=answer(found.rest),
    rest_shadows=answer(found.rest_shadows),
  )
