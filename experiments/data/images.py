"""Images on the device: conversion to floats, and augmentation."""

import functools

import jax
import jax.numpy as jnp


def to_float(images: jax.Array) -> jax.Array:
  """Return `uint8` pixels as `float32` in [0, 1], as the models take them."""
  return jnp.asarray(images, jnp.float32) / 255


def to_input(x: jax.Array) -> jax.Array:
  """Return the input of a model: pixels as `to_float`, tokens as `int32`.

  Args:
    x: `uint8[b, h, w, c]` pixels, or `uint8[b, t]` tokens.
  """
  return to_float(x) if x.ndim > 2 else jnp.asarray(x, jnp.int32)


@functools.partial(jax.jit, static_argnames=("pad", "flip"))
def augment(
  rng: jax.Array, images: jax.Array, pad: int = 4, flip: bool = True
) -> jax.Array:
  """Shift every image at random, and mirror about half of them.

  The augmentation of He et al., "Deep Residual Learning for Image
  Recognition", arXiv:1512.03385, section 4.2: a random crop of the image
  within a black border, and a horizontal flip. Flips change the meaning of
  digits and traffic signs: pass `flip=False` there.

  Args:
    rng: JAX PRNG key, split over the images.
    images: `[b, h, w, c]` of any dtype where black is 0.
    pad: Width of the border, hence the largest shift; 0 for no shift.
    flip: Whether to mirror.

  Returns:
    The images, of the same shape and dtype.
  """
  shift_rng, flip_rng = jax.random.split(rng)
  count, height, width, channels = images.shape
  if pad:
    border = ((0, 0), (pad, pad), (pad, pad), (0, 0))
    corners = jax.random.randint(shift_rng, (count, 2), 0, 2 * pad + 1)
    # [b, h + 2 pad, w + 2 pad, c] -> [b, h, w, c]
    images = jax.vmap(
      lambda image, at: jax.lax.dynamic_slice(
        image, (at[0], at[1], 0), (height, width, channels)
      )
    )(jnp.pad(images, border), corners)
  if flip:
    mirror = jax.random.bernoulli(flip_rng, shape=(count, 1, 1, 1))
    images = jnp.where(mirror, images[:, :, ::-1], images)
  return images


@functools.partial(jax.jit, static_argnames="side")
def cutout(rng: jax.Array, images: jax.Array, side: int) -> jax.Array:
  """Blacken a square of every image; its centre is anywhere in the image.

  References:
    DeVries, Taylor, "Improved Regularization of Convolutional Neural Networks
    with Cutout", arXiv:1708.04552, 2017.

  Args:
    rng: JAX PRNG key, split over the images.
    images: `[b, h, w, c]` of any dtype where black is 0.
    side: Side of the square; the part outside the image is ignored.

  Returns:
    The images, of the same shape and dtype.
  """
  count, height, width, _ = images.shape
  row_rng, column_rng = jax.random.split(rng)

  def inside(rng: jax.Array, size: int) -> jax.Array:
    """Return `bool[b, size]`: the rows, or columns, of each square."""
    start = jax.random.randint(rng, (count, 1), 0, size) - side // 2
    at = jnp.arange(size)[None, :]
    return (at >= start) & (at < start + side)

  rows = inside(row_rng, height)
  columns = inside(column_rng, width)
  # [b, h, 1] and [b, 1, w] -> [b, h, w, 1]
  hole = (rows[:, :, None] & columns[:, None, :])[..., None]
  return jnp.where(hole, jnp.zeros((), images.dtype), images)


def mixup(
  rng: jax.Array, batch: dict[str, jax.Array], alpha: float
) -> dict[str, jax.Array]:
  """Mix every image with its neighbour in the batch.

  References:
    Zhang et al., "mixup: Beyond Empirical Risk Minimization",
    arXiv:1710.09412, 2017.

  Args:
    rng: JAX PRNG key.
    batch: `image`, `float32[b, h, w, c]`, and `label`, `int32[b]`.
    alpha: Parameter of the distribution of shares, Beta(alpha, alpha), one
      share per image.

  Returns:
    The batch with mixed images, `other_label` and `share`, `float32[b]`, which
    is the share of the first label.
  """
  image = batch["image"]
  label = batch["label"]
  share = jax.random.beta(rng, alpha, alpha, label.shape)
  part = share[:, None, None, None]  # [b] -> [b, 1, 1, 1]
  mixed = part * image + (1 - part) * jnp.roll(image, 1, axis=0)
  other = jnp.roll(label, 1, axis=0)
  return batch | {"image": mixed, "other_label": other, "share": share}
