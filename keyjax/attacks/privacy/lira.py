"""LiRA: a likelihood ratio for each example, from shadow models.

Members are more likely under the distribution of phi (`signals.log_odds`) over
models with the example than over those without it. An example that every model
gets right says little, and one that only memorising gets right says much: a
threshold for all of them cannot use that.

Needs: probabilities or logits of the target, and shadow models trained as it
was, with and without each example (online), or only without (offline). Cost:
64 to 256 trainings, offline shared by all later examples; one query an example.

Source: Nicholas Carlini, Steve Chien, Milad Nasr, Shuang Song, Andreas Terzis
and Florian Tramer, "Membership inference attacks from first principles", IEEE
S&P 2022. As in their code, the centre is the median and deviations divide by
the number of models. That code takes the fixed deviation of models without the
example from the models with it, which appears to be a slip; here, each has its
own. Its offline attack scores the density, high on both sides; here it is the
paper's one-sided test.
"""

from typing import Any, NamedTuple

import numpy as np

from keyjax.arguments import require_choice
from keyjax.attacks.privacy import signals

_FLOOR = 1e-30  # Of a deviation, where all shadow models agree.


class _Normal(NamedTuple):
  """A normal distribution for each example; both broadcast to [n, q]."""

  center: np.ndarray
  deviation: np.ndarray

  def standardised(self, x: np.ndarray) -> np.ndarray:
    return np.asarray((x - self.center) / self.deviation)

  def log_density(self, x: np.ndarray) -> np.ndarray:
    """Return the log density up to a constant, which a ratio cancels."""
    return -0.5 * self.standardised(x) ** 2 - np.log(self.deviation)


def scores(
  target: Any,
  shadows: Any,
  members: Any,
  *,
  online: bool = True,
  variance: str = "example",
  center: str = "median",
) -> np.ndarray:
  """Return the log likelihood ratio of each example.

  Args:
    target: float[n], phi of the target, or [n, q] for q queries of each example
      (mirrored, shifted), over which the log likelihoods are averaged.
    shadows: float[k, n] or [k, n, q], phi of the shadow models.
    members: bool[k, n], the training data of the shadow models.
    online: Whether to use the models with the example. Otherwise, the score is
      the standardised phi, by which the paper's 1 - P(Z > phi) sorts as well.
    variance: "example", the deviation of each example, for many models; or one
      for all, of the models with and of those without: "fixed", that of all
      their values (as the official code), or "pooled", that around the centre
      of each example.
    center: "median" (as the official code) or "mean".

  Returns:
    float64[n]; NaN where the target's phi is NaN. A phi that is infinite, or
    whose square is, has no density: its score is infinite, of the same sign
    (NaN where those of several queries have both signs).

  Raises:
    ValueError: If an argument is wrong, an example has fewer than 2 models with
      or (always) without it, 1 where variance is "fixed", or a shadow model's
      phi is NaN or infinite, or its square is.

  Example:
    >>> members = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], bool)
    >>> phi = np.array([[5.0, 1.0], [6.0, 2.0], [1.0, 5.0], [2.0, 6.0]])
    >>> scores(np.array([5.5, 1.5]), phi, members).tolist()
    [32.0, -32.0]
  """
  require_choice(variance, "variance", ("example", "fixed", "pooled"))
  require_choice(center, "center", ("median", "mean"))
  phi = signals.check_values(shadows, "shadows", (2, 3), finite=True)
  x = signals.check_values(target, "target", (phi.ndim - 1,))
  if x.shape != phi.shape[1:]:
    raise ValueError(
      f"target has shape {x.shape}, shadows {phi.shape}: pass {phi.shape[1:]}"
    )
  least = 1 if variance == "fixed" else 2
  among = signals.check_members(
    members, phi.shape[:2], least_in=least if online else 0, least_out=least
  )
  if phi.ndim == 2:
    phi, x = phi[..., None], x[..., None]
  without = _fit(phi, ~among, variance, center)
  with np.errstate(invalid="ignore", over="ignore"):
    if not online:
      return np.asarray(without.standardised(x).mean(-1))
    within = _fit(phi, among, variance, center)
    inside, outside = within.log_density(x), without.log_density(x)
    far = np.isinf(inside) | np.isinf(outside)
    ratio = np.where(far, np.copysign(np.inf, x), inside - outside)
    return np.asarray(ratio.mean(-1))


@np.errstate(invalid="ignore", over="ignore")
def _fit(
  phi: np.ndarray, chosen: np.ndarray, variance: str, center: str
) -> _Normal:
  """Return the distribution of each example over its chosen models.

  Args:
    phi: float64[k, n, q].
    chosen: bool[k, n].
    variance: As in `scores`.
    center: As in `scores`.
  """
  chosen = np.broadcast_to(chosen[..., None], phi.shape)
  counts = chosen.sum(0)  # [n, q]
  means = np.where(chosen, phi, 0).sum(0) / counts
  squares = np.where(chosen, np.square(phi - means), 0)
  if variance == "fixed":
    deviation = np.asarray(phi[chosen].std())
  elif variance == "pooled":
    deviation = np.asarray(np.sqrt(squares.sum() / int(counts.sum())))
  else:
    deviation = np.sqrt(squares.sum(0) / counts)
  if not np.isfinite(deviation).all():
    raise ValueError("shadows has values whose squares no float holds")
  middle = means if center == "mean" else _medians(phi, chosen, counts)
  return _Normal(middle, deviation + _FLOOR)


def _medians(
  phi: np.ndarray, chosen: np.ndarray, counts: np.ndarray
) -> np.ndarray:
  """Return the medians of the chosen values along the first axis."""
  ranked = np.sort(np.where(chosen, phi, np.inf), axis=0)

  def at(rank: np.ndarray) -> np.ndarray:
    return np.take_along_axis(ranked, rank[None], axis=0)[0]

  return np.asarray((at((counts - 1) // 2) + at(counts // 2)) / 2)
