"""The direct encoding of images: every pixel is a gene."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from keyjax.attacks.evasion.problem import Bounds
from keyjax.attacks.fooling import champions
from keyjax.attacks.fooling.elites import Encoding


def direct(
  shape: Sequence[int],
  *,
  rate: float = 0.1,
  half_life: int = 1000,
  eta: float = 15.0,
  bounds: Bounds = (0.0, 1.0),
  dtype: Any = jnp.float32,
) -> Encoding:
  """Return the encoding whose genome is the image itself.

  An image starts as uniform noise. A mutation changes each value with
  probability `rate`, which is halved every `half_life` generations, by
  polynomial mutation.

  Args:
    shape: Shape of one image.
    rate: Probability that a value is mutated, in the first generations.
    half_life: Number of generations after which the rate is halved.
    eta: Index of the polynomial mutation: the greater, the smaller its steps.
    bounds: Least and greatest value of a pixel.
    dtype: Type of the images.

  Raises:
    ValueError: If an argument is wrong.

  Reference:
    Anh Nguyen, Jason Yosinski and Jeff Clune, "Deep neural networks are easily
    fooled: high confidence predictions for unrecognizable images", CVPR 2015.

  Example:
    >>> encoding = direct((2, 2), rate=0.5)
    >>> image = encoding.draw(jax.random.key(0))
    >>> mutant = encoding.mutate(jax.random.key(1), image, jnp.int32(0))
    >>> int((mutant != image).sum())
    2
  """
  champions.check_image(shape, bounds)
  if not 0 < rate <= 1 or half_life < 1 or not eta >= 0:
    raise ValueError(
      f"rate {rate}, half_life {half_life}, eta {eta}: pass above 0 to 1, 1 or "
      "more, and 0 or more"
    )

  def draw(rng: jax.Array) -> jax.Array:
    return jax.random.uniform(rng, shape, dtype, *bounds)

  def mutate(
    rng: jax.Array, image: jax.Array, generation: jax.Array
  ) -> jax.Array:
    choice, mutation = jax.random.split(rng)
    halvings = (generation // half_life).astype(dtype)
    chosen = jax.random.bernoulli(choice, rate * 0.5**halvings, shape)
    mutant = polynomial_mutation(mutation, image, eta=eta, bounds=bounds)
    return jnp.where(chosen, mutant, image)

  return Encoding(draw, mutate, lambda image: image)


def polynomial_mutation(
  rng: jax.Array,
  values: jax.Array,
  *,
  eta: float = 15.0,
  bounds: Bounds = (0.0, 1.0),
) -> jax.Array:
  """Return values changed by polynomial mutation.

  A change d, in units of the width of the box, has the density
  `(eta + 1) / 2 (1 - |d|)^eta` on [-1, 1]. Values beyond the box are clipped.

  Args:
    rng: PRNG key.
    values: float[...].
    eta: Index of the polynomial, 0 or more; 0 is uniform.
    bounds: Least and greatest value.

  Reference:
    Kalyanmoy Deb, "Multi-objective optimization using evolutionary algorithms",
    Wiley, 2001, page 124.

  Example:
    >>> values = jnp.full((4,), 0.5)
    >>> found = polynomial_mutation(jax.random.key(0), values, eta=1e6)
    >>> bool(jnp.allclose(found, values, atol=1e-4)), found.shape
    (True, (4,))
  """
  low, high = bounds
  draw = jax.random.uniform(rng, values.shape, values.dtype, -1, 1)
  # The inverse of the distribution of |d|, 1 - (1 - |d|)^(eta + 1).
  size = 1 - (1 - jnp.abs(draw)) ** (1 / (eta + 1))
  return jnp.clip(values + (high - low) * jnp.sign(draw) * size, low, high)
