"""How a phone moves while a digit is typed: simulated, not recorded.

There are no public recordings, so that figures on these data say what an attack
could do if phones moved like this. A keypad has four rows and three columns,
with 0 in the middle of the last row. A tap on row r and column c turns the
phone by

  pitch(t) = a (r - 1.5) / 1.5 s(t),  roll(t) = a (c - 1) s(t),

where s is half a sine of 10 samples that starts 2 to 6 samples after the
recording and a, the strength of the tap, is log-normal (deviation 0.3). A
user's hand turns the two axes by an angle (deviation 0.3), has a gain for each
channel (log-normal, 0.2) and a bias (0.1). A recording has 20 samples of six
channels: pitch and roll as an accelerometer sees them, the thump of the tap,
the rates of pitch and roll as a gyroscope sees them, and their product.
Gaussian noise is added, and a sample is stored in eight bits.

Source: Mehrnezhad, Toreini, Shahandashti, Hao, "Stealing PINs via Mobile
Sensors: Actual Risk versus User Perception", International Journal of
Information Security 17, 2018, for the attack; the model of motion is ours.
"""

from typing import NamedTuple

import numpy as np

from experiments.data.dataset import Dataset, pixel_statistics
from experiments.data.registry import DATASETS, Entry

SAMPLES, CHANNELS = 20, 6
NOISE = 1.5  # PINs are then found about as often as published.
_TAP = 10  # Samples from the start of a tap to its end.
_STARTS = (2, 7)
_SCALE = 20.0  # Steps of eight bits in a unit of motion.
_NUM_TRAIN, _NUM_TEST = 8000, 2000

Array = np.ndarray


class User(NamedTuple):
  """How a hand holds a phone.

  Attributes:
    angle: Turn of the phone's axes in radians.
    gain: float[6], of each channel.
    bias: float[6], of each channel.
  """

  angle: float
  gain: Array
  bias: Array


def user(rng: np.random.Generator) -> User:
  """Draw a user."""
  return User(
    angle=0.3 * rng.standard_normal(),
    gain=np.exp(0.2 * rng.standard_normal(CHANNELS)),
    bias=0.1 * rng.standard_normal(CHANNELS),
  )


def record(
  digits: Array, of: User, rng: np.random.Generator, noise: float = NOISE
) -> Array:
  """Return recordings of taps.

  Args:
    digits: int[n], from 0 to 9.
    of: Who types.
    rng: Generator of strengths, starts and noise.
    noise: Deviation of the noise; a tap of strength 1 turns the phone by 1.

  Returns:
    uint8[n, 20, 6, 1].

  Raises:
    ValueError: If a digit or the noise is out of range.

  Example:
    >>> rng = np.random.default_rng(0)
    >>> record(np.arange(10), user(rng), rng).shape
    (10, 20, 6, 1)
  """
  digits = np.asarray(digits)
  if digits.size and not (0 <= digits.min() and digits.max() <= 9):
    raise ValueError("tilt: digits are from 0 to 9")
  if not 0 <= noise < np.inf:
    raise ValueError(f"tilt: noise={noise}: at least 0, and finite")
  row = np.where(digits == 0, 3, (digits - 1) // 3)
  column = np.where(digits == 0, 1, (digits - 1) % 3)
  strength = np.exp(0.3 * rng.standard_normal(digits.shape))
  pitch = strength * (row - 1.5) / 1.5
  roll = strength * (column - 1)
  cos, sin = np.cos(of.angle), np.sin(of.angle)
  pitch, roll = cos * pitch - sin * roll, sin * pitch + cos * roll
  since = np.arange(SAMPLES) - rng.integers(*_STARTS, (len(digits), 1))
  taps = (since >= 0) & (since <= _TAP)
  phase = np.pi * since / _TAP
  # [n, 20]
  shape, rate = taps * np.sin(phase), taps * np.cos(phase)
  thump = strength[:, None] * (since == 0)
  motion = np.stack(
    [
      pitch[:, None] * shape,
      roll[:, None] * shape,
      thump,
      pitch[:, None] * rate,
      roll[:, None] * rate,
      (pitch * roll)[:, None] * shape,
    ],
    axis=-1,
  )
  motion = of.gain * motion + of.bias
  motion += noise * rng.standard_normal(motion.shape)
  stored = np.clip(np.rint(128 + _SCALE * motion), 0, 255)
  return stored.astype(np.uint8)[..., None]


def make(
  num_train: int | None = None,
  num_test: int | None = None,
  *,
  seed: int = 0,
  noise: float = NOISE,
) -> Dataset:
  """Return recordings of one user, with the digits.

  Args:
    num_train: Number of taps to learn from; 8,000 by default.
    num_test: Number of other taps; 2,000 by default.
    seed: Seed of the user and the taps.
    noise: As in `record`.
  """
  rng = np.random.default_rng(seed)
  one = user(rng)
  labels = [
    rng.integers(0, 10, count, np.int32)
    for count in (num_train or _NUM_TRAIN, num_test or _NUM_TEST)
  ]
  train, test = (record(digits, one, rng, noise) for digits in labels)
  mean, std = pixel_statistics(train)
  return Dataset(
    name="tilt",
    train_images=train,
    train_labels=labels[0],
    test_images=test,
    test_labels=labels[1],
    num_classes=10,
    class_names=None,
    mean=mean,
    std=std,
    source="simulated motion of a phone while digits are typed",
  )


DATASETS.add(
  "tilt",
  Entry(
    lambda options: make(options.num_train, options.num_test),
    origin="is simulated",
  ),
)
