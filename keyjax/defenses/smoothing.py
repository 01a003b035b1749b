"""Randomised smoothing: predictions that provably hold within a radius.

The smoothed model returns the class that a model predicts most often under
Gaussian noise of standard deviation sigma on its input.

Guarantees:
  With probability 1 - alpha over the noise drawn here, no change of l2 size
  below the certified radius moves the smoothed prediction, whatever the attack.

Known breaks:
  Changes beyond the radius, which is about sigma and small in other norms. The
  guarantee is about the smoothed model: whoever asks the model itself has none.
  It needs noise that an attacker cannot choose, and a model that was trained on
  noisy inputs, or radii are small.

Reference:
  Jeremy Cohen, Elan Rosenfeld and J. Zico Kolter, "Certified adversarial
  robustness via randomized smoothing", ICML 2019.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from keyjax.attacks.evasion.problem import LogitsFn

ABSTAIN = -1


class Certificate(NamedTuple):
  """What is proved of n inputs.

  Attributes:
    label: int[n], the smoothed prediction; `ABSTAIN` where nothing is proved.
    radius: float[n], l2 size of the changes that do not move it; 0 where
      nothing is proved.
  """

  label: np.ndarray
  radius: np.ndarray


def certify(
  logits_fn: LogitsFn,
  inputs: jax.Array,
  *,
  sigma: float,
  samples: int = 100_000,
  selection: int = 100,
  alpha: float = 0.001,
  at_once: int = 100,
  rng: jax.Array,
) -> Certificate:
  """Prove the smoothed predictions of inputs.

  Args:
    logits_fn: Function from inputs to logits, float[n, classes].
    inputs: float[n, ...].
    sigma: Standard deviation of the noise.
    samples: Noisy copies of an input that bound the share of its class.
    selection: Noisy copies, drawn before, that choose the class.
    alpha: Probability that a certificate is wrong, for each input.
    at_once: Noisy copies of every input in one pass.
    rng: JAX PRNG key of the noise.

  Raises:
    ValueError: If an argument is out of range.

  Example:
    >>> found = certify(
    ...   lambda x: jnp.concatenate([x, -x], 1),
    ...   jnp.asarray([[1.0]]),
    ...   sigma=0.5,
    ...   samples=1000,
    ...   rng=jax.random.key(0),
    ... )
    >>> int(found.label[0]), bool(0.5 < found.radius[0] < 1)
    (0, True)
  """
  _check(sigma, alpha, samples, selection, at_once)
  chosen, measured = jax.random.split(rng)
  label = _counts(logits_fn, inputs, sigma, selection, at_once, chosen).argmax(
    -1
  )
  counts = _counts(logits_fn, inputs, sigma, samples, at_once, measured)
  hits = counts[np.arange(len(label)), label]
  # Lower end of the one-sided Clopper-Pearson interval.
  share = scipy.stats.beta.ppf(alpha, hits, samples - hits + 1)
  share = np.where(hits == 0, 0.0, share)
  proved = share > 0.5
  radius = np.where(proved, sigma * scipy.stats.norm.ppf(share), 0.0)
  return Certificate(np.where(proved, label, ABSTAIN), radius)


def predict(
  logits_fn: LogitsFn,
  inputs: jax.Array,
  *,
  sigma: float,
  samples: int = 1000,
  alpha: float = 0.001,
  at_once: int = 100,
  rng: jax.Array,
) -> np.ndarray:
  """Return the smoothed predictions, int[n].

  Args:
    logits_fn: Function from inputs to logits, float[n, classes].
    inputs: float[n, ...].
    sigma: Standard deviation of the noise.
    samples: Noisy copies of an input.
    alpha: Probability that a prediction is not that of the smoothed model.
    at_once: Noisy copies of every input in one pass.
    rng: JAX PRNG key of the noise.

  Returns:
    Classes; `ABSTAIN` where the two most frequent are too close to tell.
  """
  _check(sigma, alpha, samples, samples, at_once)
  counts = _counts(logits_fn, inputs, sigma, samples, at_once, rng)
  order = np.argsort(counts, -1)
  rows = np.arange(len(counts))
  first = counts[rows, order[:, -1]]
  second = counts[rows, order[:, -2]]
  tests = zip(first.tolist(), (first + second).tolist(), strict=True)
  chance = [scipy.stats.binomtest(a, n).pvalue for a, n in tests]
  return np.where(np.asarray(chance) <= alpha, order[:, -1], ABSTAIN)


def _counts(
  logits_fn: LogitsFn,
  inputs: jax.Array,
  sigma: float,
  samples: int,
  at_once: int,
  rng: jax.Array,
) -> np.ndarray:
  """Return how often noisy copies are of each class, int[n, classes].

  A copy with logits that are not finite is of no class.
  """

  def one(rng: jax.Array) -> jax.Array:
    noise = jax.random.normal(rng, inputs.shape, inputs.dtype)
    logits = logits_fn(inputs + sigma * noise)
    finite = jnp.isfinite(logits).all(-1, keepdims=True)
    found = jax.nn.one_hot(logits.argmax(-1), logits.shape[-1], dtype=bool)
    return (found & finite).astype(jnp.int32)

  @jax.jit
  def some(rngs: jax.Array) -> jax.Array:
    return jax.vmap(one)(rngs).sum(0)

  total = np.zeros((), np.int64)
  for start in range(0, samples, at_once):
    size = min(at_once, samples - start)
    rngs = jax.random.split(jax.random.fold_in(rng, start), size)
    total = total + np.asarray(some(rngs))
  return total


def _check(
  sigma: float, alpha: float, samples: int, selection: int, at_once: int
) -> None:
  if not sigma > 0 or not 0 < alpha < 1:
    raise ValueError(
      f"sigma={sigma}, alpha={alpha}: sigma is above 0, alpha from 0 to 1"
    )
  if min(samples, selection, at_once) < 1:
    raise ValueError(
      f"samples={samples}, selection={selection}, at_once={at_once}: at least 1"
    )
