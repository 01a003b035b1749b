"""What an attack proves about epsilon, from below."""

import numpy as np

from keyjax import extras


def lower_bound(
  scores_in: np.ndarray,
  scores_out: np.ndarray,
  delta: float,
  *,
  confidence: float = 0.95,
  one_run: bool = False,
) -> float:
  """Return an epsilon that a training exceeds, by how well canaries are told.

  A training that claims less than this is wrong, or its assumptions are: a
  forgotten noise, a gradient of another norm, batches that are no Poisson
  batches. A bound below the claim proves nothing: the attack may be weak, and
  n scores never show more than about log(n).

  Args:
    scores_in: float[n], scores of canaries that were trained on; higher is
      more like a member.
    scores_out: float[m], scores of canaries that were not.
    delta: The delta of the claim.
    confidence: Probability that the bound holds, over the draws of canaries
      and noise.
    one_run: Whether all canaries were in one training, each in or out by a
      coin of its own (Steinke et al., "Privacy auditing with one training run",
      2023). Otherwise each score is of a training of its own.

  Raises:
    ValueError: If an argument is out of range, or a score is not finite.
    KeyringError: If jax-privacy is not installed.

  Example:
    >>> rng = np.random.default_rng(0)
    >>> same = lower_bound(rng.normal(size=500), rng.normal(size=500), 1e-5)
    >>> apart = lower_bound(np.ones(500), np.zeros(500), 1e-5)
    >>> same < 0.5, apart > 4
    (True, True)
  """
  if not 0 < delta < 1 or not 0.5 < confidence < 1:
    raise ValueError(
      f"delta={delta}, confidence={confidence}: delta is between 0 and 1, "
      "confidence above 0.5"
    )
  scores = [np.asarray(x, np.float64) for x in (scores_in, scores_out)]
  if any(x.ndim != 1 or not x.size for x in scores):
    shapes = " and ".join(str(x.shape) for x in scores)
    raise ValueError(f"scores are float[n] of some canaries; got {shapes}")
  if not all(np.isfinite(x).all() for x in scores):
    raise ValueError("a score is not finite: no threshold orders it")
  auditing = extras.library("jax_privacy.auditing", "privacy")
  auditor = auditing.CanaryScoreAuditor(*scores)
  bound = (
    auditor.epsilon_one_run if one_run else auditor.epsilon_clopper_pearson
  )
  return float(bound(1 - confidence, delta))
