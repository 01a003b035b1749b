"""Linear CKA: the similarity of two representations of the same examples.

    CKA(X, Y) = ||Y^T X||^2 / (||X^T X|| ||Y^T Y||)     X, Y centred

It is 1 for representations that differ by an orthogonal map and a scale. With
fewer examples than features the plug-in estimate is near 1 even for noise; the
debiased one is near 0 there, and may be slightly negative.

References:
  Kornblith et al., "Similarity of Neural Network Representations Revisited",
  ICML 2019, arXiv 1905.00414. Song et al., "Feature Selection via Dependence
  Maximization", JMLR 13, 2012: the unbiased HSIC. Nguyen, Raghu, Kornblith,
  "Do Wide and Deep Networks Learn the Same Things?", ICLR 2021, arXiv
  2010.15327, and Murphy, Zylberberg, Fyshe, "Correcting Biased Centered
  Kernel Alignment Measures in Biological and Artificial Neural Networks",
  2024, arXiv 2405.01012: why to debias. Davari et al., "Reliability of CKA as
  a Similarity Measure", ICLR 2023, arXiv 2210.16156: a few outliers move it.
"""

from collections.abc import Callable

import numpy as np
import scipy.stats

from keyjax.attacks.intervals import CONFIDENCE


def gram(x: np.ndarray) -> np.ndarray:
  """Return the inner products of examples, float64[n, n], up to scale.

  Args:
    x: Finite float[n, features].
  """
  x = np.asarray(x, np.float64)
  x = x / (np.abs(x).max() or 1.0)  # Wrong keys give weights of 1e30.
  x = x - x.mean(0)
  return x @ x.T


def linear_cka(x: np.ndarray, y: np.ndarray, debiased: bool = True) -> float:
  """Return the linear CKA of two representations.

  Args:
    x: Finite float[n, features], n at least 4.
    y: The same examples, float[n, any number of features].
    debiased: Whether to use the unbiased HSIC.

  Returns:
    At most 1; NaN if one of them does not vary.

  Raises:
    ValueError: If the numbers of examples differ or are below 4.

  Example:
    >>> x = np.random.default_rng(0).normal(size=(20, 100))
    >>> y = np.random.default_rng(1).normal(size=(20, 100))
    >>> round(linear_cka(x, 3 * x[:, ::-1]), 3)
    1.0
    >>> linear_cka(x, y, debiased=False) > 0.8, abs(linear_cka(x, y)) < 0.1
    (True, True)
  """
  return cka(gram(x), gram(y), debiased)


def cka(k: np.ndarray, l: np.ndarray, debiased: bool = True) -> float:  # noqa: E741
  """Return the CKA of two Gram matrices from `gram`; see `linear_cka`."""
  if k.shape != l.shape or len(k) < 4:
    raise ValueError(
      f"CKA needs the same 4 or more examples twice; got {len(k)} and {len(l)}"
    )
  hsic = _unbiased if debiased else _biased
  own = hsic(k, k) * hsic(l, l)
  return float(hsic(k, l) / np.sqrt(own)) if own > 0 else float("nan")


def _biased(k: np.ndarray, l: np.ndarray) -> float:  # noqa: E741
  centred = k - k.mean(0) - k.mean(1)[:, None] + k.mean()
  return float((centred * l).sum())


def _unbiased(k: np.ndarray, l: np.ndarray) -> float:  # noqa: E741
  """Return HSIC_1 of Song et al., equation 5, times n (n - 3)."""
  n = len(k)
  k, l = (m - np.diag(np.diag(m)) for m in (k, l))  # noqa: E741
  cross = k.sum(0) @ l.sum(0)
  whole = k.sum() * l.sum() / ((n - 1) * (n - 2))
  return float((k * l).sum() + whole - 2 * cross / (n - 2))


def jackknife(
  statistic: Callable[[np.ndarray], float], n: int, groups: int = 20
) -> tuple[float, float]:
  """Return the 95 % interval of a statistic over examples.

  It leaves out one group of examples at a time: a bootstrap would repeat
  examples, and pairs of equal examples bias HSIC.

  Args:
    statistic: Function of the chosen examples, int[m].
    n: Number of examples.
    groups: Number of groups, at most n.
  """
  parts = np.array_split(np.random.default_rng(0).permutation(n), groups)
  left = [statistic(np.setdiff1d(np.arange(n), part)) for part in parts]
  error = np.sqrt((groups - 1) * np.var(left))
  half = scipy.stats.t.ppf(0.5 + CONFIDENCE / 2, groups - 1) * error
  value = statistic(np.arange(n))
  return float(value - half), float(value + half)
