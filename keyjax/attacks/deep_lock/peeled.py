"""A Deep-Lock file without its public S-box, and the distribution of weights.

InvSbox(w') is the keystream XOR the plain word: the S-box is a public table.
What is left is a stream cipher, whose plain words are far from uniform: a
float32 weight of a network has one of about 14 top bytes.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import tree
from keyjax.aes.substitution import INV_SBOX, SBOX

_DOUBT = 0.02
_SAMPLES = 1 << 17


class Leaf(NamedTuple):
  """Where a leaf is in the stream.

  Attributes:
    path: Path of the leaf.
    start: Index of its first word.
    words: Number of words that it takes.
    size: Number of parameters.
    itemsize: Bytes of a parameter.
    dtype: Dtype of the plain parameters.
    rank: Number of axes.
  """

  path: str
  start: int
  words: int
  size: int
  itemsize: int
  dtype: str
  rank: int


class Stream(NamedTuple):
  """The words of a file in the order of the keystream.

  Attributes:
    words: uint32[n], keystream XOR plain words.
    leaves: Where each leaf is.
  """

  words: np.ndarray
  leaves: tuple[Leaf, ...]

  def leaf(self, path: str) -> Leaf:
    """Return a locked leaf by path."""
    return next(x for x in self.leaves if x.path == path)


def peel(locked: Any, like: Any) -> Stream:
  """Remove the S-box from a file.

  Args:
    locked: The file: words where a leaf is locked.
    like: The plain tree or its shapes.
  """
  paths, shapes, _ = tree.flatten(like)
  words = []
  leaves = []
  start = 0
  for path, x, y in zip(paths, shapes, tree.flatten(locked)[1], strict=True):
    if not tree.lockable(x) or y.dtype == x.dtype:
      continue
    peeled = octets_to_words(INV_SBOX[octets(y)])
    width = np.dtype(y.dtype).itemsize
    leaves.append(
      Leaf(
        path=path,
        start=start,
        words=len(peeled),
        size=y.size,
        itemsize=width,
        dtype=str(x.dtype),
        rank=len(x.shape),
      )
    )
    words.append(peeled)
    start += len(peeled)
  return Stream(
    np.concatenate(words or [np.zeros(0, np.uint32)]), tuple(leaves)
  )


def cover(stream: Stream, locked: Any, like: Any) -> Any:
  """Apply the S-box again: the inverse of `peel`."""
  paths, shapes, treedef = tree.flatten(like)
  known = {leaf.path: leaf for leaf in stream.leaves}
  out = []
  for path, y in zip(paths, tree.flatten(locked)[1], strict=True):
    if path in known:
      y = _leaf_words(stream, known[path], SBOX).reshape(np.shape(y))
    out.append(y)
  return jax.tree.unflatten(treedef, out)


def plain(stream: Stream, keystream: np.ndarray, locked: Any, like: Any) -> Any:
  """Return the params that a keystream opens, uint32[n] like the stream."""
  opened = stream._replace(words=stream.words ^ keystream)
  paths, shapes, treedef = tree.flatten(like)
  known = {leaf.path: leaf for leaf in stream.leaves}
  out = []
  for path, x, y in zip(paths, shapes, tree.flatten(locked)[1], strict=True):
    if path in known:
      y = _leaf_words(opened, known[path], np.arange(256, dtype=np.uint8))
      y = tree.from_words(y.reshape(x.shape), x.dtype)
    out.append(y)
  return jax.tree.unflatten(treedef, out)


def _leaf_words(stream: Stream, leaf: Leaf, table: np.ndarray) -> np.ndarray:
  part = stream.words[leaf.start : leaf.start + leaf.words]
  # [words] -> bytes [4 * words] -> parameters [size]
  data = table[part.astype(">u4").view(np.uint8)]
  wide = data[: leaf.size * leaf.itemsize].view(f">u{leaf.itemsize}")
  return wide.astype(f"u{leaf.itemsize}")


def octets(x: Any) -> np.ndarray:
  """Return the bytes of a leaf, uint8[n], each parameter's high byte first."""
  words = np.asarray(tree.as_words(x)).reshape(-1)
  return words.astype(words.dtype.newbyteorder(">")).view(np.uint8)


