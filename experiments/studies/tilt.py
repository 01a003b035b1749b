"""PINs from the motion of a phone, and from the same motion encrypted.

The recordings are simulated (`experiments.data.sets.tilt`): published figures
are of recordings, and are not those of this simulation. A network tells the
digit of a tap; a PIN's score is the sum of its four log-probabilities.
"""

import dataclasses
import os

import jax
import jax.numpy as jnp
import numpy as np

from experiments.data.sets import tilt
from experiments.studies import base
from keyjax import aes

TITLE = "PINs from tilt"
SENTENCE = (
  "A network that sees how a phone moves tells which PIN was typed; encrypting "
  "the sensor's stream takes that away."
)
DATASETS = ("tilt",)

_NOISES = (1.0, tilt.NOISE, 2.0)
_PUBLISHED = ("74 %", "86 %", "94 %")  # Of real taps, in 1, 2 and 3 tries.
_EPOCHS = 5.0
_HIDDEN = (128,)
_LIST = 50  # PINs of which one is typed, as published.
_PINS = 1000  # PINs typed.
_TRIES = (1, 2, 3)
_ALL_TRIES = 20  # Among all 10,000 PINs.

Array = np.ndarray


def run(lab: base.Lab) -> list[base.Figure]:
  """Return digits and PINs found, by noise, and under encryption."""
  figures = []
  for noise in _NOISES:
    made = _recorded(lab, noise)
    net = _network(lab, made)
    figures += _figures(lab, net, noise)
    if noise == tilt.NOISE:
      figures.append(_another_user(lab, net))
  for name, fresh in (("encrypted", True), ("one keystream for all", False)):
    hidden = _hidden(_recorded(lab, tilt.NOISE), name, fresh)
    figures.append(_digits(_network(lab, hidden), hidden, name))
  return figures


def encrypted(
  recordings: Array, fresh: bool, key: bytes | None = None
) -> Array:
  """Encrypt recordings by AES-128 in counter mode.

  Args:
    recordings: uint8[n, 20, 6, 1].
    fresh: Whether each has a keystream of its own; if not, all have the same,
      as a sensor without nonces would make it.
    key: 16 bytes; from the operating system by default.
  """
  size = recordings[0].size
  blocks = -(-size // 16)
  count = len(recordings) if fresh else 1
  words = aes.keystream(
    aes.expand_key(key or os.urandom(16)),
    jnp.zeros(4, jnp.uint32),
    count * blocks,
  )
  stream = np.asarray(words).astype(">u4").view(np.uint8)
  stream = stream.reshape(count, -1)[:, :size]
  return recordings ^ stream.reshape(count, *recordings.shape[1:])


def rank(log_probs: Array, candidates: Array, typed: Array) -> Array:
  """Return how many candidates score above the PIN that was typed.

  Args:
    log_probs: float[n, 4, 10], of the digit of each tap.
    candidates: int[c, 4].
    typed: int[n], place of each typed PIN among the candidates.

  Returns:
    int[n].

  Example:
    >>> sure = np.log(np.full((1, 4, 10), 0.1)) + 2 * np.eye(10)[1]
    >>> rank(sure, np.array([[1, 1, 1, 2], [1, 1, 1, 1]]), np.array([0]))
    array([1])
  """
  # float[n, c]
  scores = log_probs[:, np.arange(4), candidates].sum(-1)
  own = scores[np.arange(len(typed)), typed]
  return (scores > own[:, None]).sum(-1)


def _hidden(
  made: base.data.Dataset, name: str, fresh: bool
) -> base.data.Dataset:
  """Encrypt all recordings under one key, with one counter."""
  size = len(made.train_images)
  both = np.concatenate([made.train_images, made.test_images])
  both = encrypted(both, fresh)
  return dataclasses.replace(
    made,
    name=f"{made.name}, {name}",
    train_images=both[:size],
    test_images=both[size:],
  )


def _recorded(lab: base.Lab, noise: float) -> base.data.Dataset:
  given = lab.dataset
  sizes = len(given.train_labels), len(given.test_labels)
  made = tilt.make(*sizes, seed=lab.seed, noise=noise)
  return dataclasses.replace(made, name=f"tilt {noise}")


def _network(lab: base.Lab, made: base.data.Dataset) -> base.Network:
  learner = lab._replace(dataset=made)
  return base.network(learner, epochs=_EPOCHS, hidden=_HIDDEN)


def _log_probs(net: base.Network, recordings: Array) -> Array:
  x = jnp.asarray(recordings / np.float32(255))
  return np.asarray(jax.nn.log_softmax(net.logits_fn(x)))


def _digits(
  net: base.Network, made: base.data.Dataset, name: str, target: str = ""
) -> base.Figure:
  found = _log_probs(net, made.test_images).argmax(-1)
  return base.share(f"{name}: digits", found == made.test_labels, target)


def _figures(
  lab: base.Lab, net: base.Network, noise: float
) -> list[base.Figure]:
  """Return the digits of one network, and the PINs that follow from them."""
  made, name = _recorded(lab, noise), f"noise {noise}"
  # The user's: the first that the seed draws.
  one = tilt.user(np.random.default_rng(lab.seed))
  rng = np.random.default_rng((lab.seed, 1))
  everything = np.stack(
    np.meshgrid(*[np.arange(10)] * 4, indexing="ij"), -1
  ).reshape(-1, 4)
  chosen = rng.choice(len(everything), _LIST, replace=False)
  typed = rng.integers(0, _LIST, _PINS)
  digits = everything[chosen[typed]].reshape(-1)
  taps = tilt.record(digits, one, rng, noise)
  log_probs = _log_probs(net, taps).reshape(_PINS, 4, 10)
  ranks = rank(log_probs, everything[chosen], typed)
  of_all = rank(log_probs, everything, chosen[typed])
  figures = [_digits(net, made, name)]
  for tries, published in zip(_TRIES, _PUBLISHED, strict=True):
    title = f"{name}: PIN of {_LIST}, {tries} tried"
    target = published if noise == tilt.NOISE else ""
    figures.append(base.share(title, ranks < tries, target))
  title = f"{name}: PIN of 10,000, {_ALL_TRIES} tried"
  return [*figures, base.share(title, of_all < _ALL_TRIES)]


def _another_user(lab: base.Lab, net: base.Network) -> base.Figure:
  rng = np.random.default_rng((lab.seed, 2))
  digits = rng.integers(0, 10, len(lab.dataset.test_labels))
  found = _log_probs(net, tilt.record(digits, tilt.user(rng), rng))
  title = f"noise {tilt.NOISE}: digits of another user"
  return base.share(title, found.argmax(-1) == digits)
