"""Base class of the image classifiers."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

Dtype = Any


class Classifier(nn.Module):
  """Base class: normalisation of pixels, and the last layer.

  Attributes:
    num_classes: Number of logits.
    mean: Mean per channel, subtracted from pixels in [0, 1].
    std: Standard deviation per channel, by which the difference is divided.
    dtype: Type of the computation; parameters and logits stay `float32`.
  """

  num_classes: int
  mean: Sequence[float]
  std: Sequence[float]
  dtype: Dtype = jnp.float32

  def normalise(self, x: jax.Array) -> jax.Array:
    """Return `(x - mean) / std`, computed in `float32`, as `dtype`."""
    if x.shape[-1] != len(self.mean):
      raise ValueError(
        f"Expected images of {len(self.mean)} channels, as mean has; got "
        f"{x.shape[-1]}."
      )
    if not jnp.issubdtype(x.dtype, jnp.floating):
      raise ValueError(
        f"Expected float pixels in [0, 1], got {x.dtype}: use data.to_float."
      )
    shape = (1,) * (x.ndim - 1) + (-1,)  # [c] -> [1, 1, 1, c]
    mean = jnp.asarray(self.mean, jnp.float32).reshape(shape)
    std = jnp.asarray(self.std, jnp.float32).reshape(shape)
    return ((x.astype(jnp.float32) - mean) / std).astype(self.dtype)

  def classify(self, x: jax.Array) -> jax.Array:
    """Return the logits, `float32[b, num_classes]`, of features `[b, n]`."""
    head = nn.Dense(self.num_classes, dtype=self.dtype, name="head")
    return head(x).astype(jnp.float32)


def drop(x: jax.Array, rate: float, train: bool) -> jax.Array:
  """Leave out a share of the units while a model trains, in a compact method.

  Args:
    x: float[b, n], units; those that stay are scaled up.
    rate: Share of them, from 0 to less than 1.
    train: Whether the model trains, which takes `rngs={"dropout": ...}`.
  """
  if not 0 <= rate < 1:
    raise ValueError(f"dropout={rate}: from 0 to less than 1")
  dropped: jax.Array = nn.Dropout(rate)(x, deterministic=not train)
  return dropped


ACTIVATIONS = ("relu", "sigmoid", "tanh")


def activate(name: str, x: jax.Array) -> jax.Array:
  """Return a nonlinearity of x, by its name in `ACTIVATIONS`."""
  if name not in ACTIVATIONS:
    known = ", ".join(ACTIVATIONS)
    raise ValueError(f"activation={name!r}: choose from {known}")
  found: jax.Array = getattr(nn, name)(x)
  return found


def batch_norm(x: jax.Array, train: bool, dtype: Dtype, name: str) -> jax.Array:
  """Return `x` after batch normalisation, computed in `float32`."""
  norm = nn.BatchNorm(
    use_running_average=not train, momentum=0.9, epsilon=1e-5, name=name
  )
  # Flax would widen x and narrow the result by itself, but not under strict
  # promotion.
  return norm(x.astype(jnp.float32)).astype(dtype)


def check_tokens(tokens: jax.Array, context: int) -> None:
  """Check the input of a model of text.

  Args:
    tokens: Its input.
    context: Longest input, in tokens.

  Raises:
    ValueError: If the input is not int[b, t], or longer.
  """
  if not jnp.issubdtype(tokens.dtype, jnp.integer) or tokens.ndim != 2:
    raise ValueError(
      f"Expected integer tokens [b, t], got {tokens.dtype}{list(tokens.shape)}."
    )
  if tokens.shape[1] > context:
    raise ValueError(
      f"{tokens.shape[1]} tokens are more than context={context}."
    )
