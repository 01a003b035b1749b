"""RMIA: how often an example gains more from the target than others do.

The target's probability of an example, relative to that of other models, is
compared with the same ratio of many examples of the population. It needs fewer
models than LiRA: one with and one without each example are enough.

Needs: probabilities or logits of the target, reference models trained as it
was, with and without each example (online), or only without (offline), and
examples of the population, in no model's training data. Cost: 1 to 64
trainings; one query an example, and one for each of the population.

Source: Sajjad Zarifzadeh, Philippe Liu and Reza Shokri, "Low-cost high-power
membership inference attacks", ICML 2024. Offline, the mean probability under
models with an example is taken to be a p + (1 - a), of the mean p under those
without. Their code, ml_privacy_meter, compares with 1 instead of gamma.
"""

from typing import Any

import numpy as np
import scipy.special

from keyjax.attacks.privacy import signals


def scores(
  target: Any,
  references: Any,
  members: Any,
  population_target: Any,
  population_references: Any,
  *,
  online: bool = True,
  gamma: float = 2.0,
  a: float = 0.3,
) -> np.ndarray:
  """Return the share of the population over which an example is dominant.

  The score is P_z[(p(x | t) / p(x)) / (p(z | t) / p(z)) >= gamma]. Online,
  p(x) is the mean of the means over the models with x and over those without
  it, and p(z) the mean over all. Offline, both are ((1 + a) p + (1 - a)) / 2 of
  the mean p over models without the example.

  Args:
    target: float[n], `signals.log_confidence` of the target.
    references: float[k, n], that of the reference models.
    members: bool[k, n], the training data of the reference models.
    population_target: float[m], that of the target for the population.
    population_references: float[k, m], that of the reference models for it.
    online: Whether to use the models with the example.
    gamma: Ratio from which an example is dominant, at least 1.
    a: Slope of the offline correction, from 0 to 1: tune it on a reference
      model in the target's place. 1 is no correction.

  Returns:
    float64[n]; NaN where the target's answer is NaN. Answers for the population
    that are NaN count as ones that the example does not dominate.

  Raises:
    ValueError: If an argument is wrong, an example has no model with or
      (always) without it, or a reference's answer is NaN or infinite.

  Example:
    >>> members = np.array([[True, False], [False, True]])
    >>> same = np.log(np.full((2, 3), 0.5))
    >>> scores(np.log([0.9, 0.1]), np.log(np.full((2, 2), 0.3)), members,
    ...   same[0], same).tolist()
    [1.0, 0.0]
  """
  gamma = signals.check_above(gamma, "gamma", 0)
  if gamma < 1:
    raise ValueError(f"gamma={gamma:g}: at least 1")
  a = signals.check_share(a, "a")
  log_x = _logarithms(references, "references", (2,), finite=True)
  log_z = _logarithms(
    population_references, "population_references", (2,), finite=True
  )
  x = _logarithms(target, "target", (1,))
  z = _logarithms(population_target, "population_target", (1,))
  k = len(log_x)
  if log_x.shape != (k, len(x)) or log_z.shape != (k, len(z)):
    raise ValueError(
      f"references have shape {log_x.shape} and {log_z.shape} for the "
      f"population: pass [k, {len(x)}] and [k, {len(z)}] of the same k models"
    )
  among = signals.check_members(
    members, log_x.shape, least_in=1 if online else 0, least_out=1
  )
  without = _log_mean(log_x, ~among)
  everywhere = _log_mean(log_z, np.ones_like(log_z, bool))
  if online:
    p_x = np.logaddexp(_log_mean(log_x, among), without) - np.log(2)
    p_z = everywhere
  else:
    p_x, p_z = _corrected(without, a), _corrected(everywhere, a)
  with np.errstate(invalid="ignore"):
    gain_x, gain_z = x - p_x, z - p_z
  ranked = np.sort(gain_z[~np.isnan(gain_z)])
  dominated = np.searchsorted(ranked, gain_x - np.log(gamma), side="right")
  dominated = np.where(gain_x == -np.inf, 0, dominated)
  return np.where(np.isnan(gain_x), np.nan, dominated / len(z))


def _logarithms(
  values: Any, name: str, dimensions: tuple[int, ...], finite: bool = False
) -> np.ndarray:
  """Return logarithms of probabilities, or raise ValueError."""
  found = signals.check_values(values, name, dimensions, finite)
  if np.nanmax(found, initial=-np.inf) > 1e-9:
    raise ValueError(
      f"{name} has values above 0: pass logarithms of probabilities, from "
      "`signals.log_confidence`"
    )
  return found


def _log_mean(logs: np.ndarray, chosen: np.ndarray) -> np.ndarray:
  """Return the log of the mean probability over the chosen models, [n]."""
  total = scipy.special.logsumexp(np.where(chosen, logs, -np.inf), axis=0)
  return np.asarray(total - np.log(chosen.sum(0)))


def _corrected(log_p: np.ndarray, a: float) -> np.ndarray:
  """Return the log of ((1 + a) p + (1 - a)) / 2."""
  with np.errstate(divide="ignore"):  # The log of 0, for a = 1.
    return np.logaddexp(log_p + np.log1p(a), np.log1p(-a)) - np.log(2)
