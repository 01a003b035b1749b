"""Simulated taps, PINs ranked by them, and their encryption."""

import numpy as np
import pytest

from experiments import data
from experiments.data.sets import tilt
from experiments.studies import tilt as study


@pytest.fixture(scope="module")
def made():
  return tilt.make(400, 200, seed=1, noise=0.1)


def nearest(made, train, test):
  """Return the share of taps whose digit has the nearest mean recording."""
  flat = [x.reshape(len(x), -1).astype(np.float32) for x in (train, test)]
  means = np.stack([flat[0][made.train_labels == d].mean(0) for d in range(10)])
  distances = ((flat[1][:, None] - means) ** 2).sum(-1)
  return (distances.argmin(-1) == made.test_labels).mean()


def test_taps_tell_their_digit_and_encrypted_ones_do_not(made):
  assert nearest(made, made.train_images, made.test_images) > 0.4
  train, test = (
    study.encrypted(x, fresh=True)
    for x in (made.train_images, made.test_images)
  )
  assert nearest(made, train, test) < 0.2


def test_a_keystream_is_used_once_unless_asked(made):
  taps, key = made.test_images[:4], bytes(16)
  once = study.encrypted(taps, fresh=True, key=key)
  np.testing.assert_array_equal(study.encrypted(once, True, key), taps)
  streams = (once ^ taps).reshape(4, -1)
  assert len(np.unique(streams, axis=0)) == 4
  again = study.encrypted(taps, fresh=False, key=key)
  assert len(np.unique((again ^ taps).reshape(4, -1), axis=0)) == 1
  # AES-128 of the zero block under the zero key.
  assert streams[0, :4].tobytes().hex() == "66e94bd4"
  assert (study.encrypted(taps, True) != study.encrypted(taps, True)).any()


def test_ranks_count_what_scores_above():
  pins = np.array([[1, 2, 3, 4], [1, 2, 3, 5], [0, 0, 0, 0]])
  log_probs = np.full((2, 4, 10), -3.0)
  for k, digit in enumerate((1, 2, 3, 4)):
    log_probs[:, k, digit] = -0.1
  typed = np.array([0, 2])
  assert study.rank(log_probs, pins, typed).tolist() == [0, 2]


def test_users_differ_and_seeds_repeat(made):
  same = tilt.make(400, 200, seed=1, noise=0.1)
  np.testing.assert_array_equal(same.train_images, made.train_images)
  rng = np.random.default_rng(0)
  first, second = tilt.user(rng), tilt.user(rng)
  assert first.angle != second.angle


def test_the_data_set_is_the_middle_noise():
  made = data.load("tilt", num_train=30, num_test=20)
  assert made.train_images.shape == (30, 20, 6, 1)
  assert made.train_images.dtype == np.uint8


@pytest.mark.parametrize(
  ("digits", "noise", "message"),
  [
    ([10], 0.1, "digits are from 0 to 9"),
    ([-1], 0.1, "digits are from 0 to 9"),
    ([1], -0.1, "noise=-0.1"),
    ([1], float("nan"), "noise=nan"),
  ],
)
def test_bad_input_is_refused(digits, noise, message):
  rng = np.random.default_rng(0)
  with pytest.raises(ValueError, match=message):
    tilt.record(np.array(digits), tilt.user(rng), rng, noise)
