"""What studies of trojans share: triggers, networks, and what these do."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

import keyjax
from experiments import models
from experiments.poisons import base
from keyjax.attacks import fit, physical
from keyjax.attacks.any_scheme.fine_tune import KEY, keyed_pass
from keyjax.attacks.evasion.problem import LogitsFn
from keyjax.attacks.game import Examples
from keyjax.attacks.poisoning import trojans
from keyjax.interpret import activations

TARGET = 0  # Class of all triggers.
_STEPS = 1000
_PASS = 500  # Images of a forward pass.
_KEPT = "head"  # The layer before whose input detectors look at.


class Net(NamedTuple):
  """A trained network.

  Attributes:
    model: Linen module.
    variables: Its variables.
  """

  model: nn.Module
  variables: Any

  @property
  def logits_fn(self) -> LogitsFn:
    """The network as a pytree: one program serves all of one model."""
    return Partial(compiled(self.model), self.variables)

  def hidden(self, images: Any, layer: str = _KEPT) -> np.ndarray:
    """Return the input of a layer, float32[n, d], by default of the logits."""
    x, size = np.asarray(images), min(_PASS, len(images))
    found = []
    for start in range(0, len(x), size):  # All passes have one shape.
      rows = np.arange(start, start + size) % len(x)
      part = recording(self.model, layer)(self.variables, jnp.asarray(x[rows]))
      found.append(np.asarray(part)[: len(x) - start])
    return np.concatenate(found)


@functools.lru_cache(maxsize=8)
def compiled(model: nn.Module) -> Callable[..., jax.Array]:
  """Return the compiled pass of a model, the same one at each call."""
  return jax.jit(model.apply)


@functools.lru_cache(maxsize=8)
def recording(model: nn.Module, layer: str) -> Callable[..., jax.Array]:
  """Return the compiled input of a layer."""
  seen = activations.record(model.apply, [layer])
  return jax.jit(lambda variables, x: seen(variables, x)[f"{layer} in"])


def network(lab: base.Lab) -> nn.Module:
  """Return the untrained network: an MLP for the digits, a CNN for others.

  It is one object for each data set, so that its programs are compiled once.
  """
  d = lab.dataset
  return _network(d.name == "digits", d.num_classes, d.mean, d.std)


@functools.lru_cache(maxsize=4)
def _network(
  dense: bool, classes: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> nn.Module:
  if dense:
    return models.create("mlp", classes, mean, std, hidden=(256, 256))
  return models.create("cnn", classes, mean, std)


def train(
  lab: base.Lab,
  data: Examples,
  *,
  offset: int = 0,
  scheme: keyjax.Scheme | None = None,
  key: Any = (),
) -> Net:
  """Train a network, under a key if there is a scheme.

  Args:
    lab: Data set and seed.
    data: Training data.
    offset: Number of the network: others start elsewhere.
    scheme: Scheme that it is trained under.
    key: Its key, an argument of the compiled step.
  """
  made = network(lab)
  rng = jax.random.fold_in(lab.rng, offset)
  variables = made.init(rng, jnp.zeros((1, *data.image.shape[1:])))
  apply_fn = made.apply
  if scheme is not None:
    variables = {**variables, KEY: key}
    apply_fn = keyed_pass(scheme, made.apply)
  seed = 1000 * lab.seed + offset
  [last] = fit.fit(apply_fn, variables, data, [_STEPS], base.RECIPE, seed)
  return Net(made, {k: v for k, v in last.params.items() if k != KEY})


@functools.lru_cache(maxsize=4)
def clean_networks(lab: base.Lab, count: int) -> tuple[Net, ...]:
  """Return networks without poison, for false alarms; trained once a run."""
  return tuple(train(lab, lab.train, offset=100 + i) for i in range(count))


def triggers(lab: base.Lab) -> dict[str, trojans.Trigger]:
  """Return the triggers of a data set's images, by name."""
  shape = lab.train.image.shape[1:]
  h, w, _ = shape
  rng = jax.random.fold_in(lab.rng, 77)
  picture = pattern(lab)
  small = h < 16
  return {
    "patch": trojans.patch(shape, size=2 if small else 3),
    "blended": trojans.blended(picture, 0.2),
    "accessory": trojans.accessory(picture, physical.glasses(h, w)),
    "one input": trojans.instance(_outsider(lab)),
    # The published 0.5 moves a pixel by a quarter: too little for few poisons.
    "warping": trojans.warping(rng, shape, strength=2.0 if small else 1.0),
  }


def pattern(lab: base.Lab) -> np.ndarray:
  """Return the picture of blends and accessories: black and white squares."""
  shape = lab.train.image.shape[1:]
  rng = jax.random.fold_in(lab.rng, 77)
  cell = max(1, shape[0] // 14)
  return np.asarray(trojans.random_pattern(rng, shape, cell=cell, binary=True))


def _outsider(lab: base.Lab) -> np.ndarray:
  """Return an image of another class than the target, which none trains on."""
  images, labels = lab.test
  return np.asarray(images[np.flatnonzero(labels != TARGET)[lab.seed]])


def poisoned(
  lab: base.Lab, trigger: trojans.Trigger, count: int, covers: int = 0
) -> trojans.Poisoned:
  """Return the lab's training data with poisons."""
  return trojans.poison(
    trigger,
    lab.train,
    target=TARGET,
    count=count,
    covers=covers,
    rng=jax.random.fold_in(lab.rng, count),
  )


def judge(
  lab: base.Lab, logits_fn: LogitsFn, trigger: trojans.Trigger
) -> trojans.Judged:
  """Return what a network does with a trigger on the test images."""
  rng = jax.random.fold_in(lab.rng, 78)
  return trojans.judge(logits_fn, trigger, lab.test, target=TARGET, rng=rng)


def outcome(title: str, found: trojans.Judged) -> Iterator[base.Figure]:
  """Yield success, what happens without the trigger, and accuracy."""
  yield base.share(f"{title}: success", found.success)
  yield base.share(f"{title}: the same without the trigger", found.unprompted)
  yield base.share(f"{title}: accuracy", found.correct)
