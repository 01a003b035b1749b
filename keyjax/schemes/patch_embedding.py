"""A block-wise key absorbed by the layer that first sees the pixels.

SHF and NP act on an M x M block as `x'_k = s_k x_{p(k)} + t_k` (SHF: s = 1,
t = 0; NP: p(k) = k, s = -1 and t = 1 on the mask). A convolution whose patches
are whole blocks, with kernel W and bias b, and pixels normalised by mean m and
deviation d of their channels, undoes it exactly with

    V = W / d                              on raw pixels
    V'_k = s_k V_{p(k)}                    so that V' x' = V x + V' t
    b' = b - V m - V' t + V' m,  W' = V' d

Hence `model(fold(theta), transform(key, x)) = model(theta, x)`: a vision
transformer that was trained on plain images serves encrypted ones without any
training. And the reverse: who has the key of a model trained on encrypted
images makes it a plain one with `unfold`. FFX is not affine and does not fold.

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


def fold(
  key: Key,
  kernel: jax.Array,
  bias: jax.Array,
  mean: Sequence[float],
  std: Sequence[float],
) -> tuple[jax.Array, jax.Array]:
  """Makes a layer for plain images one for transformed images.

  Class: *access control by degradation*, as the transformation itself.

  Guarantees:
    - With the right key the model's outputs are the plain model's, to float
      rounding: nothing is trained, and no accuracy is lost.

  Known breaks:
    - Everything that breaks the transformation. What is published is the plain
      layer with its rows in another order: whoever has the plain model, or one
      tuned from it, reads the key off.

  Args:
    key: of `pixel_shuffle`, kind `shf` or `np`.
    kernel: float[p, p, C, features], of a convolution with stride p and no
      padding; the key's M divides p.
    bias: float[features].
    mean: C numbers, which the model subtracts from raw pixels first.
    std: C numbers, which the model then divides by.

  Returns:
    The kernel and the bias, of the same shapes and dtypes.

  Raises:
    TypeError: the key is of another kind or scheme.
    ValueError: shapes do not fit.

  Example:
    >>> from keyjax import Secret
    >>> x = jax.random.uniform(jax.random.key(0), (1, 4, 4, 3))
    >>> scheme = pixel_shuffle.pixel_shuffle("shf", block_size=2)
    >>> key = scheme.keygen(Secret.generate(), None, {"image": x})
    >>> kernel, bias = jnp.ones((4, 4, 3, 2)).at[0].set(3.0), jnp.zeros(2)
    >>> folded, _ = fold(key, kernel, bias, mean=(0,) * 3, std=(1,) * 3)
    >>> encrypted = pixel_shuffle.transform(key, x)
    >>> layer = lambda x, w: jnp.einsum("bijc,ijcd->bd", x, w)
    >>> bool(jnp.allclose(layer(encrypted, folded), layer(x, kernel)))
    True
  """
  raw, offset = _raw(key, kernel, bias, mean, std)
  folded = _signs(key, _permute(key, raw, back=False))
  return _normalised(folded, offset - _shift(key, folded), kernel, mean, std)


def unfold(
  key: Key,
  kernel: jax.Array,
  bias: jax.Array,
  mean: Sequence[float],
  std: Sequence[float],
) -> tuple[jax.Array, jax.Array]:
  """Makes a layer for transformed images one for plain images.

  The inverse of `fold`, to float rounding; arguments and errors are its own.
  """
  raw, offset = _raw(key, kernel, bias, mean, std)
  plain = _permute(key, _signs(key, raw), back=True)
  return _normalised(plain, offset + _shift(key, raw), kernel, mean, std)


def _raw(
  key: Key,
  kernel: jax.Array,
  bias: jax.Array,
  mean: Sequence[float],
  std: Sequence[float],
) -> tuple[jax.Array, jax.Array]:
  """Returns kernel and bias as they act on raw pixels, in float32."""
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


def _normalised(
  raw: jax.Array,
  offset: jax.Array,
  like: jax.Array,
  mean: Sequence[float],
  std: Sequence[float],
) -> tuple[jax.Array, jax.Array]:
  """Returns kernel and bias as they act on normalised pixels."""
  bias = offset + (raw * _column(mean)).sum((0, 1, 2))
  return (raw * _column(std)).astype(like.dtype), bias.astype(like.dtype)


def _column(values: Sequence[float]) -> jax.Array:
  return jnp.asarray(values, jnp.float32).reshape(1, 1, -1, 1)


def _permute(key: Key, kernel: jax.Array, back: bool) -> jax.Array:
  """Moves the rows of each block as the key moves pixels; NP moves none."""
  if isinstance(key, pixel_shuffle.NpKey):
    return kernel
  move = pixel_shuffle.inverse if back else pixel_shuffle.transform
  return jnp.moveaxis(move(key, jnp.moveaxis(kernel, -1, 0)), 0, -1)


def _signs(key: Key, kernel: jax.Array) -> jax.Array:
  return kernel * (1 - 2 * _inverted(key, kernel))


def _shift(key: Key, kernel: jax.Array) -> jax.Array:
  """Returns what a kernel makes of t, the constant of inverted pixels."""
  return (kernel * _inverted(key, kernel)).sum((0, 1, 2))


def _inverted(key: Key, kernel: jax.Array) -> jax.Array:
  """Returns which pixels NP inverts, 0 or 1, float32[p, p, C, 1]."""
  shape = kernel.shape[:3]
  if isinstance(key, pixel_shuffle.ShfKey):
    return jnp.zeros((*shape, 1), jnp.float32)
  # NP of a black image is its mask.
  return pixel_shuffle.transform(key, jnp.zeros(shape, jnp.float32))[..., None]


registry.classify(NAME, registry.DEGRADATION)
