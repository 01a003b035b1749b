"""Poisson batches of a fixed shape, by step."""

from collections.abc import Callable

import numpy as np

from keyjax import extras
from keyjax.arguments import positive, whole_number
from keyjax.secrets import Secret, require_secret

_WORDS = 4  # 128 bits, as many as the state of the generator has.


def poisson_rows(
  examples: int,
  batch_size: float,
  *,
  truncated_at: int,
  size: int,
  secret: Secret,
) -> Callable[[int], np.ndarray]:
  """Return a function from a step to the examples of its batch.

  Each example is in each batch with a probability of `batch_size / examples`,
  whatever the others do. Who was drawn is as secret as the noise: the guarantee
  rests on it. A step draws the same batch again, so that a run resumes.

  Args:
    examples: Number of training examples.
    batch_size: Mean number of examples in a batch, which may be a fraction.
    truncated_at: Largest number; of a larger batch, that many remain, at
      random.
    size: Length of what is returned, at least `truncated_at`.
    secret: Secret of the draws, used for nothing else.

  Returns:
    Function `step -> int[size]`, indices of different examples, then -1; a
    step is a whole number, 0 or more.

  Raises:
    TypeError: If batch_size is no number, or the secret is none.
    ValueError: If a number is out of range.
    KeyringError: If jax-privacy is not installed.
  """
  examples = whole_number(examples, "examples")
  truncated_at = whole_number(truncated_at, "truncated_at")
  size = whole_number(size, "size", least=truncated_at)
  if positive(batch_size, "batch_size") > examples:
    raise ValueError(
      f"batch_size={batch_size}: a mean above all {examples} examples"
    )
  require_secret(secret, "poisson_rows")
  sampling = extras.library("jax_privacy.batch_selection", "privacy")
  strategy = sampling.CyclicPoissonSampling(
    sampling_prob=batch_size / examples,
    iterations=1,
    truncated_batch_size=truncated_at,
  )

  def rows(step: int) -> np.ndarray:
    # NumPy's generator is not for secrets, but nobody sees what it draws.
    number = whole_number(step, "step", least=0)  # 1.0 is another label.
    seed = secret.derive(f"poisson/{number}", 4 * _WORDS)
    rng = np.random.default_rng(np.frombuffer(seed, np.uint32).tolist())
    [picked] = strategy.batch_iterator(examples, rng)
    padded = np.full(size, -1, np.int64)
    padded[: len(picked)] = picked
    return padded

  return rows
