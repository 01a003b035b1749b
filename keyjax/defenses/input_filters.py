"""Filters before a model: noise on its inputs, and discrete inputs.

Guarantees:
  None; for a proof about noise see `smoothing`.

Known breaks:
  Noise: the expectation of the gradient over the noise (EOT) attacks the
  average model. Discrete inputs: changes by whole levels, found greedily or by
  gradients that pass through the rounding (BPDA), are inputs of the set too.
"""

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.attacks.evasion.problem import Bounds, LogitsFn

_TINY = 1e-12


def with_noise(
  logits_fn: LogitsFn, *, sigma: float, draws: int = 16, rng: jax.Array
) -> LogitsFn:
  """Return a model that averages its predictions over noisy inputs.

  Args:
    logits_fn: Function from inputs to logits, float[n, classes].
    sigma: Standard deviation of the noise.
    draws: Number of noisy copies of an input.
    rng: JAX PRNG key of the noise: one for each request, or the noise is no
      secret.

  Returns:
    Function from inputs to the logarithms of mean probabilities.

  Example:
    >>> noisy = with_noise(lambda x: x, sigma=0.1, rng=jax.random.key(0))
    >>> noisy(jnp.asarray([[0.0, 9.0]])).shape
    (1, 2)
  """
  if not sigma > 0 or draws < 1:
    raise ValueError(f"sigma={sigma}, draws={draws}: both above 0")

  def averaged(inputs: jax.Array) -> jax.Array:
    def one(rng: jax.Array) -> jax.Array:
      noise = jax.random.normal(rng, inputs.shape, inputs.dtype)
      return jax.nn.softmax(logits_fn(inputs + sigma * noise))

    found = jax.lax.map(one, jax.random.split(rng, draws))
    return jnp.log(found.mean(0) + _TINY)

  return averaged


def discrete(
  logits_fn: LogitsFn,
  *,
  levels: int = 2,
  round_others: bool = True,
  bounds: Bounds = (0.0, 1.0),
) -> LogitsFn:
  """Return a model whose inputs have a few evenly spaced values.

  Args:
    logits_fn: Function from inputs to logits, float[n, classes].
    levels: Number of values, at least 2.
    round_others: Whether other inputs are rounded; otherwise they are refused,
      which is possible outside `jit` only.
    bounds: Least and greatest value of a pixel.

  Raises:
    ValueError: If there are fewer than 2 levels, or (on a call) an input that
      is not rounded has another value.

  Example:
    >>> binary = discrete(lambda x: x)
    >>> binary(jnp.asarray([[0.4, 0.9]])).tolist()
    [[0.0, 1.0]]
  """
  if levels < 2:
    raise ValueError(f"levels={levels}: at least 2")
  low, high = bounds
  step = (high - low) / (levels - 1)

  def filtered(inputs: jax.Array) -> jax.Array:
    rounded = low + step * jnp.round((inputs - low) / step)
    rounded = jnp.clip(rounded, low, high)
    if not round_others:
      if isinstance(inputs, jax.core.Tracer):
        raise ValueError(
          "discrete(round_others=False) refuses inputs by their values, which "
          "are not known under jit: call it outside"
        )
      wrong = int((~np.isclose(inputs, rounded, atol=1e-6)).sum())
      if wrong:
        raise ValueError(
          f"{wrong} of {inputs.size} pixels have none of the {levels} values "
          f"from {low} to {high}"
        )
    return logits_fn(rounded)

  return filtered
