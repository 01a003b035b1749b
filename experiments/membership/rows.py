"""Rows of what an attack found, over the judged models."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from experiments.membership import attacks, replies
from experiments.protection.job import Job
from experiments.run import results
from keyjax.attacks.privacy import leakage, roc

_POINTS = 60  # Of a curve in a row.
_DRAWN = "at random from the training images; "
_HALVES = "each example is in half of the models"
_COINS = "a coin for each example and each judged model"  # For audits.


def stated(
  config: ConfigDict, job: Job, row: Mapping[str, Any]
) -> dict[str, Any]:
  """Return what an attack assumes, as rows state it.

  It follows from what is measured, and is in no row of an older release.

  Args:
    config: Config with `privacy`.
    job: Its job.
    row: The row: its `scheme`, `attack`, `reply` and `shadows`.
  """
  used, kind = 0, "none"
  if row["attack"]:
    own = attacks.get(row["attack"]).shadows
    used = row["shadows"] if own is None else own
  if used:
    kind = "same key" if job.locks[row["scheme"]].trains else "plain"
  return {
    "draw": _DRAWN + (_COINS if config.privacy.delta else _HALVES),
    "shadows_used": used,
    "shadow_models": kind,
    "reply_title": replies.parse(row["reply"])[0] if row["reply"] else "",
  }


def row(
  fields: dict[str, Any],
  metric: str,
  found: list[leakage.Estimate],
  **more: Any,
) -> dict[str, Any]:
  """Return the mean over judged models, with the widest of their intervals."""
  return results.row(
    fields,
    metric=metric,
    value=float(np.mean([x.value for x in found])),
    low=min(x.low for x in found),
    high=max(x.high for x in found),
    interval="hull of a 95 % bootstrap over examples of each judged model",
    values=[x.value for x in found],
    **more,
  )


def audit(
  fields: dict[str, Any], bounds: list[float], delta: float
) -> dict[str, Any]:
  """Return the epsilon that each judged model's training exceeds, at delta."""
  return results.row(
    fields,
    metric="epsilon_bound",
    value=float(np.mean(bounds)),
    low=min(bounds),
    high=max(bounds),
    interval="least and greatest of the judged models",
    values=bounds,
    delta=delta,
    method="one training run, each bound at 95 %",
  )


def thinned(found: roc.Curve) -> list[list[float]]:
  """Return some points of a curve, dense at its left end: [[fpr, tpr]]."""
  least = 1 / found.others
  at = np.concatenate([[0.0], np.geomspace(least, 1.0, _POINTS)])
  picked = np.searchsorted(found.fpr, at + 1e-12, side="right") - 1
  picked = np.unique(picked)
  return [
    [round(float(found.fpr[i]), 6), round(float(found.tpr[i]), 6)]
    for i in picked
  ]
