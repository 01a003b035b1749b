"""Changed inputs with and without the key of the model.

The attacker has the locked file, and everything but the key of a network that
was trained under one. All climb by the same PGD, made transferable; what they
find is judged under the right key.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import keyjax
from experiments import models
from experiments.studies.base import Figure, Lab, network, number, share
from keyjax import Secret
from keyjax.attacks import evasion, near_keys

TITLE = "A key, and adversarial inputs"
SENTENCE = "An attacker without the key cannot compute adversarial inputs."
DATASETS = ("digits",)
EPSILON = 0.15
LOCKS = ("hpnn", "shf", "np", "ffx")

_IMAGES = 200
_KEYS = 16  # Random keys of an expectation.
_MEAN = 4  # Keys of a mean over attackers.
_STEPS = functools.partial(evasion.pgd, steps=20)
_PGD = evasion.in_batches(evasion.transferable(_STEPS), _IMAGES)
_STILL = evasion.in_batches(_STEPS, _IMAGES)
_SQUARE = evasion.in_batches(
  functools.partial(evasion.square, n_queries=1000), _IMAGES
)


def run(lab: Lab) -> list[Figure]:
  """Return the share of test images that each attacker changes for good."""
  return [figure for lock in LOCKS for figure in _figures(lab, lock)]


def _figures(lab: Lab, lock: str) -> list[Figure]:
  scheme, key = _key(lab, lock)
  trained = network(lab, scheme=scheme, key=key, epochs=20)
  x = jnp.asarray(lab.test.image[:_IMAGES])
  y = jnp.asarray(lab.test.label[:_IMAGES])
  apply_fn, file = trained.model.apply, trained.variables
  model = evasion.keyed_model(scheme, apply_fn, file)
  rng = np.random.default_rng(lab.seed)
  random = [near_keys.random_key(key, rng) for _ in range(_KEYS)]
  # HPNN: a quarter of the bits wrong, as a half of the guesses is right.
  far = near_keys.max_distance(key) // (4 if lock == "hpnn" else 2)
  half = [near_keys.near_key(key, far, rng) for _ in range(_MEAN)]
  attackers = {
    "right key": [model(key)],
    "half of the key": [model(k) for k in half],
    "a wrong key": [model(k) for k in random[:_MEAN]],
    "no key": [evasion.stolen_model(apply_fn, file, file)],
    f"mean of {_KEYS} random keys": [
      evasion.expected_logits(model, evasion.stacked(random))
    ],
  }
  results = {
    f"{name}/{i}": _PGD(attacker, x, y, epsilon=EPSILON, rng=lab.rng)
    for name, several in attackers.items()
    for i, attacker in enumerate(several)
  }
  for i, attacker in enumerate(attackers["a wrong key"]):
    results[f"a wrong key, errors left alone/{i}"] = _STILL(
      attacker, x, y, epsilon=EPSILON, rng=lab.rng
    )
  results["queries of the right key/0"] = _SQUARE(
    evasion.black_box(model(key)), x, y, epsilon=EPSILON, rng=lab.rng
  )
  worst = evasion.worst_case(results, model(key), x, y, epsilon=EPSILON)
  names = dict.fromkeys(name.split("/")[0] for name in results)
  return [
    share(f"{lock}: unchanged", model(key)(x).argmax(-1) != y),
    *(_figure(lock, name, worst.members) for name in names),
    share(f"{lock}: worst of all", worst.union.success),
  ]


def _figure(
  lock: str, name: str, members: Mapping[str, evasion.Evasion]
) -> Figure:
  """Return the share of one attacker, or the mean over several keys."""
  hits = [
    np.asarray(found.success)
    for member, found in members.items()
    if member.startswith(f"{name}/")
  ]
  if len(hits) == 1:
    return share(f"{lock}: {name}", hits[0])
  return number(f"{lock}: {name}", np.mean(hits), np.size(hits))


def _key(lab: Lab, lock: str) -> tuple[keyjax.Scheme, Any]:
  """Return a scheme, and a new key of it."""
  dataset = lab.dataset
  made = models.create("mlp", dataset.num_classes, dataset.mean, dataset.std)
  image = jnp.asarray(lab.train.image[:8])
  params = made.init(jax.random.key(0), image)
  scheme = (
    keyjax.hpnn(made.apply) if lock == "hpnn" else keyjax.pixel_shuffle(lock, 4)
  )
  return scheme, scheme.keygen(Secret.generate(), params, {"image": image})
