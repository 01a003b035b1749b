"""The attacks of a config, by name: from a model's answers to scores.

`NAME:COUNT` is an attack with fewer shadow models: each example is judged by so
many of them, half of which were trained on it, or none if the attack is
offline. They are drawn for each example, and what is known of the population is
what as many models say of it.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from keyjax.attacks.privacy import (
  baselines,
  label_only,
  lira,
  rmia,
  roc,
  shokri,
  signals,
)

_NOISE = (0.05, 0.1, 0.2, 0.3)  # Of copies; a shadow model says which is best.
_COPIES = 50


class Answers(NamedTuple):
  """What one model and its shadow models answer in one condition.

  Attributes:
    labels: int[n], of the pool.
    logits: float32[n, c] of the judged model.
    shadows: float32[k, n, c] of the shadow models.
    members: bool[k, n], the training data of the shadow models.
    rest_labels: int[m], of examples that no model was trained on.
    rest: float32[m, c], the judged model's answers for them.
    rest_shadows: float32[k, m, c], those of the shadow models.
    images: float32[n, ...], the pool.
    predict: The judged model's classes of images.
    predict_shadow: Those of the first shadow model.
    seed: Seed of what an attack draws: the number of the judged model.
  """

  labels: np.ndarray
  logits: np.ndarray
  shadows: np.ndarray
  members: np.ndarray
  rest_labels: np.ndarray
  rest: np.ndarray
  rest_shadows: np.ndarray
  images: np.ndarray
  predict: label_only.Predict
  predict_shadow: label_only.Predict
  seed: int = 0


class Attack(NamedTuple):
  """An attack.

  Attributes:
    title: Title in reports.
    scores: Function from answers to scores, float64[n].
    asks: Whether it asks the model about images of its own.
    shadows: Number of shadow models that it uses; None for all.
    least: Fewest shadow models with an example, and without it, by which it
      can judge; None if it cannot do with a part of them.
  """

  title: str
  scores: Callable[[Answers], np.ndarray]
  asks: bool = False
  shadows: int | None = None
  least: tuple[int, int] | None = None


def get(name: str) -> Attack:
  """Return an attack by its name, such as `rmia`, or `rmia:4`.

  Raises:
    ValueError: If there is none, or it cannot judge by so many shadow models.

  Example:
    >>> get("rmia:4").title
    'RMIA, 4 shadow models'
  """
  stem, colon, number = name.partition(":")
  found = (ATTACKS | _OTHERS).get(stem)
  if found is None:
    known = ", ".join(ATTACKS | _OTHERS)
    raise ValueError(f"privacy.attacks: {name!r}: choose from {known}")
  return _by_few(name, found, number) if colon else found


def check_count(name: str, models: int) -> None:
  """Refuse an attack `NAME:COUNT` with more shadow models than there are.

  Args:
    name: Name of the attack.
    models: Number of models of a group, the judged one included.

  Raises:
    ValueError: If an example may have fewer with it, or without it.
  """
  count = get(name).shadows
  if ":" not in name or count is None:
    return
  with_it, without = _sides(get(name), count)
  needed = max(with_it, without)
  # Half of an even number of models; the judged one and a last one are none.
  most = (models + models % 2) // 2 - 1 - models % 2
  if needed > most:
    kind = "with" if with_it else "without"
    raise ValueError(
      f"privacy.attacks: {name!r} needs {needed} shadow models {kind} each "
      f"example: privacy.models={models} has {most}"
    )


def _by_few(name: str, attack: Attack, number: str) -> Attack:
  """Return an attack that judges each example by so many shadow models."""
  count = int(number) if number.isdecimal() else 0
  if attack.least is None:
    able = ", ".join(k for k, v in (ATTACKS | _OTHERS).items() if v.least)
    raise ValueError(
      f"privacy.attacks: {name!r}: a number of shadow models goes with {able}"
    )
  with_it, without = _sides(attack, count)
  fewest = attack.least
  enough = with_it >= fewest[0] and without >= fewest[1]
  if not enough or with_it + without != count:
    kind = "an even number" if fewest[0] else "a number"
    raise ValueError(
      f"privacy.attacks: {name!r}: give {kind} of shadow models, at least "
      f"{sum(fewest)}, after the colon"
    )
  many = "model" if count == 1 else "models"
  return attack._replace(
    title=f"{attack.title}, {count} shadow {many}",
    scores=functools.partial(_scores_of_few, attack, count),
    shadows=count,
  )


def _sides(attack: Attack, count: int) -> tuple[int, int]:
  """Return how many shadow models have an example, and how many have not."""
  assert attack.least is not None
  return (count // 2, count // 2) if attack.least[0] else (0, count)


def _scores_of_few(attack: Attack, count: int, found: Answers) -> np.ndarray:
  """Return scores by `count` shadow models of each example."""
  rng = np.random.default_rng([found.seed, count])
  order = rng.random(found.members.shape).argsort(0)  # For each example.
  among = np.take_along_axis(found.members, order, 0)
  with_it, without = _sides(attack, count)
  rows = [
    np.take_along_axis(order, np.argsort(~side, axis=0, kind="stable"), 0)[:n]
    for side, n in ((among, with_it), (~among, without))
  ]
  picked = np.concatenate(rows)
  models = rng.permutation(len(found.members))[:count]
  return attack.scores(
    found._replace(
      shadows=np.take_along_axis(found.shadows, picked[..., None], 0),
      members=np.take_along_axis(found.members, picked, 0),
      rest_shadows=found.rest_shadows[models],
    )
  )


def _gap(found: Answers) -> np.ndarray:
  return baselines.gap(found.logits, found.labels)


def _loss(found: Answers) -> np.ndarray:
  return baselines.loss(found.logits, found.labels)


def _label_only(found: Answers) -> np.ndarray:
  best = max(
    _NOISE,
    key=lambda scale: roc.auc(
      roc.curve(_robust(found, found.predict_shadow, scale), found.members[0])
    ),
  )
  return _robust(found, found.predict, best)


def _robust(
  found: Answers, predict: label_only.Predict, scale: float
) -> np.ndarray:
  copies = label_only.noise(found.images, scale, copies=_COPIES)
  return label_only.ask(predict, found.labels, copies).scores


def _shokri(found: Answers) -> np.ndarray:
  p = np.exp(signals.log_probabilities(found.shadows))
  attack = shokri.fit(p, found.labels, found.members)
  vectors = np.exp(signals.log_probabilities(found.logits))
  return shokri.scores(attack, vectors, found.labels)


def _lira(online: bool, variance: str) -> Callable[[Answers], np.ndarray]:
  def scores(found: Answers) -> np.ndarray:
    return lira.scores(
      signals.log_odds(found.logits, found.labels),
      signals.log_odds(found.shadows, found.labels),
      found.members,
      online=online,
      variance=variance,
    )

  return scores


def _rmia(online: bool) -> Callable[[Answers], np.ndarray]:
  def scores(found: Answers) -> np.ndarray:
    return rmia.scores(
      signals.log_confidence(found.logits, found.labels),
      signals.log_confidence(found.shadows, found.labels),
      found.members,
      signals.log_confidence(found.rest, found.rest_labels),
      signals.log_confidence(found.rest_shadows, found.rest_labels),
      online=online,
      gamma=1.0,  # As their code; at a temperature, ratios are below 2.
    )

  return scores


ATTACKS = {
  "gap": Attack("gap", _gap, shadows=0),
  "loss": Attack("loss threshold", _loss, shadows=0),
  "label_only": Attack(
    "labels of noisy copies", _label_only, asks=True, shadows=1
  ),
  "shokri": Attack("shadow attack", _shokri),
  "lira_offline": Attack(
    "LiRA, offline", _lira(False, "example"), least=(0, 2)
  ),
  "lira": Attack("LiRA", _lira(True, "example"), least=(2, 2)),
  "lira_fixed": Attack(
    "LiRA, one variance", _lira(True, "fixed"), least=(1, 1)
  ),
  "rmia_offline": Attack("RMIA, offline", _rmia(False), least=(0, 1)),
  "rmia": Attack("RMIA", _rmia(True), least=(1, 1)),
}
# Which configs have by name alone.
_OTHERS = {
  "lira_offline_fixed": Attack(
    "LiRA, offline, one variance", _lira(False, "fixed"), least=(0, 1)
  ),
}
