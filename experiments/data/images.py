"""Images on the device: as floats, shifted and mirrored at random."""

import functools

import jax
import jax.numpy as jnp


def to_float(images: jax.Array) -> jax.Array:
  """Returns `uint8` pixels as `float32` in [0, 1], as the models take them."""
  return jnp.asarray(images, jnp.float32) / 255


@functools.partial(jax.jit, static_argnames=("pad", "flip"))
def augment(
  rng: jax.Array, images: jax.Array, pad: int = 4, flip: bool = True
) -> jax.Array:
  """Shifts every image at random, and mirrors every other one.

  The augmentation of He et al., "Deep Residual Learning for Image
  Recognition", arXiv:1512.03385, section 4.2: a random crop of the image
  within a black border, and a horizontal flip. Flips change the meaning of
  digits and traffic signs: pass `flip=False` there.

  Args:
    rng: a JAX PRNG key, split over the images.
    images: `[b, h, w, c]` of any dtype where black is 0.
    pad: the width of the border, hence the largest shift; 0 for no shift.
    flip: whether to mirror.

  Returns:
    The images, of the same shape and dtype.
  """
  shift_rng, flip_rng = jax.random.split(rng)
  count, height, width, channels = images.shape
  if pad:
    border = ((0, 0), (pad, pad), (pad, pad), (0, 0))
    corners = jax.random.randint(shift_rng, (count, 2), 0, 2 * pad + 1)
    images = jax.vmap(
      lambda image, at: jax.lax.dynamic_slice(
        image, (at[0], at[1], 0), (height, width, channels)
      )
    )(jnp.pad(images, border), corners)
  if flip:
    mirror = jax.random.bernoulli(flip_rng, shape=(count, 1, 1, 1))
    images = jnp.where(mirror, images[:, :, ::-1], images)
  return images
