"""What a locked file shows without a key: repetition, and how it compresses.

Random bytes do neither. What is left of a network's structure does: weights
that are equal, exponents that are alike, two leaves under one keystream.
"""

import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

_BLOCK = 16  # Bytes: what a cipher encrypts at once.
_PART = 1 << 20  # Bytes of each sample of a large tree,
_MOST = 64 << 20  # and of all samples.
_LEVEL = 6


class Redundancy(NamedTuple):
  """Redundancy of a tree's bytes.

  Attributes:
    compressed: Size after zlib as a share of the size before; random bytes
      reach 1.
    repeated: Share of aligned blocks of 16 bytes that occur more than once.
    sampled: Bytes that were looked at.
  """

  compressed: float
  repeated: float
  sampled: int


def measure(params: Any) -> Redundancy:
  """Measure the bytes of a tree, or samples of it if it has above 64 MiB.

  Args:
    params: Pytree of arrays, plain or locked.

  Example:
    >>> measure({"w": np.zeros(1024, np.float32)}).repeated
    1.0
    >>> import os
    >>> random = np.frombuffer(os.urandom(4096), np.uint32)
    >>> measure({"w": random}).compressed > 0.99
    True
  """
  leaves = [np.asarray(x) for x in jax.tree.leaves(params)]
  total = sum(x.nbytes for x in leaves)
  step = max(1, -(-total // _MOST))  # Of parts, one in so many is looked at.
  packer = zlib.compressobj(_LEVEL)
  seen, packed, blocks = 0, 0, []
  for part in _parts(leaves, step):
    seen += len(part)
    packed += len(packer.compress(part))
    whole = len(part) // _BLOCK * _BLOCK
    blocks.append(np.frombuffer(part[:whole], f"V{_BLOCK}"))
  packed += len(packer.flush())
  share = packed / seen if seen else 0.0
  return Redundancy(share, _repeated(blocks), seen)


def _parts(leaves: list[np.ndarray], step: int) -> Iterator[bytes]:
  """Yield every `step`-th part of the leaves, as bytes."""
  number = 0
  for leaf in leaves:
    flat = np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)
    for start in range(0, flat.size, _PART):
      if number % step == 0:
        yield flat[start : start + _PART].tobytes()
      number += 1


def _repeated(blocks: list[np.ndarray]) -> float:
  every = np.concatenate(blocks) if blocks else np.zeros(0, f"V{_BLOCK}")
  if not every.size:
    return 0.0
  _, counts = np.unique(every.view(f"S{_BLOCK}"), return_counts=True)
  return float(counts[counts > 1].sum() / every.size)
