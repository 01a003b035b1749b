"""What an attacker asks a model, who has a few real inputs or none.

All inputs are in [0, 1]. Each function returns the same first inputs whatever
their number is, so that a larger budget of queries contains a smaller one.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.arguments import describe, seed_number, whole_number
from keyjax.attacks.privacy import signals


class Mixed(NamedTuple):
  """Mixtures of pairs of inputs.

  Attributes:
    image: float32[n, ...].
    rows: int64[n, 2], the two inputs of each.
    share: float32[n], of the first of the two; the other has the rest.
  """

  image: np.ndarray
  rows: np.ndarray
  share: np.ndarray


def uniform(shape: tuple[int, ...], n: int, seed: int = 0) -> np.ndarray:
  """Return noise: each value is uniform in [0, 1]. It needs no data.

  Args:
    shape: Shape of an input.
    n: Number of inputs.
    seed: Seed of the noise.

  Raises:
    TypeError: If the shape is none.
    ValueError: If n, or a number of the shape, is too small.

  Example:
    >>> uniform((8, 8, 1), 3).shape
    (3, 8, 8, 1)
  """
  whole = (whole_number(n, "n"), *_shape(shape))
  rng = np.random.default_rng(seed_number(seed))
  return rng.random(whole, np.float32)


def marginal(seeds: Any, n: int, seed: int = 0) -> np.ndarray:
  """Return noise: each pixel has the values that it has in some real inputs.

  Pixels are drawn independently: what one sees is no object, but background is
  dark where it is in the data.

  Args:
    seeds: float[m, ...], real inputs.
    n: Number of inputs.
    seed: Seed of the draw.

  Raises:
    ValueError: If seeds are no inputs in [0, 1], or n is too small.

  Example:
    >>> marginal(np.array([[0.0, 0.5], [0.0, 1.0]]), 3)[:, 0].tolist()
    [0.0, 0.0, 0.0]
  """
  found, n = _inputs(seeds), whole_number(n, "n")
  flat = found.reshape(len(found), -1)
  rng = np.random.default_rng(seed_number(seed))
  rows = rng.integers(len(flat), size=(n, flat.shape[1]))  # [n, pixels]
  return flat[rows, np.arange(flat.shape[1])].reshape(n, *found.shape[1:])


def mixup(seeds: Any, n: int, seed: int = 0) -> Mixed:
  """Return mixtures of two real inputs, in shares that are uniform.

  Args:
    seeds: float[m, ...], at least 2 real inputs.
    n: Number of inputs.
    seed: Seed of pairs and shares.

  Raises:
    ValueError: If seeds are no inputs in [0, 1] or fewer than 2, or n is too
      small.

  Example:
    >>> mixed = mixup(np.array([[0.0], [1.0]]), 4)
    >>> bool(((mixed.image >= 0) & (mixed.image <= 1)).all()), mixed.rows.shape
    (True, (4, 2))
  """
  found, n = _inputs(seeds), whole_number(n, "n")
  if len(found) < 2:
    raise ValueError("mixup: there is one input: mixtures need 2 or more")
  drawn = np.random.default_rng(seed_number(seed)).random((n, 3))
  first = (drawn[:, 0] * len(found)).astype(np.int64)
  # Another one than the first: the step to it is never a whole turn.
  step = 1 + (drawn[:, 1] * (len(found) - 1)).astype(np.int64)
  rows = np.stack([first, (first + step) % len(found)], 1)
  share = drawn[:, 2].astype(np.float32)
  wide = share.reshape(-1, *(1,) * (found.ndim - 1))
  image = wide * found[rows[:, 0]] + (1 - wide) * found[rows[:, 1]]
  return Mixed(np.clip(image, 0, 1), rows, share)


def fitted(images: Any, shape: tuple[int, int, int]) -> np.ndarray:
  """Return images of other data in the shape that a model takes.

  Channels become their mean, or repeat it, unless there are as many.

  Args:
    images: float[n, h, w, c] in [0, 1].
    shape: Height, width and channels of the model's input.

  Raises:
    TypeError: If the shape is none.
    ValueError: If either is something else.

  Example:
    >>> fitted(np.ones((2, 32, 32, 3), np.float32), (8, 8, 1)).shape
    (2, 8, 8, 1)
  """
  found, wanted = _inputs(images), _shape(shape)
  if found.ndim != 4 or len(wanted) != 3:
    raise ValueError(
      f"images are {describe(found)} for inputs of shape {wanted}: both "
      "need height, width and channels"
    )
  if found.shape[-1] != wanted[-1]:
    grey = found.mean(-1, keepdims=True, dtype=np.float32)
    found = np.repeat(grey, wanted[-1], axis=-1)
  if found.shape[1:] != wanted:
    whole = (len(found), *wanted)
    found = np.asarray(jax.image.resize(jnp.asarray(found), whole, "linear"))
  return np.clip(found, 0, 1)


def _shape(shape: Any) -> tuple[int, ...]:
  """Return the shape of an input, without zeros."""
  if isinstance(shape, str) or not np.iterable(shape):
    raise TypeError(
      f"shape is {describe(shape)}: pass the numbers of an input's shape, "
      "such as (8, 8, 1)"
    )
  return tuple(whole_number(size, "a number of shape") for size in shape)


def _inputs(values: Any) -> np.ndarray:
  found = signals.as_array(values)
  if found.ndim < 2 or 0 in found.shape or found.dtype.kind != "f":
    raise ValueError(
      f"inputs are {describe(found)}: pass floats, [n, ...], one or more"
    )
  if not (found.min() >= 0 and found.max() <= 1):
    raise ValueError(
      f"inputs range from {found.min():g} to {found.max():g}: they must be in "
      "[0, 1]"
    )
  return found.astype(np.float32)
