"""What images the block-wise transformations take."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import arguments, meshes

NAME = "pixel_shuffle"
_SLACK = 0.5 / 255  # What resizing may add, and rounding to 8 bits removes.


def check_array(images: Any) -> None:
  """Raise a TypeError unless images are an array."""
  if not arguments.is_array(images):
    raise TypeError(
      f"{NAME}: images are an array, got {arguments.describe(images)}"
    )


def check_shape(shape: tuple[int, ...], block_size: int) -> None:
  """Raise a ValueError unless images can be cut into blocks."""
  if len(shape) < 3:
    raise ValueError(f"{NAME}: images are [..., H, W, C], got {list(shape)}")
  h, w, _ = shape[-3:]
  if h % block_size or w % block_size:
    raise ValueError(
      f"{NAME}: block_size={block_size} does not divide images of {h} x {w}"
    )


def check_floats(dtype: Any) -> None:
  """Raise a ValueError unless pixels are floats."""
  if not jnp.issubdtype(dtype, jnp.floating):
    raise ValueError(
      f"{NAME}: pixels are floats in [0, 1], got {dtype}; divide by 255"
    )


def check_range(images: Any, kind: str) -> None:
  """Raise a ValueError unless pixels are in [0, 1].

  NP inverts about 1/2, and FFX cuts off what is outside. Shapes, and images of
  which this process has a part, are not looked at.

  Args:
    images: Batch of `keygen`.
    kind: For the error.
  """
  check_floats(images.dtype)
  whole = not isinstance(images, jax.core.Tracer | jax.ShapeDtypeStruct)
  if not whole or not getattr(images, "is_fully_addressable", True):
    return
  pixels = np.asarray(images, np.float32)
  if not pixels.size:
    return
  low, high = float(pixels.min()), float(pixels.max())
  if not (low >= -_SLACK and high <= 1 + _SLACK):  # NaN is refused.
    raise ValueError(
      f"{NAME}: {kind} takes images in [0, 1], and those of keygen's batch are "
      f"in [{low:.4g}, {high:.4g}]: divide 8-bit images by 255, and normalize "
      "after the transformation"
    )


def check_sharding(x: jax.Array, block_size: int) -> None:
  """Raise a ValueError if Explicit axes split a block."""
  sharding = meshes.explicit_sharding(x)
  if sharding is None:
    return
  h, w, c = meshes.shard_shape(sharding, x.shape)[-3:]
  if c != x.shape[-1] or h % block_size or w % block_size:
    raise ValueError(
      f"{NAME}: images {list(x.shape)} sharded as {sharding.spec} are in parts "
      f"of {h} x {w} x {c}, which cut blocks of {block_size} x {block_size} x "
      f"{x.shape[-1]}: shard the batch, or height and width in whole blocks"
    )
