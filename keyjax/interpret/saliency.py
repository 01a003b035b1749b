"""Saliency: the pixels that a network's output depends on.

References:
  Simonyan, Vedaldi, Zisserman, "Deep Inside Convolutional Networks", 2013,
  arXiv 1312.6034: the gradient. Smilkov et al., "SmoothGrad: removing noise by
  adding noise", 2017, arXiv 1706.03825. Adebayo et al., "Sanity Checks for
  Saliency Maps", NeurIPS 2018, arXiv 1810.03292: compare with an untrained
  network, and by rank correlation.
"""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from keyjax.scheme import ApplyFn, PyTree


def gradient(
  forward: ApplyFn, params: PyTree, x: jax.Array, labels: jax.Array
) -> jax.Array:
  """Return `|d logit_label / d pixel|`, float[n, h, w], summed over channels.

  Args:
    forward: `forward(params, x)`, bound to its key.
    params: Params that it runs on.
    x: float[n, h, w, c].
    labels: int[n].

  Example:
    >>> forward = lambda w, x: x.reshape(len(x), -1) @ w
    >>> w = jnp.arange(8.0).reshape(4, 2)
    >>> gradient(forward, w, jnp.ones((1, 2, 2, 1)), jnp.array([1])).tolist()
    [[[1.0, 3.0], [5.0, 7.0]]]
  """
  return jnp.abs(_slope(forward, params, x, labels)).sum(-1)


def smooth_grad(
  forward: ApplyFn,
  params: PyTree,
  x: jax.Array,
  labels: jax.Array,
  rng: jax.Array,
  samples: int = 16,
  noise: float = 0.15,
) -> jax.Array:
  """Return SmoothGrad: `gradient` of the mean slope around an image.

  Args:
    forward: `forward(params, x)`, bound to its key.
    params: Params that it runs on.
    x: float[n, h, w, c] from 0 to 1.
    labels: int[n].
    rng: JAX rng of the noise; use the same one for maps that are compared.
    samples: Number of noisy images.
    noise: Standard deviation of the noise; pixels range from 0 to 1.
  """

  def one(rng: jax.Array) -> jax.Array:
    moved = x + noise * jax.random.normal(rng, x.shape, x.dtype)
    return _slope(forward, params, moved, labels)

  slopes = jax.lax.map(one, jax.random.split(rng, samples))
  return jnp.abs(slopes.mean(0)).sum(-1)


def _slope(
  forward: ApplyFn, params: PyTree, x: jax.Array, labels: jax.Array
) -> jax.Array:
  def label_logits(x: jax.Array) -> jax.Array:
    logits = forward(params, x)
    return jnp.take_along_axis(logits, labels[:, None], axis=1).sum()

  return jax.grad(label_logits)(x)


def rank_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Return Spearman's correlation of two maps of each image, float64[n].

  Args:
    a: Finite float[n, h, w].
    b: The same shape.

  Returns:
    From -1 to 1; NaN where a map is constant.

  Example:
    >>> a = np.arange(8.0).reshape(2, 2, 2)
    >>> rank_correlation(a, np.stack([a[0] ** 2, -a[1]])).round(6).tolist()
    [1.0, -1.0]
  """
  ranks = []
  for maps in (a, b):
    rank = scipy.stats.rankdata(maps.reshape(len(maps), -1), axis=1)
    ranks.append(rank - rank.mean(1, keepdims=True))
  first, second = ranks
  size = np.sqrt((first**2).sum(1) * (second**2).sum(1))
  with np.errstate(invalid="ignore"):
    return (first * second).sum(1) / size
