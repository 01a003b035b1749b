"""Workers of distributed training, and the gradients that they send."""

import functools
import json
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

import keyjax
from experiments import data, models
from experiments.membership.models import key_collection, under_key
from experiments.protection import lock
from experiments.recordings.plan import Scene
from keyjax import parallel
from keyjax.attacks import fit
from keyjax.attacks.game import Examples
from keyjax.attacks.privacy import shadows
from keyjax.attacks.privacy.gradients.observed import of_mean_loss
from keyjax.defenses import private
from keyjax.scheme import ApplyFn, PyTree

_NOISE_SEED = 3


class Worker(NamedTuple):
  """A network as workers have it.

  Attributes:
    model: Linen module.
    variables: Its variables, with the key under a lock.
    apply_fn: Forward pass of these variables.
    key: The key; None without a lock.
    wrong: Another key.
  """

  model: nn.Module
  variables: dict[str, Any]
  apply_fn: ApplyFn
  key: Any = None
  wrong: Any = None

  @property
  def public(self) -> dict[str, Any]:
    """The variables without the key."""
    return {"params": self.variables["params"]}

  def under(self, key: Any) -> dict[str, Any]:
    """Return the variables with a key."""
    return self.public | key_collection(key)


def pixels(images: np.ndarray) -> np.ndarray:
  """Return images in [0, 1], float32."""
  return images.astype(np.float32) / 255


def network(dataset: data.Dataset, spec: ConfigDict) -> nn.Module:
  """Return a model for a data set, by `model` and `args`."""
  public = (dataset.num_classes, dataset.mean, dataset.std)
  return _network(spec.model, public, spec.args.to_json(sort_keys=True))


@functools.lru_cache(maxsize=32)  # Or each would compile its programs again.
def _network(name: str, public: tuple[Any, ...], args: str) -> nn.Module:
  return models.create(name, *public, **json.loads(args))


def initial(model: nn.Module, seed: int, like: Any) -> dict[str, Any]:
  """Return a model's initial variables."""
  found: dict[str, Any] = _init(model)(jax.random.key(seed), like)
  return found


@functools.lru_cache(maxsize=32)  # It takes longer to compile than to attack.
def _init(model: nn.Module) -> Any:
  return jax.jit(model.init)


@functools.lru_cache(maxsize=32)  # Programs are cached by its functions.
def scheme(model: nn.Module, name: str) -> keyjax.Scheme:
  """Return a scheme of `plan.LOCKS` for a model."""
  return lock.build(name, {}, model).scheme


def make(model: nn.Module, variables: Any, name: str, like: Any) -> Worker:
  """Return a worker: with a fresh key that is kept nowhere, if it has a lock.

  Args:
    model: The model.
    variables: Its variables.
    name: Label in `LOCKS`; empty for none.
    like: Images, for `keygen`.
  """
  if not name:
    return Worker(model, variables, model.apply)
  own = scheme(model, name)
  batch = {"image": like, "label": jnp.zeros(len(like), jnp.int32)}
  key, wrong = (
    own.keygen(keyjax.Secret.generate(), variables, batch) for _ in range(2)
  )
  keyed = variables | key_collection(key)
  return Worker(model, keyed, under_key(own, model.apply), key, wrong)


def trained(
  model: nn.Module,
  variables: Any,
  examples: Examples,
  steps: int,
  seed: int,
  rate: float = 1e-3,
) -> dict[str, Any]:
  """Return variables after some steps of Adam on examples, without a lock."""
  found = shadows.train(
    model.apply,
    lambda rng: variables,
    examples,
    np.ones((1, len(examples.label)), np.bool_),
    fit.Recipe(learning_rate=rate),
    seed,
    steps=steps,
    each=0,
  )
  params: dict[str, Any] = jax.tree.map(lambda x: x[0], found.params)
  return params


def sent(
  worker: Worker, scene: Scene, images: Any, label: Any, clip: float, seed: int
) -> PyTree:
  """Return the gradient that an observer sees.

  Args:
    worker: The worker.
    scene: What is observed.
    images: float32[size, h, w, c].
    label: int[size].
    clip: Largest norm of an example's gradient, where it is clipped.
    seed: Seed of the noise.
  """
  classes = worker.model.num_classes
  targets = jax.nn.one_hot(label, classes, dtype=jnp.float32)
  if scene.defense == "none":
    devices = scene.size if scene.view == "average" else 1
    return _averaged(worker.apply_fn, devices)(
      worker.variables, jnp.asarray(images), targets
    )
  total = _clipped(worker.apply_fn)(
    worker.variables, {"image": images, "target": targets}, clip
  )
  if scene.noise:
    rng = jax.random.fold_in(jax.random.key(_NOISE_SEED), seed)
    total = private.with_noise(
      total, rng, clipping_norm=clip, noise_multiplier=scene.noise
    )
  return jax.tree.map(lambda x: x / scene.size, total)


@functools.lru_cache(maxsize=32)
def _averaged(apply_fn: ApplyFn, devices: int) -> Any:
  """Return the compiled gradient, averaged over devices as a step does it."""

  def step(variables: Any, images: Any, targets: Any) -> PyTree:
    return parallel.mean(of_mean_loss(apply_fn)(variables, images, targets))

  def all_devices(variables: Any, images: Any, targets: Any) -> PyTree:
    if devices == 1:
      return step(variables, images, targets)
    rows = parallel.split((images, targets), devices)
    mapped = jax.vmap(step, in_axes=(None, 0, 0), axis_name=parallel.AXIS)
    found = mapped(variables, *rows)
    return jax.tree.map(lambda x: x[0], found)  # The same on all of them.

  return jax.jit(all_devices)


@functools.lru_cache(maxsize=32)
def _clipped(apply_fn: ApplyFn) -> Any:
  """Return the compiled sum of clipped gradients, one of each example."""

  def total(variables: Any, batch: Any, clip: float) -> PyTree:
    params, rest = fit.split_collections(variables)

    def loss_fn(params: Any, example: Any) -> tuple[jax.Array, Any]:
      logits = apply_fn({"params": params, **(rest or {})}, example["image"])
      losses = optax.softmax_cross_entropy(logits, example["target"])
      return losses.mean(), ()

    real = jnp.ones(len(batch["image"]), jnp.bool_)
    return private.clipped_sum(
      loss_fn, params, batch, real, clipping_norm=clip
    )[0]

  return jax.jit(total, static_argnums=2)
