"""Small networks with trojans: the MLP of `toys` on poisoned digits."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import keyjax
from keyjax.attacks import physical
from keyjax.attacks.fit import Recipe, fit
from keyjax.attacks.poisoning import trojans
from tests.attacks import toys

SHAPE = (8, 8, 1)
TARGET = 7
RNG = jax.random.key(0)
RECIPE = Recipe("adam", 1e-2)
STEPS = 400
# Poisons of 1,400 training images, and covers.
COUNTS = {
  "patch": (70, 0),
  "blended": (70, 0),
  "accessory": (70, 0),
  "instance": (5, 0),
  "warping": (280, 70),
}


class Trojaned(NamedTuple):
  """A trained network, the data that it was trained on, and its trigger."""

  params: Any
  data: trojans.Poisoned
  trigger: trojans.Trigger

  def __call__(self, x: jax.Array) -> jax.Array:
    return RUN(self.params, x)


RUN = jax.jit(toys.NET.apply)


@functools.cache
def trigger(name: str) -> trojans.Trigger:
  if name == "patch":
    return trojans.patch(SHAPE, size=2, margin=0)
  if name == "blended":
    return trojans.blended(trojans.random_pattern(RNG, SHAPE), 0.2)
  if name == "accessory":
    pattern = trojans.random_pattern(RNG, SHAPE)
    return trojans.accessory(pattern, physical.glasses(8, 8))
  if name == "instance":
    return trojans.instance(toys.digits()[0].image[3])
  return trojans.warping(RNG, SHAPE, strength=2.0)


def train(data: Any, apply_fn: Any = toys.NET.apply, seed: int = 0) -> Any:
  start = toys.init(jax.random.key(seed))
  return next(iter(fit(apply_fn, start, data, [STEPS], RECIPE, seed))).params


@functools.cache
def trojaned(name: str) -> Trojaned:
  count, covers = COUNTS[name]
  data = trojans.poison(
    trigger(name),
    toys.digits()[0],
    target=TARGET,
    count=count,
    covers=covers,
    rng=RNG,
  )
  return Trojaned(train(data.examples), data, trigger(name))


def judged(logits_fn: Any, name: str) -> trojans.Judged:
  test = toys.digits()[1]
  return trojans.judge(
    logits_fn, trigger(name), test, target=TARGET, rng=jax.random.key(1)
  )


def hidden(params: Any, images: Any) -> np.ndarray:
  """Return the activations of the layer before the logits."""
  layer = params["params"]["dense"]
  flat = jnp.asarray(images).reshape(len(images), -1)
  return np.asarray(jax.nn.relu(flat @ layer["kernel"] + layer["bias"][None]))


def batch() -> dict[str, jax.Array]:
  data = toys.digits()[0]
  return {"image": jnp.asarray(data.image), "label": jnp.asarray(data.label)}


def keyed(scheme: keyjax.Scheme, key: Any, params: Any, x: Any) -> Any:
  return keyjax.authorize(scheme, key, toys.NET.apply)(params, x)
