"""The networks that both sides attack: small CNNs, trained once and kept.

Two for each data set: trained plainly, and on inputs attacked by PGD. Their
weights are kept in `parity` of the cache, named by all that they depend on.
"""

import functools
import hashlib
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import data, models
from keyjax.attacks.evasion import losses
from keyjax.defenses import adversarial_loss

_BATCH = 250
_STEPS = 5  # Of PGD, in training.
_STRIDE = 0.35  # Size of one of them, of epsilon.
_LEARNING_RATE = 2e-3


class Training(NamedTuple):
  """How a network is trained.

  Attributes:
    title: What the tables call it.
    dataset: Name of the data set.
    epochs: Passes over the training images.
    epsilon: Size of the changes in training, "linf"; 0 for none. It grows to
      this size during the first half: from scratch, large ones teach nothing.
  """

  title: str
  dataset: str
  epochs: int
  epsilon: float


NETWORKS = {
  "mnist": Training("MNIST", "mnist", 2, 0.0),
  "mnist robust": Training("MNIST, adversarially trained", "mnist", 4, 0.3),
  "gtsrb": Training("GTSRB", "gtsrb", 5, 0.0),
  "gtsrb robust": Training("GTSRB, adversarially trained", "gtsrb", 6, 8 / 255),
}


class Network(NamedTuple):
  """A trained network, and what it is tested on.

  Attributes:
    logits_fn: Function from images to logits.
    images: float32[n, h, w, c] in [0, 1], test images in random order.
    labels: int32[n].
    arrays: What PyTorch needs: the weights by layer, `mean` and `std`.
  """

  logits_fn: Callable[[jax.Array], jax.Array]
  images: np.ndarray
  labels: np.ndarray
  arrays: dict[str, np.ndarray]


def load(name: str, folder: pathlib.Path, num_test: int) -> Network:
  """Return a network, trained now unless the folder has its weights.

  Args:
    name: Name of `NETWORKS`.
    folder: Where weights are kept.
    num_test: Number of test images.
  """
  training = NETWORKS[name]
  dataset = data.load(training.dataset, num_test=num_test)
  model = models.create(
    "cnn", dataset.num_classes, mean=dataset.mean, std=dataset.std
  )
  settings = repr((training[1:], _BATCH, _STEPS, _STRIDE, _LEARNING_RATE))
  digest = hashlib.sha256(settings.encode()).hexdigest()[:12]
  file = folder / f"{name.replace(' ', '_')}_{digest}.npz"
  if file.exists():
    with np.load(file) as arrays:
      flat = dict(arrays)
  else:
    params = _train(model, dataset, training)
    flat = flax.traverse_util.flatten_dict(params, sep="/")
    flat = {path: np.asarray(leaf) for path, leaf in flat.items()}
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(file, **flat)
  params = flax.traverse_util.unflatten_dict(
    {path: jnp.asarray(leaf) for path, leaf in flat.items()}, sep="/"
  )
  statistics = {"mean": dataset.mean, "std": dataset.std}
  logits_fn: Any = functools.partial(model.apply, {"params": params})
  return Network(
    logits_fn=logits_fn,
    images=np.asarray(data.to_float(jnp.asarray(dataset.test_images))),
    labels=dataset.test_labels,
    arrays=flat | {k: np.array(v, np.float32) for k, v in statistics.items()},
  )


def _train(model: Any, dataset: data.Dataset, training: Training) -> Any:
  """Return the parameters of a trained model."""
  images = jnp.asarray(dataset.train_images)
  labels = jnp.asarray(dataset.train_labels, jnp.int32)
  rng = jax.random.key(0)
  params = model.init(rng, data.to_float(images[:1]))["params"]
  steps = len(labels) // _BATCH * training.epochs
  optimizer = optax.adam(optax.cosine_decay_schedule(_LEARNING_RATE, steps))

  def loss(params: Any, index: Any, share: Any, rng: Any) -> jax.Array:
    x, y = data.to_float(images[index]), labels[index]
    logits_fn = functools.partial(model.apply, {"params": params})
    if not training.epsilon:
      return losses.cross_entropy(logits_fn(x), y).mean()
    epsilon = training.epsilon * share
    return adversarial_loss.pgd(
      logits_fn,
      x,
      y,
      epsilon=epsilon,
      steps=_STEPS,
      step_size=_STRIDE * epsilon,
      rng=rng,
    ).mean()

  @jax.jit
  def step(params: Any, state: Any, number: Any, index: Any) -> Any:
    share = jnp.minimum(1, 2 * number / steps)
    own = jax.random.fold_in(rng, number)
    gradient = jax.grad(loss)(params, index, share, own)
    updates, state = optimizer.update(gradient, state)
    return optax.apply_updates(params, updates), state

  state = optimizer.init(params)
  generator = np.random.default_rng(0)
  for epoch in range(training.epochs):
    order = generator.permutation(len(labels))
    for i in range(len(labels) // _BATCH):
      number = epoch * (len(labels) // _BATCH) + i
      index = jnp.asarray(order[i * _BATCH : (i + 1) * _BATCH])
      params, state = step(params, state, number, index)
  return params
