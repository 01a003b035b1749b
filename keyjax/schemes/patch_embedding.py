"""A block-wise key folded into the layer that first sees the pixels.

SHF and NP act on an M x M block as `x'_k = s_k x_{p(k)} + t_k` (SHF: s = 1,
t = 0; NP: p(k) = k, s = -1 and t = 1 on the mask). A convolution whose patches
are whole blocks, with kernel W and bias b, on pixels normalized by the mean m
and standard deviation d of their channels, undoes it exactly with

    V = W / d                              on raw pixels
    V'_k = s_k V_{p(k)}                    so that V' x' = V x + V' t
    b' = b - V m - V' t + V' m,  W' = V' d

Hence `model(folded, transform(key, x)) = model(theta, x)`: a vision transformer
trained on plain images serves encrypted ones without any training. Conversely,
the holder of the key of a model trained on encrypted images can turn it into a
plain one. FFX is not affine and cannot be folded.

Source: Kiya, Iijima, MaungMaung, Kinoshita, "Image and Model Transformation
with Secret Key for Vision Transformer", arXiv 2207.05366, 2022.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from keyjax import keys
from keyjax.schemes import pixel_shuffle, registry

NAME = "patch_embedding"
Key = pixel_shuffle.ShfKey | pixel_shuffle.NpKey


def fold_patch_embedding(
  key: Key,
  kernel: jax.Array,
  bias: jax.Array,
  mean: Sequence[float],
  std: Sequence[float],
) -> tuple[jax.Array, jax.Array]:
  """Convert a layer for plain images into one for transformed images.

  Class: *access control by degradation*, like the transformation itself.

  Guarantees:
    - With the right key, the outputs are those of the plain model up to float
      rounding: nothing is trained, and no accuracy is lost.

  Known breaks:
    - Everything that breaks the transformation. The published file has the
      plain layer with its rows in another order: anyone with the plain model,
      or one tuned from it, can read off the key.

  Args:
    key: Key of `pixel_shuffle`, kind `shf` or `np`.
    kernel: Kernel of a convolution with stride p and no padding,
      float[p, p, C, features]; the key's M divides p.
    bias: Bias of the convolution, float[features].
    mean: C numbers that the model subtracts from raw pixels.
    std: C numbers by which the model then divides.

  Returns:
    The kernel and the bias, with the same shapes and dtypes.

  Raises:
    TypeError: If the key is of another kind or scheme.
    ValueError: If shapes do not fit.

  Example:
    >>> from keyjax import Secret
    >>> x = jax.random.uniform(jax.random.key(0), (1, 4, 4, 3))
    >>> scheme = pixel_shuffle.pixel_shuffle("shf", block_size=2)
    >>> key = scheme.keygen(Secret.generate(), None, {"image": x})
    >>> kernel, bias = jnp.ones((4, 4, 3, 2)).at[0].set(3.0), jnp.zeros(2)
    >>> mean, std = (0,) * 3, (1,) * 3
    >>> folded, _ = fold_patch_embedding(key, kernel, bias, mean, std)
    >>> encrypted = pixel_shuffle.transform(key, x)
    >>> layer = lambda x, w: jnp.einsum("bijc,ijcd->bd", x, w)
    >>> bool(jnp.allclose(layer(encrypted, folded), layer(x, kernel)))
    True
  """
  raw, offset = _raw(key, kernel, bias, mean, std)
  folded = _signs(key, _permute(key, raw, back=False))
  return _normalized(folded, offset - _shift(key, folded), kernel, mean, std)


def unfold_patch_embedding(
  key: Key,
  kernel: jax.Array,
  bias: jax.Array,
  mean: Sequence[float],
  std: Sequence[float],
) -> tuple[jax.Array, jax.Array]:
  """Convert a layer for transformed images into one for plain images.

  The inverse of `fold_patch_embedding` up to float rounding, with the same
  arguments and errors.
  """
  raw, offset = _raw(key, kernel, bias, mean, std)
  plain = _permute(key, _signs(key, raw), back=True)
  return _normalized(plain, offset + _shift(key, raw), kernel, mean, std)


def rekey_patch_embedding(
  old: Key,
  new: Key,
  kernel: jax.Array,
  bias: jax.Array,
  mean: Sequence[float],
  std: Sequence[float],
) -> tuple[jax.Array, jax.Array]:
  """Convert a layer for images under one key into one for another key.

  Args:
    old: Key of the images that the layer was made for.
    new: Key of the images that it will see; of either kind.
    kernel: As in `fold_patch_embedding`, with the other arguments and errors.
    bias: Bias.
    mean: Mean of each channel.
    std: Standard deviation of each channel.

  Returns:
    The kernel and the bias: outputs are the same up to float rounding.
  """
  plain = unfold_patch_embedding(old, kernel, bias, mean, std)
  return fold_patch_embedding(new, *plain, mean, std)


def _raw(
  key: Key,
  kernel: jax.Array,
  bias: jax.Array,
  mean: Sequence[float],
  std: Sequence[float],
) -> tuple[jax.Array, jax.Array]:
  """Return kernel and bias for raw pixels, in float32."""
  if not isinstance(key, Key):
    keys.require(key, pixel_shuffle.ShfKey, NAME)
  channels = kernel.shape[2]
  if len(mean) != channels or len(std) != channels:
    raise ValueError(
      f"{NAME}: the kernel has {channels} channels, mean has {len(mean)} and "
      f"std has {len(std)}"
    )
  raw = kernel.astype(jnp.float32) / _column(std)
  return raw, bias.astype(jnp.float32) - (raw * _column(mean)).sum((0, 1, 2))


def _normalized(
  raw: jax.Array,
  offset: jax.Array,
  like: jax.Array,
  mean: Sequence[float],
  std: Sequence[float],
) -> tuple[jax.Array, jax.Array]:
  """Return kernel and bias for normalized pixels."""
  bias = offset + (raw * _column(mean)).sum((0, 1, 2))
  return (raw * _column(std)).astype(like.dtype), bias.astype(like.dtype)


def _column(values: Sequence[float]) -> jax.Array:
  return jnp.asarray(values, jnp.float32).reshape(1, 1, -1, 1)  # [C] -> ..C1


def _permute(key: Key, kernel: jax.Array, back: bool) -> jax.Array:
  """Permute the rows of each block as the key permutes pixels (not NP)."""
  if isinstance(key, pixel_shuffle.NpKey):
    return kernel
  move = pixel_shuffle.inverse if back else pixel_shuffle.transform
  images = jnp.moveaxis(kernel, -1, 0)  # [p, p, C, f] -> [f, p, p, C]
  return jnp.moveaxis(move(key, images), 0, -1)  # -> [p, p, C, f]


def _signs(key: Key, kernel: jax.Array) -> jax.Array:
  return kernel * (1 - 2 * _inverted(key, kernel))


def _shift(key: Key, kernel: jax.Array) -> jax.Array:
  """Return a kernel's response to t, the constant of inverted pixels."""
  return (kernel * _inverted(key, kernel)).sum((0, 1, 2))


def _inverted(key: Key, kernel: jax.Array) -> jax.Array:
  """Return which pixels NP inverts, 0 or 1, float32[p, p, C, 1]."""
  shape = kernel.shape[:3]
  if isinstance(key, pixel_shuffle.ShfKey):
    return jnp.zeros((*shape, 1), jnp.float32)
  # NP of a black image is its mask.
  return pixel_shuffle.transform(key, jnp.zeros(shape, jnp.float32))[..., None]


registry.classify(NAME, registry.DEGRADATION)
