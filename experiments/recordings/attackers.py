"""Attacks on the gradient of a worker, as its observer plays them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.recordings.workers import Worker
from keyjax.attacks.privacy.gradients import dense, labels, matching, recipes
from keyjax.attacks.privacy.gradients.observed import of_mean_loss
from keyjax.scheme import ApplyFn, PyTree

_FIRST = "dense_0"  # First layer of an MLP.
_HEAD = "head"
_NOISE = 256  # Random images that show the mean probabilities.


class Guess(NamedTuple):
  """What an attack recovered.

  Attributes:
    images: float[k, h, w, c].
    labels: int[b].
    distance: Relative distance of gradients; NaN for a division.
  """

  images: np.ndarray
  labels: np.ndarray
  distance: float


class View(NamedTuple):
  """What an observer has.

  Attributes:
    apply_fn: Forward pass, as far as they know it.
    variables: Its variables.
    seen: The gradient.
    shape: Shape of the images behind it.
  """

  apply_fn: ApplyFn
  variables: dict[str, Any]
  seen: PyTree
  shape: tuple[int, ...]


def runs(attack: str, worker: Worker, size: int) -> bool:
  """Return whether an attack can be played: iDLG is for one image."""
  if attack == "division":
    return _FIRST in worker.variables["params"]
  return attack != "idlg" or size == 1


def play(
  attack: str, view: View, worker: Worker, config: ConfigDict, rng: jax.Array
) -> Guess:
  """Return what an attack recovers.

  Args:
    attack: One of `plan.ATTACKS`.
    view: What the observer has.
    worker: For the model's public numbers: classes, mean and deviation.
    config: `config.gradients`.
    rng: JAX PRNG key.
  """
  named = _labels(view, rng)
  if attack == "division":
    return Guess(_division(view, worker), named, float("nan"))
  recipe = recipes.INVERTING._replace(
    steps=config.steps, variation=config.variation
  )
  if attack != "inverting":
    recipe = recipes.DLG._replace(steps=config.lbfgs_steps)
  found = matching.match(
    of_mean_loss(view.apply_fn),
    view.variables,
    view.seen,
    view.shape,
    rng,
    recipe._replace(restarts=config.restarts),
    classes=worker.model.num_classes,
    labels=None if attack == "dlg" else named,
    bounds=(0.0, 1.0),
  )
  return Guess(found.images, found.labels, found.distance)


def _labels(view: View, rng: jax.Array) -> np.ndarray:
  head = view.seen[_HEAD]
  if view.shape[0] == 1:
    return np.asarray([labels.of_one(head["kernel"])])
  images = jax.random.uniform(rng, (_NOISE, *view.shape[1:]))
  probability = jax.nn.softmax(view.apply_fn(view.variables, images)).mean(0)
  return labels.of_batch(head["bias"], view.shape[0], probability)


def _division(view: View, worker: Worker) -> np.ndarray:
  """Return images from the first layer, which sees them normalised."""
  layer = view.seen[_FIRST]
  size, *side = view.shape
  if size == 1:
    found = dense.of_one(layer["kernel"], layer["bias"])[None]
  else:
    found = dense.of_each_unit(layer["kernel"], layer["bias"])
  found = found.reshape(-1, *side)
  images = found * np.asarray(worker.model.std) + np.asarray(worker.model.mean)
  missing = max(size - len(images), 0)
  return np.concatenate([images, np.zeros((missing, *side))])


def views(
  worker: Worker, lock: str, seen: PyTree, shape: Any
) -> dict[str, View]:
  """Return what observers have, by condition.

  Under a lock that transforms images, all see the same: who has the key undoes
  it afterwards.

  Args:
    worker: The worker.
    lock: Label of its lock; empty for none.
    seen: The gradient.
    shape: Shape of the images behind it.
  """
  public = View(worker.model.apply, worker.public, seen, shape)
  if lock != "hpnn":
    return {"plain": public}
  keyed = public._replace(apply_fn=worker.apply_fn)
  return {
    "right": keyed._replace(variables=worker.under(worker.key)),
    "wrong": keyed._replace(variables=worker.under(worker.wrong)),
    "no_key": public,
  }


def random_pixels(shape: tuple[int, ...]) -> jax.Array:
  """Return images of noise, for `keygen`."""
  return jnp.asarray(np.random.default_rng(0).random(shape), jnp.float32)
