"""Random blocks of 128 bits, each with one bit of what AES makes of it.

A network is to learn the cipher from inputs and outputs under one key. The key
is that of the example of FIPS 197, appendix C.1: nothing is protected here.
"""

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from experiments.data.dataset import Dataset
from experiments.data.registry import DATASETS, Entry

BLOCK = 16  # Bytes.
_KEY = bytes(range(BLOCK))
_NUM_TRAIN, _NUM_TEST = 16_000, 4_000

Array = np.ndarray


def to_bits(blocks: Array) -> Array:
  """Return the bits of blocks as images, most significant bit first.

  Args:
    blocks: uint8[n, 16].

  Returns:
    uint8[n, 16, 8, 1], 0 or 255: a row for each byte.

  Example:
    >>> to_bits(np.full((1, 16), 1, np.uint8))[0, 0, :, 0]
    array([  0,   0,   0,   0,   0,   0,   0, 255], dtype=uint8)
  """
  return np.unpackbits(blocks[..., None], axis=-1)[..., None] * np.uint8(255)


def to_blocks(images: Array) -> Array:
  """Return the blocks of which `to_bits` made images, uint8[n, 16]."""
  return np.packbits(images[..., 0] > 127, axis=-1)[..., 0]


def aes_bit(blocks: Array, key: bytes = _KEY) -> Array:
  """Return the last bit of AES-128 of each block, int32[n].

  Args:
    blocks: uint8[n, 16].
    key: 16 bytes.
  """
  aes = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
  out = aes.update(blocks.tobytes()) + aes.finalize()
  return np.frombuffer(out, np.uint8).reshape(-1, BLOCK)[:, -1] % 2 + np.int32(
    0
  )


def make(num_train: int | None = None, num_test: int | None = None) -> Dataset:
  """Return random blocks, and a bit of AES-128 for each.

  Args:
    num_train: Number of blocks to learn from; 16,000 by default.
    num_test: Number of other blocks; 4,000 by default.
  """
  train, test = num_train or _NUM_TRAIN, num_test or _NUM_TEST
  rng = np.random.default_rng(0)
  blocks = rng.integers(0, 256, (train + test, BLOCK), np.uint8)
  images, labels = to_bits(blocks), aes_bit(blocks)
  return Dataset(
    name="bits",
    train_images=images[:train],
    train_labels=labels[:train],
    test_images=images[train:],
    test_labels=labels[train:],
    num_classes=2,
    class_names=None,
    mean=(0.5,),
    std=(0.5,),
    source="random blocks of 128 bits, and a bit of AES-128 for each",
  )


DATASETS.add(
  "bits",
  Entry(
    lambda options: make(options.num_train, options.num_test),
    origin="is made of random numbers",
  ),
)
