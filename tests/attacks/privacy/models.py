"""Slow, obvious versions of the papers' formulas, and models of digits."""

import functools
import math
import statistics

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
import sklearn.datasets

from keyjax.attacks.fit import Recipe
from keyjax.attacks.game import Examples
from keyjax.attacks.privacy import shadows


def probabilities(logits):
  e = np.exp(np.asarray(logits, np.float64))
  return e / e.sum(-1, keepdims=True)


def phi(logits, label):
  """log p_y - log of the sum of the others, of one row."""
  p = probabilities(logits)
  return math.log(p[label]) - math.log(p.sum() - p[label])


def lira(target, phis, members, online=True, fixed=False, center="median"):
  """Carlini et al. 2022, algorithm 1 and its offline form, in loops."""
  middle = statistics.median if center == "median" else statistics.fmean
  k, n = members.shape
  groups = {
    side: [
      [phis[i, j] for i in range(k) if members[i, j] == side] for j in range(n)
    ]
    for side in (True, False)
  }
  found = []
  for j in range(n):
    normal = {}
    for side, of_all in groups.items():
      if not of_all[j]:
        continue
      values = sum(of_all, []) if fixed else of_all[j]
      normal[side] = scipy.stats.norm(
        middle(of_all[j]), statistics.pstdev(values)
      )
    if online:
      within = normal[True].logpdf(target[j])
      found.append(within - normal[False].logpdf(target[j]))
    else:
      found.append(1 - normal[False].sf(target[j]))
  return np.asarray(found)


def rmia(p_x, refs_x, members, p_z, refs_z, online=True, gamma=2.0, a=0.3):
  """Zarifzadeh et al. 2024, with probabilities, pair by pair."""
  k, n = members.shape
  found = []
  for j in range(n):
    p_out = statistics.fmean(
      refs_x[i, j] for i in range(k) if not members[i, j]
    )
    if online:
      p_in = statistics.fmean(refs_x[i, j] for i in range(k) if members[i, j])
    else:
      p_in = a * p_out + (1 - a)
    ratio_x = p_x[j] / ((p_in + p_out) / 2)
    wins = 0
    for m in range(len(p_z)):
      mean = statistics.fmean(refs_z[:, m])
      if not online:
        mean = (mean + a * mean + (1 - a)) / 2
      wins += ratio_x / (p_z[m] / mean) >= gamma
    found.append(wins / len(p_z))
  return np.asarray(found)


class Net(nn.Module):
  """The MLP of the digits, with as many hidden units as one asks for."""

  hidden: int = 256
  norm: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    x = nn.Dense(self.hidden)(x.reshape(len(x), -1))
    if self.norm:
      x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
    return nn.Dense(10)(nn.relu(x))


@functools.cache
def pool(n: int, noise: float = 0.0) -> tuple[Examples, Examples]:
  """Return n digits, some with a random label, and all others."""
  found = sklearn.datasets.load_digits()
  images = (found.images / 16).astype(np.float32)
  labels = found.target.astype(np.int32)
  rng = np.random.default_rng(0)
  order = rng.permutation(len(labels))
  images, labels = images[order], labels[order]
  wrong = rng.random(len(labels)) < noise
  labels = np.where(wrong, rng.integers(0, 10, len(labels)), labels)
  labels = labels.astype(np.int32)
  return Examples(images[:n], labels[:n]), Examples(images[n:], labels[n:])


def initial(net: Net):
  return lambda rng: net.init(rng, jnp.zeros((1, 8, 8)))


@functools.cache
def digits(noise: float):
  """Return 65 models of 600 digits, each of half, and what they answer."""
  net = Net()
  data, rest = pool(600, noise)
  found = shadows.train(
    net.apply,
    initial(net),
    data,
    shadows.split(66, 600)[:65],
    Recipe("adam", 3e-3, batch_size=64),
    steps=600,
    chunk=65,
    logits=True,
  )
  return net, data, rest, found
