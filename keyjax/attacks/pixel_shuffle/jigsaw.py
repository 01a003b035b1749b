"""Pixel shuffle: restore images from ciphertexts alone.

One map serves all blocks, so many transformed images show how its N outputs are
correlated. Neighbouring pixels are alike, and remain so:

- SHF: correlations of outputs within a block and across neighbouring blocks
  are matched to those of pixel positions, by swaps: a jigsaw puzzle of one
  block. The expected correlations come from a model of images (correlation
  falls with distance), or from the attacker's own images.
- NP: an inverted position is anticorrelated with the others; the signs of the
  leading eigenvector are the mask, and the mask's weight, which is not half of
  N, shows which side is inverted.
- FFX: values are printed in three digits, and divided by the largest: the
  positions that are not encrypted stay below about a quarter. The table is
  matched by rank: a ciphertext value with brighter surroundings stands for a
  brighter value.

Needs: transformed images, as an eavesdropper on a server has them, and the
block size: neither the file nor labels. Cost: a covariance and a few thousand
swaps.

References:
  Chuman, Kiya, "A Jigsaw Puzzle Solver-Based Attack on Image Encryption Using
  Vision Transformer for Privacy-Preserving DNNs", Information 14(6):311, 2023,
  arXiv 2211.02369, for the family.
"""

import itertools
from collections.abc import Iterator, Sequence

import jax.numpy as jnp
import numpy as np

from keyjax.attacks import registry
from keyjax.attacks.game import (
  Attacker,
  Budget,
  Claim,
  Cost,
  Goal,
  Score,
  Target,
)
from keyjax.attacks.pixel_shuffle import block_keys, block_referees
from keyjax.attacks.views import View
from keyjax.schemes import pixel_shuffle
from keyjax.schemes.pixel_shuffle import FfxKey, NpKey, PixelKey, ShfKey

_OFFSETS = ((0, 0), (0, 1), (1, 0))
# Model of images: distance at which a correlation is 1 / e, in pixels, and the
# factor for another colour.
_RANGE = 3.0
_COLOUR = 0.8
_JUDGED = 1000  # Training images that the referee restores.


