"""Functions with a secret, learnt from inputs and outputs, or solved for.

A network that fails proves little: parity and one byte of an S-box defeat it as
well, and fall to classical attacks that need fewer pairs. So each function
meets both, and the two attacks on the others are controls for AES and HMAC.
"""

import dataclasses
import functools
import hmac
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from experiments.data.sets import bits
from experiments.studies import base

TITLE = "Functions that a network does not learn"
SENTENCE = (
  "A network approximates any function, but for cryptographic ones, which are "
  "made so that it does not."
)
DATASETS = ("bits",)

_EPOCHS = 16.0  # 4,000 steps on 16,000 blocks.
_HIDDEN = (256, 256)
_PARITY = 4  # Hidden bits of which the sum is asked.
_EQUATIONS = 256  # Pairs for 129 unknowns of linear algebra.
_GUESSES = 32  # Pairs that decide between 256 key bytes.

Array = np.ndarray
Bit = Callable[[Array], Array]  # uint8[n, 16] -> int32[n], 0 or 1


class Target(NamedTuple):
  """A function of blocks.

  Attributes:
    bit: The function.
    network: What the prototype's network reached on other inputs.
  """

  bit: Bit
  network: str


def run(lab: base.Lab) -> list[base.Figure]:
  """Return how often each attack has the bit of a new block right."""
  figures = []
  for name, target in targets(np.random.default_rng(lab.seed)).items():
    dataset = _labelled(lab, name, target.bit)
    learner = lab._replace(dataset=dataset)
    net = base.network(learner, epochs=_EPOCHS, hidden=_HIDDEN)
    for split, images, labels, known in (
      ("blocks it learnt", dataset.train_images, dataset.train_labels, ""),
      ("new blocks", dataset.test_images, dataset.test_labels, target.network),
    ):
      size = len(dataset.test_labels)
      x = jnp.asarray(images[:size] / np.float32(255))
      right = np.asarray(net.logits_fn(x)).argmax(-1) == labels[:size]
      figures.append(base.share(f"{name}: network, {split}", right, known))
    seen = bits.to_blocks(dataset.train_images), dataset.train_labels
    new = bits.to_blocks(dataset.test_images)
    for attack, solve in (
      (f"linear algebra, {_EQUATIONS} pairs", linear),
      (f"a key byte guessed, {_GUESSES} pairs", guessed_byte),
    ):
      right = solve(*seen, new) == dataset.test_labels
      figures.append(base.share(f"{name}: {attack}", right))
  return figures


def targets(rng: np.random.Generator) -> dict[str, Target]:
  """Return the functions, under keys that the generator draws."""
  key = rng.integers(0, 256, bits.BLOCK, np.uint8)
  hidden = rng.choice(8 * bits.BLOCK, _PARITY, replace=False)
  return {
    "XOR with a key": Target(lambda x: _last(x ^ key), "100 % (prototype)"),
    "S-box of a byte": Target(
      lambda x: sbox()[x[:, 0] ^ key[0]] % 2 + np.int32(0),
      "55.8 % (prototype)",
    ),
    f"parity of {_PARITY} bits": Target(
      lambda x: _unpacked(x)[:, hidden].sum(-1, dtype=np.int32) % 2,
      "50.8 % (prototype)",
    ),
    "AES-128": Target(
      functools.partial(bits.aes_bit, key=key.tobytes()), "48.4 % (prototype)"
    ),
    "HMAC-SHA-256": Target(
      functools.partial(_hmac_bit, key=key.tobytes()), "48.7 % (prototype)"
    ),
  }


def linear(blocks: Array, labels: Array, new: Array) -> Array:
  """Solve for the bits whose sum is the answer, by elimination over GF(2).

  Args:
    blocks: uint8[n, 16], known inputs.
    labels: int[n], known answers.
    new: uint8[m, 16].

  Returns:
    int32[m], the answers if the function is affine. Of one that is not, each
    equation that contradicts those before is left out.
  """
  rows = np.concatenate([_unpacked(blocks), np.ones((len(blocks), 1))], -1)
  system = np.concatenate([rows, labels[:, None]], -1)[:_EQUATIONS]
  system = system.astype(np.uint8)
  unknowns = system.shape[1] - 1
  pivots: list[int] = []
  for column in range(unknowns):
    rest = len(pivots) + np.flatnonzero(system[len(pivots) :, column])
    if not rest.size:
      continue
    place = len(pivots)
    system[[place, rest[0]]] = system[[rest[0], place]]
    others = np.flatnonzero(system[:, column])
    others = others[others != place]
    system[others] ^= system[place]
    pivots.append(column)
  solution = np.zeros(unknowns, np.int32)
  solution[pivots] = system[: len(pivots), -1]
  return (_unpacked(new) @ solution[:-1] + solution[-1]) % 2


def guessed_byte(blocks: Array, labels: Array, new: Array) -> Array:
  """Try all keys of one byte: the function is known, but for its key.

  Args:
    blocks: uint8[n, 16], known inputs.
    labels: int[n], known answers.
    new: uint8[m, 16].

  Returns:
    int32[m], the last bit of the S-box of the first byte, under the key byte
    that fits the known answers best.
  """
  keys = np.arange(256, dtype=np.uint8)
  first = blocks[:_GUESSES, :1]
  fits = (sbox()[first ^ keys] % 2 == labels[:_GUESSES, None]).sum(0)
  return sbox()[new[:, 0] ^ keys[fits.argmax()]] % 2 + np.int32(0)


@functools.cache
def sbox() -> Array:
  """Return the S-box of AES, uint8[256] (FIPS 197, 5.1.1)."""
  exponents = [1]  # Powers of 3, which generates the field's units.
  for _ in range(254):
    x = exponents[-1]
    exponents.append(x ^ (x << 1) ^ (0x11B if x & 0x80 else 0))
  inverse = np.zeros(256, np.uint8)
  for i, x in enumerate(exponents):
    inverse[x] = exponents[-i % 255]
  turned = [(inverse << k) | (inverse >> (8 - k)) for k in range(1, 5)]
  return functools.reduce(np.bitwise_xor, turned, inverse) ^ np.uint8(0x63)


def _labelled(lab: base.Lab, name: str, bit: Bit) -> base.data.Dataset:
  given = lab.dataset
  return dataclasses.replace(
    given,
    name=f"{given.name}: {name}",
    train_labels=bit(bits.to_blocks(given.train_images)),
    test_labels=bit(bits.to_blocks(given.test_images)),
  )


def _unpacked(blocks: Array) -> Array:
  return np.unpackbits(blocks, axis=-1).astype(np.int32)


def _last(blocks: Array) -> Array:
  return blocks[:, -1] % 2 + np.int32(0)


def _hmac_bit(blocks: Array, key: bytes) -> Array:
  tags = [hmac.digest(key, x.tobytes(), "sha256")[-1] for x in blocks]
  return np.asarray(tags, np.int32) % 2