def octets_to_words(data: np.ndarray) -> np.ndarray:
  """Return bytes as uint32 words of the stream, zero-padded at the end."""
  padded = np.pad(data, (0, -len(data) % 4))
  return padded.view(">u4").astype(np.uint32)


def words_of(params: Any, stream: Stream) -> np.ndarray:
  """Return plain params as words of the stream, uint32[n]."""
  paths, leaves, _ = tree.flatten(params)
  named = dict(zip(paths, leaves, strict=True))
  parts = [octets_to_words(octets(named[x.path])) for x in stream.leaves]
  return np.concatenate(parts)


class Prior(NamedTuple):
  """Distribution of plain words: evidence of a byte for weights against noise.

  Attributes:
    bits: float32[leaves, 4, 256], log2 of the likelihood ratio.
    leaf_of: uint16[n], the leaf of each word.
    rows: Bytes of a word that carry evidence.
  """

  bits: np.ndarray
  leaf_of: np.ndarray
  rows: tuple[int, ...]

  def score(self, words: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return the evidence of plain words at places, float32[m]."""
    leaf = self.leaf_of[at]
    if len(leaf) and leaf[0] == leaf[-1] and (leaf == leaf[0]).all():
      leaf = leaf[0]  # One leaf: a table instead of a table of tables.
    total = np.zeros(len(words), np.float32)
    for row in self.rows:
      octet = (words >> np.uint32(24 - 8 * row)).astype(np.uint8)
      total += self.bits[leaf, row, octet]
    return total


def prior(stream: Stream) -> Prior:
  """Return the distribution of network weights: see `_typical`."""
  counts = [leaf.words for leaf in stream.leaves]
  bits = np.stack([_table(leaf.dtype) for leaf in stream.leaves])
  leaf_of = np.repeat(np.arange(len(counts), dtype=np.uint16), counts)
  return Prior(bits, leaf_of, tuple(np.flatnonzero(bits.any((0, 2))).tolist()))


def _typical(dtype: str) -> np.ndarray:
  """Draw weights: normal, of any usual width, some of them 0 or 1.

  No model is used; int8 weights are those of `keyjax.quantize`, whose
  channels reach 127.
  """
  rng = np.random.default_rng(0)
  normal = rng.normal(size=_SAMPLES)
  if dtype == "int8":
    width = rng.uniform(24, 64, _SAMPLES)
    return np.clip(np.rint(normal * width), -127, 127).astype(np.int8)
  values = normal * np.exp2(rng.uniform(-7, -1, _SAMPLES))
  kind = rng.random(_SAMPLES)
  values = np.where(kind < 0.04, 0.0, np.where(kind < 0.06, 1.0, values))
  return values.astype(jnp.dtype(dtype))


@functools.cache
def _table(dtype: str) -> np.ndarray:
  """Return float32[4, 256]: log2 of the likelihood ratio of each byte."""
  weights = _typical(dtype)
  width = weights.dtype.itemsize
  data = octets(weights).reshape(-1, width)
  rows = []
  for row in range(4):
    seen = np.bincount(data[:, row % width], minlength=256) + 0.25
    share = seen / seen.sum()
    information = 8 + (share * np.log2(share)).sum()
    # What a sample of uniform bytes seems to carry: chi-square over 255.
    if information < 3 * 255 / (2 * np.log(2) * len(data)):
      share = np.full(256, 1 / 256)
    share = (1 - _DOUBT) * share + _DOUBT / 256
    rows.append(np.log2(share * 256).round(6).astype(np.float32))
  return np.stack(rows)
