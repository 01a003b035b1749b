"""A Deep-Lock file with its public S-box taken off, and how weights look.

InvSbox(w') is the keystream XOR the plain word: the S-box is a table that
everybody has. What is left is a stream cipher, whose plain words are far from
uniform: a float32 weight of a network has one of about 14 top bytes.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import tree
from keyjax.schemes.deep_lock import INV_SBOX, SBOX

_DOUBT = 0.02
_SAMPLES = 1 << 17


class Leaf(NamedTuple):
  """Where a leaf lies in the stream.

  Attributes:
    path: its path.
    start: its first word.
    words: how many words it takes.
    size: how many parameters it has.
    itemsize: bytes of a parameter.
    dtype: of the plain parameters.
    rank: number of axes.
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
    leaves: where each leaf lies.
  """

  words: np.ndarray
  leaves: tuple[Leaf, ...]

  def leaf(self, path: str) -> Leaf:
    """Returns a locked leaf by path."""
    return next(x for x in self.leaves if x.path == path)


def peel(locked: Any, like: Any) -> Stream:
  """Takes the S-box off a file.

  Args:
    locked: the file: words where a leaf is locked.
    like: the plain tree or its shapes.
  """
  paths, shapes, _ = tree.flatten(like)
  words, leaves, start = [], [], 0
  for path, x, y in zip(paths, shapes, tree.flatten(locked)[1], strict=True):
    if not tree.lockable(x) or y.dtype == x.dtype:
      continue
    peeled = octets_to_words(INV_SBOX[octets(y)])
    width = np.dtype(y.dtype).itemsize
    leaves.append(
      Leaf(path, start, len(peeled), y.size, width, str(x.dtype), len(x.shape))
    )
    words.append(peeled)
    start += len(peeled)
  return Stream(
    np.concatenate(words or [np.zeros(0, np.uint32)]), tuple(leaves)
  )


def cover(stream: Stream, locked: Any, like: Any) -> Any:
  """Puts the S-box back on: the inverse of `peel`."""
  paths, shapes, treedef = tree.flatten(like)
  known = {leaf.path: leaf for leaf in stream.leaves}
  out = []
  for path, y in zip(paths, tree.flatten(locked)[1], strict=True):
    if path in known:
      y = _leaf_words(stream, known[path], SBOX).reshape(np.shape(y))
    out.append(y)
  return jax.tree.unflatten(treedef, out)


def plain(stream: Stream, keystream: np.ndarray, locked: Any, like: Any) -> Any:
  """Returns the params that a keystream opens, uint32[n] like the stream."""
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
  data = table[part.astype(">u4").view(np.uint8)]
  wide = data[: leaf.size * leaf.itemsize].view(f">u{leaf.itemsize}")
  return wide.astype(f"u{leaf.itemsize}")


def octets(x: Any) -> np.ndarray:
  """Returns the bytes of a leaf, uint8[n], each parameter's high byte first."""
  words = np.asarray(tree.as_words(x)).reshape(-1)
  return words.astype(words.dtype.newbyteorder(">")).view(np.uint8)


def octets_to_words(data: np.ndarray) -> np.ndarray:
  """Returns bytes as uint32 words of the stream, zeros at the end."""
  padded = np.pad(data, (0, -len(data) % 4))
  return padded.view(">u4").astype(np.uint32)


class Prior(NamedTuple):
  """How plain words look: what a byte says for weights against noise.

  Attributes:
    bits: float32[leaves, 4, 256], log2 of the likelihood ratio.
    leaf_of: uint16[n], the leaf of each word.
    rows: the bytes of a word that say anything.
  """

  bits: np.ndarray
  leaf_of: np.ndarray
  rows: tuple[int, ...]

  def score(self, words: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Returns what plain words at places say for themselves, float32[m]."""
    leaf = self.leaf_of[at]
    if len(leaf) and leaf[0] == leaf[-1] and (leaf == leaf[0]).all():
      leaf = leaf[0]  # One leaf: a table instead of a table of tables.
    total = np.zeros(len(words), np.float32)
    for row in self.rows:
      octet = (words >> np.uint32(24 - 8 * row)).astype(np.uint8)
      total += self.bits[leaf, row, octet]
    return total


def prior(stream: Stream) -> Prior:
  """Returns what network weights look like: see `_typical`."""
  counts = [leaf.words for leaf in stream.leaves]
  bits = np.stack([_table(leaf.dtype) for leaf in stream.leaves])
  leaf_of = np.repeat(np.arange(len(counts), dtype=np.uint16), counts)
  return Prior(bits, leaf_of, tuple(np.flatnonzero(bits.any((0, 2))).tolist()))


def _typical(dtype: str) -> np.ndarray:
  """Draws weights: normal, of any usual width, some of them 0 or 1.

  No model is looked at; int8 weights are those of `keyjax.quantize`, whose
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
  """Returns float32[4, 256]: log2 of the likelihood ratio of each byte."""
  weights = _typical(dtype)
  width = weights.dtype.itemsize
  data = octets(weights).reshape(-1, width)
  rows = []
  for row in range(4):
    seen = np.bincount(data[:, row % width], minlength=256) + 0.25
    share = seen / seen.sum()
    told = 8 + (share * np.log2(share)).sum()
    # What a sample of uniform bytes seems to tell: chi-square over 255.
    if told < 3 * 255 / (2 * np.log(2) * len(data)):
      share = np.full(256, 1 / 256)
    share = (1 - _DOUBT) * share + _DOUBT / 256
    rows.append(np.log2(share * 256).round(6).astype(np.float32))
  return np.stack(rows)
