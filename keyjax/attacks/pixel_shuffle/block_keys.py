"""Keys of block-wise input transformations, as attacks handle them.

The stolen network is not encrypted; what the attacker lacks is the map of a
block's N values, one for all blocks and images. `options` has the block size.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.attacks.game import Model
from keyjax.attacks.views import View
from keyjax.scheme import ApplyFn
from keyjax.schemes import pixel_shuffle
from keyjax.schemes.pixel_shuffle import NpKey, PixelKey, ShfKey
from keyjax.tasks import Task

SCHEMES = ("shf", "np", "ffx")
BLOCK_SIZE = 4  # Where the options do not give it.


def block_size(view: View) -> int:
  """Return M, which the scheme does not hide."""
  return int(view.options.get("block_size", BLOCK_SIZE))


def values_per_block(view: View) -> int:
  """Return N, the number of values of a block."""
  return block_size(view) ** 2 * int(view.data.image.shape[-1])


def to_blocks(x: jax.Array, m: int) -> jax.Array:
  """Cut images into blocks.

  Args:
    x: float[n, h, w, c].
    m: Block size.

  Returns:
    float[n, h / m, w / m, m * m * c], as `pixel_shuffle` orders a block.
  """
  n, h, w, c = x.shape
  # [n, h/m, m, w/m, m, c] -> [n, h/m, w/m, m, m, c]
  parts = x.reshape(n, h // m, m, w // m, m, c).transpose(0, 1, 3, 2, 4, 5)
  return parts.reshape(n, h // m, w // m, m * m * c)


def from_blocks(blocks: jax.Array, m: int) -> jax.Array:
  """Undo `to_blocks`."""
  n, h, w, size = blocks.shape
  parts = blocks.reshape(n, h, w, m, m, size // m**2).transpose(
    0, 1, 3, 2, 4, 5
  )
  return parts.reshape(n, h * m, w * m, size // m**2)


def guess(view: View, rng: np.random.Generator) -> ShfKey | NpKey:
  """Return a random key of SHF or NP."""
  m = block_size(view)
  order = rng.permutation(m * m * view.data.image.shape[-1])
  if view.name == "shf":
    return ShfKey(order=jnp.asarray(order), block_size=m)
  mask = pixel_shuffle.balanced_mask(order)
  return NpKey(mask=jnp.asarray(mask), block_size=m)


@functools.lru_cache(maxsize=16)
def measure(apply_fn: ApplyFn, task: Task) -> Any:
  """Return a compiled `(params, key, images, labels) -> (loss, statistics)`."""

  @jax.jit
  def run(params: Any, key: PixelKey, x: Any, y: Any) -> tuple[Any, Any]:
    outputs = apply_fn(params, pixel_shuffle.transform(key, x))
    return task.loss(outputs, y).mean(), task.statistics(outputs, y)

  return run


@functools.lru_cache(maxsize=16)
def under_key(apply_fn: ApplyFn) -> ApplyFn:
  """Return a pass over (params, key)."""
  return lambda tree, x: apply_fn(tree[0], pixel_shuffle.transform(tree[1], x))


def model_of(key: PixelKey, apply_fn: ApplyFn, params: Any) -> Model:
  """Return the model under a key; one compiled pass serves every key."""
  return Model((params, key), under_key(apply_fn))