def _referee(claimed: PixelKey, target: Target) -> Score:
  """Score the key, and add how near restored training images are."""
  images = jnp.asarray(target.train.image[-_JUDGED:])
  transformed = pixel_shuffle.transform(target.key, images)
  restored = pixel_shuffle.inverse(claimed, transformed)
  details = {"psnr": psnr(np.asarray(restored), np.asarray(images))}
  if isinstance(claimed, ShfKey) and isinstance(target.key, ShfKey):
    channels = images.shape[-1]
    # Values at the right pixel, whatever their colour.
    a, b = (np.asarray(k.order) // channels for k in (claimed, target.key))
    details["pixels"] = float((a == b).mean())
  score = block_referees.key_referee(claimed, target)
  return score._replace(details={**score.details, **details})


def psnr(a: np.ndarray, b: np.ndarray) -> float:
  """Return the peak signal-to-noise ratio in dB, at most 99.

  Example:
    >>> round(psnr(np.full(4, 0.5), np.full(4, 0.6)), 3)
    20.0
  """
  error = float(((a - b) ** 2).mean())
  return min(-10 * float(np.log10(max(error, 1e-12))), 99.0)


@registry.register(
  "pixel_jigsaw",
  Goal.KEY,
  block_keys.SCHEMES,
  Attacker(has_locked=False, ciphertexts=1),
  ({"template": "model"}, {"template": "images"}),
  referee=_referee,
)
def jigsaw(
  view: View, budget: Budget, template: str = "model"
) -> Iterator[Claim]:
  """Find the key from transformed images.

  Args:
    view: Transformed images, and the attacker's own images, if any.
    budget: Its `steps` are restarts of the search for SHF's key.
    template: For SHF: `model` for a model of images, or `images` for the
      statistics of the attacker's own.
  """
  assert view.ciphertexts is not None
  images = view.ciphertexts
  m = block_keys.block_size(view)
  more = {"ciphertexts": len(images)}
  useful = template == "images" and len(view.data.image) > 0
  own = view.data.image if useful else None
  key = solve(view.name, m, images, own, budget.steps, budget.seed)
  yield Claim(key, Cost(steps=budget.steps), more)


def solve(
  kind: str,
  m: int,
  images: np.ndarray,
  own: np.ndarray | None = None,
  restarts: int = 5,
  seed: int = 0,
) -> PixelKey:
  """Return the key that fits transformed images best.

  Args:
    kind: `shf`, `np` or `ffx`.
    m: Block size.
    images: float[n, h, w, c], transformed.
    own: Plain images of the same kind, if any; SHF's colours need them.
    restarts: Number of restarts of the search for SHF's key.
    seed: Seed of the restarts.
  """
  if kind == "np":
    return NpKey(mask=jnp.asarray(inverted(images, m)), block_size=m)
  if kind == "ffx":
    return table_key(images, m)
  found = correlations(images, m)
  rng = np.random.default_rng(seed)
  size = found.shape[-1]
  starts = [rng.permutation(size) for _ in range(max(restarts, 1))]
  order = arrange(found, model(images, m), starts)
  if own is not None:  # The model cannot tell colours apart.
    c = images.shape[-1]
    turned = [
      order // c * c + np.array(turn)[order % c]
      for turn in itertools.permutations(range(c))
    ]
    order = arrange(found, correlations(own, m), turned + starts)
  return ShfKey(order=jnp.asarray(order), block_size=m)


def _blocks(images: np.ndarray, m: int) -> np.ndarray:
  return np.asarray(block_keys.to_blocks(jnp.asarray(images), m), np.float64)


# ------------------------------------------------------------------------ SHF


def correlations(images: np.ndarray, m: int) -> np.ndarray:
  """Return the correlations of positions, float64[3, N, N].

  Within a block, and with those of the block to the right and below.

  Args:
    images: float[n, h, w, c].
    m: Block size.
  """
  blocks = _blocks(images, m)  # [n, h / m, w / m, N]
  size = blocks.shape[-1]
  flat = blocks.reshape(-1, size)
  blocks = (blocks - flat.mean(0)) / np.maximum(flat.std(0), 1e-6)
  _, h, w, _ = blocks.shape
  matrices = []
  for dy, dx in _OFFSETS:
    a = blocks[:, : h - dy, : w - dx].reshape(-1, size)
    b = blocks[:, dy:, dx:].reshape(-1, size)
    matrices.append(a.T @ b / len(a))
  return np.stack(matrices)


def model(images: np.ndarray, m: int) -> np.ndarray:
  """Return `correlations` by a model of images: exp(-distance)."""
  channels = images.shape[-1]
  row, column, colour = np.indices((m, m, channels)).reshape(3, -1)
  matrices = []
  for dy, dx in _OFFSETS:
    y = row[None, :] + m * dy - row[:, None]
    x = column[None, :] + m * dx - column[:, None]
    other = colour[None, :] != colour[:, None]
    near = np.exp(-np.hypot(x, y) / _RANGE)
    matrices.append(near * np.where(other, _COLOUR, 1))
  return np.stack(matrices)


def arrange(
  found: np.ndarray, want: np.ndarray, starts: Sequence[np.ndarray]
) -> np.ndarray:
  """Return the order that makes two sets of correlations most alike.

  Args:
    found: float[3, N, N], of transformed images.
    want: float[3, N, N], of pixel positions.
    starts: Initial orders of a search by swaps; the best result counts.

  Returns:
    int[N] with `found[:, k, l]` like `want[:, order[k], order[l]]`.
  """
  found, want = _standard(found), _standard(want)
  ends = [_uphill(found, want, start) for start in starts]
  return max(ends, key=lambda end: end[1])[0]


def _standard(x: np.ndarray) -> np.ndarray:
  """Standardise each of the three matrices."""
  mean = x.mean((1, 2), keepdims=True)
  return (x - mean) / np.maximum(x.std((1, 2), keepdims=True), 1e-9)


def _uphill(
  found: np.ndarray, want: np.ndarray, order: np.ndarray
) -> tuple[np.ndarray, float]:
  """Swap positions until no swap raises the agreement."""
  order = order.copy()
  high = _agreement(found, want, order)
  improved = True
  while improved:
    improved = False
    for i in range(order.size):
      for j in range(i + 1, order.size):
        order[[i, j]] = order[[j, i]]
        trial = _agreement(found, want, order)
        if trial > high + 1e-12:
          high = trial
          improved = True
        else:
          order[[i, j]] = order[[j, i]]
  return order, high


def _agreement(found: np.ndarray, want: np.ndarray, order: np.ndarray) -> float:
  return float((found * want[:, order[:, None], order[None, :]]).mean())


# ----------------------------------------------------------------- NP and FFX


def inverted(images: np.ndarray, m: int) -> np.ndarray:
  """Return the positions that NP inverts, bool[N]."""
  leading = np.linalg.eigh(correlations(images, m)[0])[1][:, -1]
  mask = leading < 0
  ones = int(pixel_shuffle.balanced_mask(np.arange(mask.size)).sum())
  return mask if abs(mask.sum() - ones) <= abs((~mask).sum() - ones) else ~mask


def table_key(images: np.ndarray, m: int) -> FfxKey:
  """Return the positions that FFX encrypts, and an estimate of its table."""
  flat = _blocks(images, m).reshape(-1, m * m * images.shape[-1])
  ones = int(pixel_shuffle.balanced_mask(np.arange(flat.shape[1])).sum())
  mask = np.zeros(flat.shape[1], bool)
  mask[np.argsort(-flat.max(0))[:ones]] = True
  # Unmasked pixels reach 255 / max(T), so this is max(T).
  largest = round(255 / max(float(flat[:, ~mask].max()), 0.255))
  cipher = np.round(flat[:, mask] * largest).astype(int)
  plain = np.round(flat[:, ~mask] * largest).astype(int).clip(0, 255)
  around = np.repeat(plain.mean(1), cipher.shape[1])
  count = np.bincount(cipher.reshape(-1), minlength=1000)[:1000]
  total = np.bincount(cipher.reshape(-1), around, minlength=1000)[:1000]
  seen = np.flatnonzero(count)
  ranked = seen[np.argsort(total[seen] / count[seen])]
  # Plain value v is matched to the ciphertext at the same quantile.
  quantile = (np.cumsum(count[ranked]) - count[ranked] / 2) / count.sum()
  share = np.bincount(plain.reshape(-1), minlength=256) / plain.size
  middle = np.cumsum(share) - share / 2
  table = ranked[np.abs(middle[:, None] - quantile[None, :]).argmin(1)]
  return FfxKey(
    mask=jnp.asarray(mask),
    table=jnp.asarray(table, jnp.int32),
    block_size=m,
  )
