"""The CPPN encoding of images: a small network over coordinates draws them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from keyjax.attacks.evasion.problem import Bounds
from keyjax.attacks.fooling import champions
from keyjax.attacks.fooling.elites import Encoding

_ACTIVATIONS = (
  jnp.sin,
  jnp.tanh,
  lambda z: jnp.exp(-jnp.square(z)),  # Gaussian
  jax.nn.sigmoid,
)
_INPUTS = 4  # x, y, distance from the centre, bias.


class Pattern(NamedTuple):
  """The genome of a compositional pattern-producing network (CPPN).

  Attributes:
    weights: For each layer float[inputs + 4, units], whose last four rows are
      those of the coordinates.
    activations: For each hidden layer int32[units]: 0 sine, 1 hyperbolic
      tangent, 2 Gaussian, 3 sigmoid.
  """

  weights: tuple[jax.Array, ...]
  activations: tuple[jax.Array, ...]


def cppn(
  shape: Sequence[int],
  *,
  hidden: Sequence[int] = (8, 8),
  weight_rate: float = 0.3,
  activation_rate: float = 0.05,
  strength: float = 1.0,
  bounds: Bounds = (0.0, 1.0),
  dtype: Any = jnp.float32,
) -> Encoding:
  """Return the encoding of images as networks of fixed topology.

  A pixel is the output, after a sigmoid, of a network over x and y in [-1, 1],
  the distance r from the centre, and 1. Each layer sees the layer before and
  these four. A mutation adds normal noise to some weights and draws some
  activations again. Unlike in the published encoding, by NEAT, the topology
  does not evolve.

  Args:
    shape: Height, width and channels of one image.
    hidden: Units of each hidden layer.
    weight_rate: Probability that a weight is mutated.
    activation_rate: Probability that the activation of a unit is drawn again.
    strength: Standard deviation of a weight's mutation, and of its first value.
    bounds: Least and greatest value of a pixel.
    dtype: Type of the images.

  Raises:
    ValueError: If an argument is wrong.

  Reference:
    Kenneth O. Stanley, "Compositional pattern producing networks: a novel
    abstraction of development", Genetic Programming and Evolvable Machines
    8(2), 2007. Rates: Anh Nguyen, Jason Yosinski and Jeff Clune, "Deep neural
    networks are easily fooled", CVPR 2015.

  Example:
    >>> encoding = cppn((8, 8, 3))
    >>> pattern = encoding.draw(jax.random.key(0))
    >>> encoding.decode(pattern).shape
    (8, 8, 3)
  """
  champions.check_image(shape, bounds)
  if len(shape) != 3 or (hidden and min(hidden) < 1):
    raise ValueError(
      f"shape {tuple(shape)}, hidden {tuple(hidden)}: pass height, width and "
      "channels, and 1 or more units"
    )
  rates = (weight_rate, activation_rate)
  if not (0 <= min(rates) and max(rates) <= 1 and strength > 0):
    raise ValueError(
      f"weight_rate {weight_rate}, activation_rate {activation_rate}, strength "
      f"{strength}: pass rates from 0 to 1, and above 0"
    )
  units = (*hidden, shape[2])
  coordinates = _coordinates(shape[0], shape[1], dtype)

  def draw(rng: jax.Array) -> Pattern:
    rngs = jax.random.split(rng, (len(units), 2))
    before = (0, *hidden)
    return Pattern(
      weights=tuple(
        strength * jax.random.normal(own, (n + _INPUTS, m), dtype)
        for own, n, m in zip(rngs[:, 0], before, units, strict=True)
      ),
      activations=tuple(
        jax.random.randint(own, (m,), 0, len(_ACTIVATIONS), jnp.int32)
        for own, m in zip(rngs[:-1, 1], hidden, strict=True)
      ),
    )

  def mutate(
    rng: jax.Array, pattern: Pattern, generation: jax.Array
  ) -> Pattern:
    del generation  # The rates are constant.
    fresh, some, few = jax.random.split(rng, 3)
    new = draw(fresh)
    moved = jax.tree.map(jnp.add, pattern.weights, new.weights)
    return Pattern(
      weights=_mix(some, weight_rate, moved, pattern.weights),
      activations=_mix(
        few, activation_rate, new.activations, pattern.activations
      ),
    )

  def decode(pattern: Pattern) -> jax.Array:
    values = jax.nn.sigmoid(_outputs(pattern, coordinates)).reshape(shape)
    return bounds[0] + (bounds[1] - bounds[0]) * values

  return Encoding(draw, mutate, decode)


def _coordinates(height: int, width: int, dtype: Any) -> jax.Array:
  """Return x, y, r and 1 of each pixel, float[height * width, 4]."""
  y, x = jnp.meshgrid(
    jnp.linspace(-1, 1, height, dtype=dtype),
    jnp.linspace(-1, 1, width, dtype=dtype),
    indexing="ij",
  )
  found = jnp.stack([x, y, jnp.sqrt(x**2 + y**2), jnp.ones_like(x)], -1)
  return found.reshape(-1, _INPUTS)


def _outputs(pattern: Pattern, coordinates: jax.Array) -> jax.Array:
  """Return the outputs before the sigmoid, float[pixels, channels]."""
  seen = coordinates
  for weights, chosen in zip(
    pattern.weights[:-1], pattern.activations, strict=True
  ):
    sums = seen @ weights  # [pixels, units]
    which = jnp.broadcast_to(chosen[None], sums.shape)
    units = jax.lax.select_n(which, *(f(sums) for f in _ACTIVATIONS))
    seen = jnp.concatenate([units, coordinates], -1)
  return seen @ pattern.weights[-1]


def _mix(
  rng: jax.Array,
  rate: float,
  new: tuple[jax.Array, ...],
  old: tuple[jax.Array, ...],
) -> tuple[jax.Array, ...]:
  """Return the old values, of which some are replaced by the new ones."""
  return tuple(
    jnp.where(jax.random.bernoulli(own, rate, a.shape), a, b)
    for own, a, b in zip(jax.random.split(rng, len(new)), new, old, strict=True)
  )
