"""Block-wise keyed image transformations: SHF, NP and FFX.

An image is cut into M x M blocks, and each block, flattened in the order row,
column, channel to N = C M M values, goes through one keyed map. The same key
is used for every block and every image. A model is trained on transformed
images and does not work on others.

    shf:  x'_k = x_{p(k)}                        p a permutation of N
    np:   x'_k = 1 - x_k where m_k               m the balanced mask
    ffx:  x'_k = (T(v_k) if m_k else v_k) / max T, v = round(255 x)

The mask is m_k = [q(k) > N/2] for a permutation q of 0..N-1: N/2 - 1 ones
when N is even. T is format-preserving Feistel encryption (FFX, 10 rounds,
HMAC-SHA1) of three-digit decimals, restricted to 0..255.

Source: AprilPyone MaungMaung, Kiya, "A protection method of trained CNN model
with a secret key from unauthorized access", APSIPA Trans. SIP 10 e10, 2021,
arXiv 2105.14756; and IEEE TIFS 16:2709, 2021, arXiv 2010.00801; order of the
steps as in the authors' evaluation code: transform raw pixels, then normalize.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import arguments, keys, meshes, secrets
from keyjax.scheme import ApplyFn, Scheme
from keyjax.schemes import orders, pixel_checks, registry
from keyjax.schemes.feistel import ffx_table
from keyjax.secrets import Secret

NAME = "pixel_shuffle"
KINDS = ("shf", "np", "ffx")


class PixelKey(keys.Key):
  """Base class of the keys of all kinds."""

  distance_unit = "swaps"
  block_size: int

  def transform_inputs(self, inputs: jax.Array) -> jax.Array:
    """Return transformed images."""
    return transform(self, inputs)

  def rebind(self, new: Self, params: Any) -> Any:
    """Raise: the first layer, which sees the images, is not known here."""
    del new, params
    raise TypeError(
      f"{NAME}: a model sees other images under another key: train it further, "
      "or, if its first layer takes whole blocks, use rekey_patch_embedding"
    )

  def positions(self) -> jax.Array:
    """Return the array of the key that has one element a position, [N]."""
    raise NotImplementedError

  def forward(self, blocks: jax.Array) -> jax.Array:
    """Transform flattened blocks, float[..., N]."""
    raise NotImplementedError

  def backward(self, blocks: jax.Array) -> jax.Array:
    """Undo `forward`."""
    raise NotImplementedError


@keys.key_dataclass
class ShfKey(PixelKey):
  """A permutation of a block: int32[N]."""

  order: jax.Array
  block_size: int = keys.static()

  def check(self) -> None:
    """Raise a ValueError if the order is no permutation."""
    order = np.asarray(self.order)
    keys.require_range(np.sort(order) - np.arange(order.size), 1, "order")

  def positions(self) -> jax.Array:
    """Return the order."""
    return self.order

  def forward(self, blocks: jax.Array) -> jax.Array:
    """Permute."""
    return jnp.take(blocks, self.order, axis=-1, mode="clip")

  def backward(self, blocks: jax.Array) -> jax.Array:
    """Permute back."""
    return jnp.take(blocks, jnp.argsort(self.order), axis=-1, mode="clip")

  def near(self, distance: int, rng: np.random.Generator) -> Self:
    """Compose with a cycle of distance + 1 items: exactly as many swaps."""
    order = np.array(self.order)
    cycle = rng.choice(order.size, distance + 1, replace=False)
    order[cycle] = order[np.roll(cycle, 1)]
    return self.replace(order=jnp.asarray(order))

  def max_distance(self) -> int:
    """Return the largest number of swaps between two permutations."""
    return self.order.size - 1

  def random(self, rng: np.random.Generator) -> Self:
    """Draw a uniform permutation."""
    order = rng.permutation(np.asarray(self.order))
    return self.replace(order=jnp.asarray(order))

  def entropy_bits(self) -> float:
    """Return the bits of a permutation."""
    return math.lgamma(self.order.size + 1) / math.log(2)


class MaskKey(PixelKey):
  """Base class of the keys of NP and FFX, which hold a balanced mask."""

  mask: jax.Array

  def positions(self) -> jax.Array:
    """Return the mask."""
    return self.mask

  def near(self, distance: int, rng: np.random.Generator) -> Self:
    """Swap masked positions with unmasked ones."""
    mask = np.array(self.mask)
    for side in (np.flatnonzero(mask), np.flatnonzero(~mask)):
      mask[rng.choice(side, distance, replace=False)] ^= True
    return self.replace(mask=jnp.asarray(mask))

  def max_distance(self) -> int:
    """Return the number of masked positions."""
    return int(self.mask.sum())

  def random(self, rng: np.random.Generator) -> Self:
    """Draw a mask with as many ones; the table of FFX is kept."""
    mask = rng.permutation(np.asarray(self.mask))
    return self.replace(mask=jnp.asarray(mask))

  def entropy_bits(self) -> float:
    """Return the bits of the mask; FFX's table adds none.

    Half of the pixels do not go through the table.
    """
    return math.log2(math.comb(self.mask.size, int(self.mask.sum())))


@keys.key_dataclass
class NpKey(MaskKey):
  """The positions of a block that are inverted: bool[N]."""

  mask: jax.Array
  block_size: int = keys.static()

  def forward(self, blocks: jax.Array) -> jax.Array:
    """Invert where the mask is set."""
    return jnp.where(_expanded(self.mask, blocks), 1 - blocks, blocks)

  def backward(self, blocks: jax.Array) -> jax.Array:
    """Invert again."""
    return self.forward(blocks)


@keys.key_dataclass
class FfxKey(MaskKey):
  """The positions that are encrypted, bool[N], and the table, int32[256]."""

  mask: jax.Array
  table: jax.Array
  block_size: int = keys.static()

  def check(self) -> None:
    """Raise a ValueError if the table is not one of 256 different numbers."""
    table = np.asarray(self.table)
    keys.require_range(table, 1000, "table")
    if np.unique(table).size != 256:
      raise ValueError(
        "the table of this key has a number twice: it is damaged"
      )

  def forward(self, blocks: jax.Array) -> jax.Array:
    """Look 8-bit values up in the table where the mask is set.

    Rounding has no gradient; here it passes straight through, so that no
    attack or training takes its absence for robustness. An encrypted value
    carries no information about the next one, and gets none.
    """
    masked = _expanded(self.mask, blocks)
    value = jnp.round(jnp.clip(blocks, 0, 1) * 255).astype(jnp.int32)
    value = jnp.where(masked, self.table[value], value)
    scale = self.table.max().astype(blocks.dtype)
    smooth = jnp.where(masked, 0, blocks * (255 / scale)).astype(blocks.dtype)
    return _straight_through(value.astype(blocks.dtype) / scale, smooth)

  def backward(self, blocks: jax.Array) -> jax.Array:
    """Look values up in the inverse table."""
    scale = self.table.max().astype(blocks.dtype)
    value = jnp.round(blocks * scale).astype(jnp.int32)
    back = jnp.zeros(1000, jnp.int32).at[self.table].set(jnp.arange(256))
    value = jnp.where(_expanded(self.mask, blocks), back[value], value)
    return value.astype(blocks.dtype) / 255


def _expanded(mask: jax.Array, blocks: jax.Array) -> jax.Array:
  return jnp.expand_dims(mask, tuple(range(blocks.ndim - 1)))  # [N] -> [.., N]


def pixel_shuffle(
  kind: str = "shf",
  block_size: int = 4,
  image: Callable[[Any], Any] = lambda batch: batch["image"],
) -> Scheme:
  """Return a block-wise input transformation as a scheme.

  It has `keygen` and `bind`: the model trains and runs on transformed inputs,
  and its weights are not encrypted. `bind` transforms the first argument after
  the params.

  Class: *access control by degradation*.

  Guarantees:
    - The map is a bijection of 8-bit images in float32: `inverse` undoes it.
    - With the right key, training and evaluation see the same images.

  Known breaks:
    - Small keys: at M=2 with 3 channels SHF has 28.8 bits and the mask of NP
      and FFX 9.6; at M=4, 202.9 and 44.8; with one channel, 4.6 and 2 at M=2,
      44.3 and 13.5 at M=4 (`key_bits`).
    - Nearly right keys of SHF keep much of the accuracy, so hill climbing on a
      few labelled images finds the key.
    - The map is linear (SHF) or affine (NP) and the same in every block: a
      trainable 1x1 convolution on space-to-depth images absorbs it.
    - It keeps pixel values in their block: one transformed image can reveal the
      key (`attacks.pixel_shuffle.jigsaw`).

  Args:
    kind: `shf`, `np` or `ffx`.
    block_size: Block size M, which must divide the height and the width.
    image: Function from a batch to its images [B, H, W, C], for `keygen`.

  Returns:
    A scheme with `keygen` and `bind`. For NP and FFX, `keygen` refuses a batch
    outside of [0, 1]; it refuses block sizes with one key alone, and warns if
    SHF's permutation leaves every pixel in its place.

  Raises:
    ValueError: If the kind is unknown, or the block size is below 1.

  Example:
    >>> from keyjax import Secret
    >>> scheme = pixel_shuffle("shf", block_size=2)
    >>> images = jnp.arange(16, dtype=jnp.float32).reshape(1, 4, 4, 1) / 16
    >>> key = scheme.keygen(Secret.generate(), {}, {"image": images})
    >>> bool((inverse(key, transform(key, images)) == images).all())
    True
  """
  arguments.require_choice(kind, "kind", KINDS)
  block_size = arguments.whole_number(block_size, "block_size")

  def keygen(secret: Secret, params: Any, batch: Any) -> PixelKey:
    del params  # The key does not depend on the weights.
    keys.require_secret(secret, NAME)
    images = arguments.from_batch(image, batch, NAME)
    pixel_checks.check_array(images)
    pixel_checks.check_shape(images.shape, block_size)
    if kind != "shf":
      pixel_checks.check_range(images, kind)
    _check_bits(kind, block_size, images.shape[-1])
    size = images.shape[-1] * block_size**2
    order = secrets.permutation(secret, f"{NAME}/{kind}", size)
    keys.warn_of_identity(kind == "shf" and orders.stay([order]), NAME)
    return _make_key(secret, kind, block_size, order)

  def bind(key: PixelKey, apply_fn: ApplyFn) -> ApplyFn:
    _require(key)
    arguments.require_apply(apply_fn, f"{NAME}: apply_fn")

    def bound(params: Any, x: jax.Array, *args: Any, **kwargs: Any) -> Any:
      return apply_fn(params, transform(key, x), *args, **kwargs)

    return bound

  return Scheme(keygen, bind=bind)


def _check_bits(kind: str, block_size: int, channels: int) -> None:
  """Raise a ValueError if there is one key alone, which locks nothing."""
  if key_bits(kind, block_size, channels) == 0:
    raise ValueError(
      f"{NAME}: {kind} with block_size={block_size}, channels={channels} has "
      "one key alone, of 0 bits (`key_bits`): choose a larger block_size"
    )


def _make_key(
  secret: Secret, kind: str, block_size: int, order: np.ndarray
) -> PixelKey:
  if kind == "shf":
    return ShfKey(order=jnp.asarray(order), block_size=block_size)
  mask = jnp.asarray(balanced_mask(order))
  if kind == "np":
    return NpKey(mask=mask, block_size=block_size)
  table = ffx_table(secret.derive(f"{NAME}/ffx/table", 32))
  return FfxKey(mask=mask, table=jnp.asarray(table), block_size=block_size)


def balanced_mask(order: np.ndarray) -> np.ndarray:
  """Return the mask of a permutation of 0..N-1: `order > N/2`, strictly."""
  return order > order.size / 2


@jax.custom_jvp
def _straight_through(exact: jax.Array, smooth: jax.Array) -> jax.Array:
  """Return `exact`, with the gradient of `smooth`."""
  del smooth
  return exact


@_straight_through.defjvp
def _(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
  return primals[0], tangents[1]


def transform(key: PixelKey, x: jax.Array) -> jax.Array:
  """Transform images with a key.

  Args:
    key: Key of `pixel_shuffle`.
    x: Images float[..., H, W, C] in [0, 1]; M divides H and W. FFX rounds to
      8 bits: what is outside of [0, 1] is cut off, and NaN becomes a number.
      These are not refused here, where values may be traced.

  Returns:
    Images float[..., H, W, C] in [0, 1] of the same dtype. NP and FFX compute
    in float32; 16 bits are not enough for `inverse`.

  Raises:
    ValueError: If M does not divide the image, the number of channels is not
      the key's, the pixels are not floats, or Explicit axes split a block.
  """
  _require(key)
  return _blockwise(key, x, type(key).forward)


def inverse(key: PixelKey, x: jax.Array) -> jax.Array:
  """Undo `transform`: exactly for SHF, up to rounding for NP and FFX."""
  _require(key)
  return _blockwise(key, x, type(key).backward)


def _blockwise(key: PixelKey, x: jax.Array, function: Callable) -> jax.Array:
  m = key.block_size
  pixel_checks.check_array(x)
  pixel_checks.check_shape(x.shape, m)
  pixel_checks.check_floats(x.dtype)
  c = x.shape[-1]
  keys.require_vector(key.positions(), NAME)
  size = key.positions().shape[0]
  if size != c * m * m:
    raise ValueError(
      f"{NAME}: the key is for {size // m**2} channels, the images have {c}"
    )
  pixel_checks.check_sharding(x, m)
  return meshes.as_auto(functools.partial(_in_blocks, function), x, key, x)


def _in_blocks(function: Callable, key: PixelKey, x: jax.Array) -> jax.Array:
  *lead, h, w, c = x.shape
  m = key.block_size
  n = len(lead)
  swap = (*range(n), n, n + 2, n + 1, n + 3, n + 4)
  # [.., h, w, c] -> [.., h/m, m, w/m, m, c] -> [.., h/m, w/m, m, m, c]
  blocks = x.reshape(*lead, h // m, m, w // m, m, c).transpose(swap)
  shape = blocks.shape
  flat = blocks.reshape(*shape[:-3], c * m * m)  # -> [.., h/m, w/m, N]
  if not isinstance(key, ShfKey):
    flat = flat.astype(jnp.float32)
  out = function(key, flat).astype(x.dtype)
  return out.reshape(shape).transpose(swap).reshape(x.shape)


def _require(key: Any) -> None:
  if not isinstance(key, PixelKey):
    keys.require(key, ShfKey, NAME)  # Raises.


def key_bits(kind: str, block_size: int, channels: int) -> float:
  """Return the size of a key space in bits, without the table of FFX.

  Example:
    >>> round(key_bits("shf", 2, 3), 1), round(key_bits("np", 4, 3), 1)
    (28.8, 44.8)
  """
  n = channels * block_size**2
  if kind == "shf":
    return math.lgamma(n + 1) / math.log(2)
  return math.log2(math.comb(n, n - 1 - n // 2))


def _of_kind(kind: str) -> Callable[..., Scheme]:
  def make(block_size: int = 4) -> Scheme:
    return pixel_shuffle(kind, block_size)

  return make


registry.classify(NAME, registry.DEGRADATION)
for _kind in KINDS:
  registry.register(
    _kind,
    _of_kind(_kind),
    security_class=registry.DEGRADATION,
    known_break="100 intercepted transformed images give the key",
    picture="inputs",
  )
