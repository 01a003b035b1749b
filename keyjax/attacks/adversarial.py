"""Scores of adversarial images: the referee of `Goal.TRANSFER`."""

import numpy as np

from keyjax.attacks import intervals
from keyjax.attacks.forward import logits
from keyjax.attacks.game import Adversarial, Score, Target

_ROUNDING = 1e-6  # Error of a float32 sum at the edge of a ball.


def score(value: Adversarial, target: Target) -> Score:
  """Return the share of victims that the authorised model misclassifies.

  Only victims that it classifies correctly unchanged count, since the others
  need no attack. A claim that breaks a rule scores 0, and its details name the
  rule.

  Args:
    value: The changed victims.
    target: Target with the `victims` that the referee set.

  Returns:
    The share with its Clopper-Pearson interval; `images` of its details is the
    number of victims that count.

  Raises:
    ValueError: If the game has no victims.
  """
  if target.victims is None:
    raise ValueError("a claim of adversarial images needs Attacker.victims")
  clean, label = target.victims
  broken = outside(value, clean)
  if broken:
    return Score(0.0, 0.0, 0.0, {"outside": broken})
  model = target.authorized()
  plain, changed = (
    logits(model, np.asarray(x, np.float32), len(label)).argmax(-1)
    for x in (clean, value.image)
  )
  right = plain == label
  hits = int((right & (changed != label)).sum())
  total = int(right.sum())
  low, high = intervals.clopper_pearson(hits, total) if total else (0.0, 1.0)
  details = {"images": total, "victims": len(label), "epsilon": value.epsilon}
  return Score(hits / max(total, 1), low, high, details)


def outside(value: Adversarial, clean: np.ndarray) -> str:
  """Return the rule of the game that a claim breaks; empty for none.

  Args:
    value: The claim.
    clean: float32[n, h, w, c], the unchanged victims.

  Example:
    >>> clean = np.zeros((1, 2, 2, 1), np.float32)
    >>> outside(Adversarial(clean + 0.1, 0.1), clean)
    ''
    >>> outside(Adversarial(clean + 0.2, 0.1), clean)
    'pixels outside the ball'
  """
  image = np.asarray(value.image)
  if image.shape != clean.shape:
    return "other images than the victims"
  if not ((image >= 0) & (image <= 1)).all():  # False for NaN too.
    return "pixels outside [0, 1]"
  if np.abs(image - clean).max(initial=0) > value.epsilon + _ROUNDING:
    return "pixels outside the ball"
  return ""
