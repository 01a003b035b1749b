"""The gradient that a private step releases: clipped, summed, with noise."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import extras
from keyjax.aes import prng
from keyjax.arguments import describe, is_array, positive, show, whole_number
from keyjax.secrets import Secret, require_secret

LossFn = Callable[[Any, Any], tuple[jax.Array, Any]]
# Implementations of `jax.random`.
GENERATORS: dict[str, Any] = {"aes": prng.impl, "jax": "threefry2x32"}


def clipped_sum(
  loss_fn: LossFn,
  params: Any,
  batch: Any,
  real: jax.Array,
  *,
  clipping_norm: float,
  parts: int = 1,
) -> tuple[Any, Any]:
  """Return the sum of the gradients of examples, each of a bounded norm.

  The model sees one example at a time, so that no example is in the gradient of
  another one.

  Args:
    loss_fn: Function `(params, batch of one) -> (loss, aux)`.
    params: Params to differentiate.
    batch: Pytree of arrays [rows, ...].
    real: bool[rows]; rows that only fill the batch add nothing.
    clipping_norm: Largest l2 norm of an example's gradient over all params; a
      gradient that is not finite counts as 0.
    parts: Number of parts of the rows, one at a time in memory; divides them.

  Returns:
    The sum, and `aux` of each row.

  Raises:
    TypeError: If real is no array of bool: a mask of 0 and 1 would count the
      rows that only fill the batch. Or if clipping_norm is no number.
    ValueError: If real is of another length than the batch, clipping_norm is
      not above 0 and finite, or the parts do not divide the rows.
    KeyringError: If jax-privacy is not installed.

  Example:
    >>> fn = lambda w, x: (3 * (w[None] * x).sum(), ())
    >>> rows = jnp.asarray([[1.0], [1.0], [1.0]])
    >>> real = jnp.asarray([True, True, False])
    >>> found, _ = clipped_sum(
    ...   fn, jnp.asarray([1.0]), rows, real, clipping_norm=1.0
    ... )
    >>> found.tolist()
    [2.0]
  """
  _check_real(real, batch)
  _check_positive(clipping_norm, "clipping_norm")
  parts = whole_number(parts, "parts")
  if real.shape[0] % parts:
    raise ValueError(f"parts={parts}: must divide {real.shape[0]} rows")
  clipping = extras.library("jax_privacy.clipping", "privacy")
  size = real.shape[0] // parts if parts > 1 else None
  # The noise of `with_noise` is for this sensitivity.
  grad_fn = clipping.clipped_grad(
    loss_fn,
    has_aux=True,
    l2_clip_norm=clipping_norm,
    batch_argnums=1,
    microbatch_size=size,
  )
  total, found = grad_fn(params, batch, is_padding_example=~real)
  return total, found.aux


def with_noise(
  total: Any, rng: jax.Array, *, clipping_norm: float, noise_multiplier: float
) -> Any:
  """Return a sum of clipped gradients with Gaussian noise.

  Add it once, to the sum over all devices.

  Args:
    total: Sum of `clipped_sum` over the whole batch.
    rng: JAX PRNG key, another one in every step; see `noise_rng`.
    clipping_norm: As in `clipped_sum`.
    noise_multiplier: Standard deviation of the noise, in clipping norms.

  Raises:
    TypeError: If one of the two is no number.
    ValueError: If one of them is not above 0 and finite: leave out the call
      where a gradient is to have no noise.
    KeyringError: If jax-privacy is not installed.

  Example:
    >>> from keyjax import Secret
    >>> rng = noise_rng(Secret.generate())
    >>> zeros = jnp.zeros(1000)
    >>> found = with_noise(zeros, rng, clipping_norm=2.0, noise_multiplier=3.0)
    >>> bool(5 < found.std() < 7)
    True
  """
  _check_positive(clipping_norm, "clipping_norm")
  _check_positive(noise_multiplier, "noise_multiplier")
  noise = extras.library("jax_privacy.noise_addition", "privacy")
  privatizer = noise.gaussian_privatizer(
    stddev=noise_multiplier * clipping_norm, prng_key=rng
  )
  # Its state would carry the key from step to step, into checkpoints.
  noisy, _ = privatizer.update(total, privatizer.init(total))
  return noisy


def noise_rng(secret: Secret, generator: str = "aes") -> jax.Array:
  """Return the key of a training's noise, for `jax.random.fold_in` by step.

  Args:
    secret: Secret of this training alone: from one that another training used
      on other examples, the difference of both shows them.
    generator: `aes`, AES-256 in counter mode, or `jax`, Threefry, whose keys
      have 64 bits: an attacker with the examples but one could try them all.

  Raises:
    TypeError: If the secret is none.
    ValueError: If the generator is unknown.

  Example:
    >>> from keyjax import Secret
    >>> noise_rng(Secret.generate(), "jax").shape
    ()
  """
  require_secret(secret, "noise_rng")
  if generator == "aes":
    return prng.from_secret(secret, "dp")
  if generator == "jax":
    words = np.frombuffer(secret.derive("prng/dp/threefry", 8), np.uint32)
    return jax.random.wrap_key_data(
      jnp.asarray(words), impl=GENERATORS[generator]
    )
  raise ValueError(
    f"generator={show(generator)}: choose from {', '.join(GENERATORS)}"
  )


def _check_real(real: Any, batch: Any) -> None:
  """Raise an error unless a mask is one of the rows of a batch."""
  if not is_array(real) or real.dtype != np.bool_:
    raise TypeError(
      f"real is {describe(real)}: pass bool[rows], True for each example"
    )
  sizes = {np.shape(x)[:1] for x in jax.tree.leaves(batch)}
  if real.ndim != 1 or sizes != {real.shape}:
    rows = " and ".join(sorted(str(list(x)) for x in sizes)) or "no arrays"
    raise ValueError(
      f"real is {describe(real)}, and the batch has {rows}: pass as many rows"
    )


def _check_positive(value: Any, name: str) -> None:
  """Check a number that is known; one that is traced is not yet."""
  if not isinstance(value, jax.core.Tracer):
    is_scalar = is_array(value) and value.shape == ()
    positive(value.item() if is_scalar else value, name)
