"""The attacks of a config, by name: from a model's answers to scores."""

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


class Attack(NamedTuple):
  """An attack.

  Attributes:
    title: Title in reports.
    scores: Function from answers to scores, float64[n].
    asks: Whether it asks the model about images of its own.
    shadows: Number of shadow models that it uses; None for all.
  """

  title: str
  scores: Callable[[Answers], np.ndarray]
  asks: bool = False
  shadows: int | None = None


def get(name: str) -> Attack:
  """Return an attack by its name.

  Raises:
    ValueError: If there is none.
  """
  if name not in ATTACKS:
    known = ", ".join(ATTACKS)
    raise ValueError(f"privacy.attacks: {name!r}: choose from {known}")
  return ATTACKS[name]


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
  "lira_offline": Attack("LiRA, offline", _lira(False, "example")),
  "lira": Attack("LiRA", _lira(True, "example")),
  "lira_fixed": Attack("LiRA, one variance", _lira(True, "fixed")),
  "rmia_offline": Attack("RMIA, offline", _rmia(False)),
  "rmia": Attack("RMIA", _rmia(True)),
}
