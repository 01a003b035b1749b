"""What the attacks on block-wise input transformations share.

The stolen network is as it is; what the thief lacks is the map of a block's N
values, one for all blocks and images. `options` says the block size.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.attacks import referee
from keyjax.attacks.game import Model, Score, Target
from keyjax.attacks.hpnn import signs as hpnn_signs
from keyjax.attacks.views import View
from keyjax.scheme import ApplyFn
from keyjax.schemes import pixel_shuffle
from keyjax.schemes.pixel_shuffle import NpKey, PixelKey, ShfKey

KINDS = ("shf", "np", "ffx")
BLOCK_SIZE = 4  # of a view that does not say.


def block_size(view: View) -> int:
  """Returns M, which the scheme does not hide."""
  return int(view.options.get("block_size", BLOCK_SIZE))


def to_blocks(x: jax.Array, m: int) -> jax.Array:
  """Cuts images into blocks.

  Args:
    x: float[n, h, w, c].
    m: the block size.

  Returns:
    float[n, h / m, w / m, m * m * c], as `pixel_shuffle` orders a block.
  """
  n, h, w, c = x.shape
  parts = x.reshape(n, h // m, m, w // m, m, c).transpose(0, 1, 3, 2, 4, 5)
  return parts.reshape(n, h // m, w // m, m * m * c)


def from_blocks(blocks: jax.Array, m: int) -> jax.Array:
  """Undoes `to_blocks`."""
  n, h, w, size = blocks.shape
  parts = blocks.reshape(n, h, w, m, m, size // m**2).transpose(
    0, 1, 3, 2, 4, 5
  )
  return parts.reshape(n, h * m, w * m, size // m**2)


def guess(view: View, rng: np.random.Generator) -> ShfKey | NpKey:
  """Returns a random key of SHF or NP."""
  m = block_size(view)
  order = rng.permutation(m * m * view.data.image.shape[-1])
  if view.name == "shf":
    return ShfKey(order=jnp.asarray(order), block_size=m)
  mask = pixel_shuffle.balanced_mask(order)
  return NpKey(mask=jnp.asarray(mask), block_size=m)


@functools.lru_cache(maxsize=16)
def measure(apply_fn: ApplyFn) -> Any:
  """Returns a compiled `(params, key, images, labels) -> (loss, accuracy)`."""

  @jax.jit
  def run(params: Any, key: PixelKey, x: Any, y: Any) -> tuple[Any, Any]:
    logits = apply_fn(params, pixel_shuffle.transform(key, x))
    hits = logits.argmax(-1).astype(y.dtype) == y
    return hpnn_signs.loss("ce", logits, y), hits.mean()

  return run


@functools.lru_cache(maxsize=16)
def _under_key(apply_fn: ApplyFn) -> ApplyFn:
  return lambda tree, x: apply_fn(tree[0], pixel_shuffle.transform(tree[1], x))


def model_of(key: PixelKey, apply_fn: ApplyFn, params: Any) -> Model:
  """Returns the model under a key; one compiled pass serves every key."""
  return Model((params, key), _under_key(apply_fn))


def share(claimed: PixelKey, true: PixelKey) -> float:
  """Returns the share of a block's positions that a key treats right."""
  if isinstance(claimed, ShfKey) and isinstance(true, ShfKey):
    return float((np.asarray(claimed.order) == np.asarray(true.order)).mean())
  same = np.asarray(claimed.mask) == np.asarray(true.mask)  # type: ignore[union-attr]
  return float(same.mean())


def judge(claimed: PixelKey, target: Target) -> tuple[Score, float]:
  """Returns the accuracy under a claimed key, and its share that is right."""
  model = model_of(claimed, target.apply_fn, target.floats(target.locked))
  return referee.accuracy(model, target.test), share(claimed, target.key)


def key_referee(claimed: PixelKey, target: Target) -> Score:
  """Scores the share of positions that are right."""
  accuracy, found = judge(claimed, target)
  return Score(found, found, found, {"accuracy": accuracy.value})


def function_referee(claimed: PixelKey, target: Target) -> Score:
  """Scores the accuracy under a claimed key."""
  accuracy, found = judge(claimed, target)
  return accuracy._replace(details={**accuracy.details, "key_share": found})
