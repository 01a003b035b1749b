"""Functions with a secret: their classical attacks, and the data."""

import numpy as np
import pytest

from experiments import data
from experiments.data.sets import bits
from experiments.studies import approximation

RNG = np.random.default_rng(0)
BLOCKS = RNG.integers(0, 256, (1300, 16), np.uint8)
SEEN, NEW = BLOCKS[:300], BLOCKS[300:]


@pytest.fixture(scope="module")
def targets():
  return approximation.targets(np.random.default_rng(1))


@pytest.mark.parametrize(
  ("name", "attack", "breaks"),
  [
    ("XOR with a key", approximation.linear, True),
    ("parity of 4 bits", approximation.linear, True),
    ("S-box of a byte", approximation.guessed_byte, True),
    ("S-box of a byte", approximation.linear, False),
    ("AES-128", approximation.linear, False),
    ("AES-128", approximation.guessed_byte, False),
    ("HMAC-SHA-256", approximation.linear, False),
    ("HMAC-SHA-256", approximation.guessed_byte, False),
  ],
)
def test_classical_attacks_break_what_they_are_for(
  targets, name, attack, breaks
):
  bit = targets[name].bit
  right = (attack(SEEN, bit(SEEN), NEW) == bit(NEW)).mean()
  # 5 deviations of a fair coin over 1,000 blocks.
  assert right == 1 if breaks else abs(right - 0.5) < 0.08


def test_every_function_is_balanced_and_depends_on_its_key(targets):
  others = approximation.targets(np.random.default_rng(2))
  for name, target in targets.items():
    found = target.bit(BLOCKS)
    assert found.dtype == np.int32 and set(found.tolist()) == {0, 1}
    assert 0.4 < found.mean() < 0.6, name
  changed = [
    (targets[n].bit(BLOCKS) != others[n].bit(BLOCKS)).any() for n in targets
  ]
  assert sum(changed) >= 4  # The last bit of an XOR key may be the same.


def test_the_s_box_is_that_of_the_standard():
  # FIPS 197, figure 7.
  assert approximation.sbox()[[0x00, 0x01, 0x53, 0xFF]].tolist() == [
    0x63,
    0x7C,
    0xED,
    0x16,
  ]


def test_the_bit_is_that_of_the_standard():
  # FIPS 197, C.1: 69c4e0d86a7b0430d8cdb78070b4c55a; SP 800-38A, F.1.1.
  blocks = np.array([[0x11 * i for i in range(16)]], np.uint8)
  assert bits.aes_bit(blocks).tolist() == [0]
  block = bytes.fromhex("6bc1bee22e409f96e93d7e117393172a")
  key = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
  assert bits.aes_bit(np.frombuffer(block, np.uint8)[None], key).tolist() == [1]


def test_blocks_come_back_from_their_images():
  images = bits.to_bits(BLOCKS)
  assert images.shape == (1300, 16, 8, 1)
  np.testing.assert_array_equal(bits.to_blocks(images), BLOCKS)


def test_the_data_set_is_of_blocks_and_their_bits():
  made = data.load("bits", num_train=20, num_test=10)
  assert made.train_images.shape == (20, 16, 8, 1) and made.num_classes == 2
  np.testing.assert_array_equal(
    made.test_labels, bits.aes_bit(bits.to_blocks(made.test_images))
  )
