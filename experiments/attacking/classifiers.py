"""Meta-classifiers: what do weights and answers reveal of the training data?

References:
  Ateniese et al., "Hacking Smart Machines with Smarter Ones", 2013:
    raw weights.
  Ganju, Wang, Yang, Gunter, Borisov, "Property Inference Attacks on Fully
  Connected Neural Networks using Permutation Invariant Representations", CCS
  2018: sorted neurons, and sets of neurons.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn import linear_model, pipeline, preprocessing

from keyjax.attacks import fit

# Function of the shadows' features, their labels and the targets' features.
Classifier = Callable[[Any, np.ndarray, Any], Any]
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_LARGEST = 1e3  # Ciphertext as floats goes up to 1e38.


def arrays(params: Any) -> list[np.ndarray]:
  """Return hidden kernel and bias, last kernel and bias; all finite."""
  layers = params["params"]
  found = [
    layers[n][w] for n in ("dense_0", "head") for w in ("kernel", "bias")
  ]
  # Signalling NaNs of ciphertext raise when cast: replace them first.
  finite = [np.nan_to_num(np.asarray(x)) for x in found]
  return [x.clip(-_LARGEST, _LARGEST).astype(np.float32) for x in finite]


def neurons(params: Any) -> np.ndarray:
  """Return each hidden neuron's weights: float32[nets, hidden, in + 1 + out].

  Args:
    params: Tree with a first axis over networks.
  """
  kernel, bias, last, _ = arrays(params)
  # [nets, in, hidden], [nets, hidden], [nets, hidden, out]
  return np.concatenate([kernel.swapaxes(1, 2), bias[..., None], last], -1)


def statistics(params: Any) -> np.ndarray:
  """Return moments and quantiles of every leaf, float32[nets, features]."""
  features = []
  for x in arrays(params):
    flat = x.reshape(len(x), -1)  # [nets, size]
    features += [flat.mean(1), flat.std(1), np.abs(flat).max(1)]
    features += list(np.quantile(flat, _QUANTILES, axis=1))
  return np.stack(features, 1)


def ordered(params: Any) -> np.ndarray:
  """Return all weights, with neurons sorted by the norm of outgoing ones."""
  sets = neurons(params)
  bias = arrays(params)[3]
  size = np.linalg.norm(sets[..., -bias.shape[1] :], axis=-1)
  order = np.argsort(size, axis=1)[..., None]
  sets = np.take_along_axis(sets, order, 1)
  return np.concatenate([sets.reshape(len(sets), -1), bias], 1)


def values(params: Any) -> np.ndarray:
  """Return all weights in the order of the network, float32[nets, weights]."""
  return np.concatenate([x.reshape(len(x), -1) for x in arrays(params)], 1)


def linear(features: Any, train: Any, label: np.ndarray, test: Any) -> Any:
  """Return the guesses of a logistic regression, int[test nets]."""
  guess = pipeline.make_pipeline(
    preprocessing.StandardScaler(),
    linear_model.LogisticRegression(C=0.01, max_iter=500),
  )
  guess.fit(features(train), label)
  return guess.predict(features(test))


def sets(train: Any, label: np.ndarray, test: Any, steps: int = 200) -> Any:
  """Return the guesses of a DeepSets classifier, int[test nets].

  Each neuron goes through one network, their mean through another, together
  with the last layer's biases.
  """
  a, b = neurons(train), neurons(test)
  mean, std = a.mean((0, 1)), a.std((0, 1)) + 1e-6
  last, other = arrays(train)[3], arrays(test)[3]
  middle = last.mean(0)
  wide = last.std(0) + 1e-6
  x = (a - mean) / std, (last - middle) / wide
  z = (b - mean) / std, (other - middle) / wide
  rng = np.random.default_rng(0)
  sizes = [(a.shape[2], 32), (32 + last.shape[1], 32), (32, 2)]
  params = [
    (rng.normal(size=s).astype(np.float32) / np.sqrt(s[0]), np.zeros(s[1], "f"))
    for s in sizes
  ]
  # Optax and the network need standard promotion; the caller may not use it.
  with (
    jax.numpy_dtype_promotion("standard"),
    jax.numpy_rank_promotion("allow"),
  ):
    fitted = _fit_sets(params, x, jnp.asarray(label), steps)
    return np.asarray(_sets(fitted, *z).argmax(-1))


def _sets(params: Any, neurons: Any, biases: Any) -> jax.Array:
  (w1, b1), (w2, b2), (w3, b3) = params
  pooled = jax.nn.relu(neurons @ w1 + b1).mean(1)  # [nets, 32]
  both = jnp.concatenate([pooled, biases], -1)
  return jax.nn.relu(both @ w2 + b2) @ w3 + b3


@functools.partial(jax.jit, static_argnums=3)
def _fit_sets(params: Any, x: Any, label: jax.Array, steps: int) -> Any:
  rule = optax.adamw(3e-3, weight_decay=1e-2)

  def loss(params: Any) -> jax.Array:
    return fit.cross_entropy(_sets(params, *x), label)

  def step(carry: Any, _: None) -> tuple[Any, None]:
    params, state = carry
    updates, state = rule.update(jax.grad(loss)(params), state, params)
    return (optax.apply_updates(params, updates), state), None

  return jax.lax.scan(step, (params, rule.init(params)), None, steps)[0][0]


def flat(answers: np.ndarray) -> np.ndarray:
  """Return what networks answer, float32[nets, images * classes]."""
  return answers.reshape(len(answers), -1)


def mean(answers: np.ndarray) -> np.ndarray:
  """Return the mean answer of each network, float32[nets, classes]."""
  return answers.mean(1)


CLASSIFIERS: dict[str, Classifier] = {
  "raw weights": functools.partial(linear, values),
  "statistics": functools.partial(linear, statistics),
  "sorted neurons": functools.partial(linear, ordered),
  "sets of neurons": sets,
}
OF_ANSWERS: dict[str, Classifier] = {
  "all answers": functools.partial(linear, flat),
  "mean answer": functools.partial(linear, mean),
}
