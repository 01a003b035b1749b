"""What a training spends: epsilon at a delta, by dp-accounting."""

import functools
import importlib.metadata
from collections.abc import Mapping
from typing import Any, NamedTuple

from keyjax import extras
from keyjax.arguments import describe, positive, show, whole_number

RELATION = "one example added or removed"
_INTERVAL = 1e-3  # Of the privacy loss; wider is faster, and a larger epsilon.
_COARSE = 1e-2
_LEAST = 0.2  # Noise multiplier; an accountant takes long for less.


class Training(NamedTuple):
  """What the accountant has to know of a training.

  Attributes:
    examples: Number of training examples, taken as public.
    batch_size: Mean number of examples in a Poisson batch. The accountant takes
      whole ones alone: round a mean up, which spends no less.
    steps: Number of steps.
    delta: Probability that the bound by epsilon does not hold; well below
      1 / examples.
    truncated_at: Largest number of examples in a batch; None for no limit.
  """

  examples: int
  batch_size: int
  steps: int
  delta: float
  truncated_at: int | None = None


class Guarantee(NamedTuple):
  """An epsilon and all that it assumes; neither is shown without the other.

  Attributes:
    epsilon: Bound of the privacy loss.
    noise_multiplier: Standard deviation of the noise, in clipping norms.
    clipping_norm: Largest norm of an example's gradient.
    generator: Where the noise is from; see `noise_rng`.
    training: What was accounted for.
  """

  epsilon: float
  noise_multiplier: float
  clipping_norm: float
  generator: str
  training: Training

  def fields(self) -> dict[str, Any]:
    """Return it as JSON, for rows and cards."""
    training = self.training
    limit = training.truncated_at
    rate = training.batch_size / training.examples
    return {
      "epsilon": self.epsilon,
      "delta": training.delta,
      "relation": RELATION,
      "accountant": f"PLD, dp-accounting {_version('dp-accounting')}",
      "sampling": f"Poisson, rate {rate:.6g}, "
      + (f"truncated at {limit}" if limit else "not truncated"),
      "noise_multiplier": self.noise_multiplier,
      "clipping_norm": self.clipping_norm,
      "steps": training.steps,
      "examples": training.examples,
      "generator": self.generator,
      "scope": "each model alone: several of the same examples spend more",
    }


def in_words(fields: Mapping[str, Any]) -> str:
  """Return the `fields` of a guarantee as one line.

  Example:
    >>> training = Training(1000, 100, 50, 1e-5, 150)
    >>> text = in_words(Guarantee(2.0, 1.1, 1.0, "aes", training).fields())
    >>> text.split(";")[0]
    'epsilon 2 at delta 1e-05, one example added or removed'
  """
  return (
    f"epsilon {fields['epsilon']:.4g} at delta {fields['delta']:g}, "
    f"{fields['relation']}; {fields['sampling']}; {fields['steps']} steps, "
    f"{fields['examples']} examples; noise {fields['noise_multiplier']:.4g} x "
    f"clipping norm {fields['clipping_norm']:g}, from {fields['generator']}; "
    f"{fields['accountant']}; {fields['scope']}"
  )


def epsilon(training: Training, noise_multiplier: float) -> float:
  """Return the epsilon that a training spends.

  It is that of dp-accounting's privacy loss distributions, for Poisson batches
  that are truncated at random. A truncation near the mean of the batches costs
  much: whether an example is in a full batch tells of the others.

  Args:
    training: What is accounted for.
    noise_multiplier: Standard deviation of the noise, in clipping norms.

  Raises:
    TypeError: If training is none, or a real number is no number.
    ValueError: If a number is out of range, or not whole where it has to be.
    KeyringError: If dp-accounting or jax-privacy is not installed.

  Example:
    >>> training = Training(1000, 10, 20, delta=1e-5)
    >>> epsilon(training, 1.0) > epsilon(training, 2.0) > 0
    True
  """
  training = _checked(training)
  noise = positive(noise_multiplier, "noise_multiplier")
  return _epsilon(training, noise, _INTERVAL)


def noise_multiplier(training: Training, epsilon: float) -> float:
  """Return the least noise multiplier, to 0.005, that spends an epsilon.

  Args:
    training: What is accounted for.
    epsilon: Largest epsilon.

  Raises:
    TypeError: If training is none, or a real number is no number.
    ValueError: If a number is out of range, or not whole where it has to be.
    KeyringError: If dp-accounting or jax-privacy is not installed.

  Example:
    >>> training = Training(1000, 10, 20, delta=1e-5)
    >>> 0.5 < noise_multiplier(training, 1.0) < 1.5
    True
  """
  training = _checked(training)
  return _noise_multiplier(training, positive(epsilon, "epsilon"))


@functools.lru_cache
def _noise_multiplier(training: Training, epsilon: float) -> float:
  # A coarse accountant asks for a little more noise than is needed.
  high = 1.0
  while _epsilon(training, high, _COARSE) > epsilon:
    high *= 2
  low = high / 2
  while _epsilon(training, low, _COARSE) <= epsilon:
    high, low = low, low / 2
    if low < _LEAST:
      raise ValueError(
        f"epsilon={epsilon}: noise of {_LEAST} clipping norms spends less; "
        "choose a smaller epsilon"
      )
  accounting = extras.library("jax_privacy.accounting", "privacy")
  found = accounting.calibrate_noise_multiplier(
    target_epsilon=epsilon,
    accountant=_accountant(_COARSE),
    batch_sizes=training.batch_size,
    num_updates=training.steps,
    num_samples=training.examples,
    target_delta=training.delta,
    truncated_batch_size=training.truncated_at,
    initial_min_noise=low,
    initial_max_noise=high,
    tol=0.005,
  )
  return float(found)


@functools.lru_cache
def _epsilon(
  training: Training, noise_multiplier: float, interval: float
) -> float:
  accounting = extras.library("jax_privacy.accounting", "privacy")
  params = accounting.DpParams(
    noise_multipliers=noise_multiplier,
    num_samples=training.examples,
    delta=training.delta,
    batch_size=training.batch_size,
    truncated_batch_size=training.truncated_at,
  )
  return float(_accountant(interval).compute_epsilon(training.steps, params))


def _accountant(interval: float) -> Any:
  accounting = extras.library("jax_privacy.accounting", "privacy")
  config = accounting.PldAccountantConfig(
    value_discretization_interval=interval
  )
  return accounting.DpsgdTrainingAccountant(config)


def _version(distribution: str) -> str:
  try:
    return importlib.metadata.version(distribution)
  except importlib.metadata.PackageNotFoundError:
    return "of unknown version"


def _checked(training: Training) -> Training:
  """Return a training with its whole numbers as ints."""
  if not isinstance(training, Training):
    raise TypeError(
      f"training is {describe(training)}: pass a private.Training"
    )
  examples, batch_size, steps = (
    whole_number(getattr(training, name), name)
    for name in ("examples", "batch_size", "steps")
  )
  if batch_size > examples:
    raise ValueError(
      f"batch_size={batch_size}, examples={examples}: a batch has 1 to all "
      "examples"
    )
  if not positive(training.delta, "delta") < 1:
    raise ValueError(f"delta={show(training.delta)}: must be between 0 and 1")
  limit = training.truncated_at
  if limit is not None:
    limit = whole_number(limit, "truncated_at")
    if limit < batch_size:
      raise ValueError(
        f"truncated_at={limit}: must be at least the batch size, {batch_size}"
      )
  return Training(examples, batch_size, steps, float(training.delta), limit)
