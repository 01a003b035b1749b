"""A model and a key that exist only for the pictures of a page.

A saliency map under the owner's key is what a server that explains its answers
would reveal, and it says more about a key than a label does. An untrained
network has no saliency to show, so that this model is trained.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

import keyjax
from experiments.protection.job import Job, keygen_batch
from experiments.training import train
from keyjax.attacks.game import Target

_IMAGES = 60_000  # Seen in training: a few hundred steps.


def demonstration(job: Job, label: str, target: Target) -> Target:
  """Train and lock a model of the same kind, with another key.

  Args:
    job: The job.
    label: Label of the protection.
    target: Locked model, for its architecture and data.
  """
  lock = job.locks[label]
  batch = keygen_batch(job)
  key, variables = _train(job, label, batch)
  params = jax.tree.map(jnp.asarray, lock.prepare(variables))
  if key is None:
    key = lock.scheme.keygen(keyjax.Secret.generate(), params, batch)
  return dataclasses.replace(
    target,
    scheme=lock.scheme,
    key=key,
    params=params,
    locked=jax.jit(lock.scheme.encrypt)(key, params),
  )


def _train(job: Job, label: str, batch: Any) -> tuple[Any, Any]:
  """Train the model.

  Returns:
    The key that it trained under, or None, and its variables. The key is
    derived, so that training can resume; it is not stored.
  """
  config = job.config.train.copy_and_resolve_references()
  config.seed += 1
  config.epochs = min(config.epochs, _IMAGES / job.dataset.num_examples)
  lock = job.locks[label]
  key = None
  if lock.trains:
    rng = jax.random.key(config.seed)
    initial = jax.jit(job.model.init)(rng, batch["image"][:1])
    secret = job.workdir.secret.child(f"{label}/demonstration")
    key = lock.scheme.keygen(secret, initial, batch)
  variables = train.train(
    config,
    dataset=job.dataset,
    model=job.model,
    scheme=lock.scheme if lock.trains else keyjax.identity(),
    key=() if key is None else key,
    folder=job.workdir.folder(label) / "demonstration",
    title="demo",
    encryption=job.encryption,
    initial=job.initial,
    secret=job.noise_secret(f"{label}/demonstration"),
  )
  return key, variables
