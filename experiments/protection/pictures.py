"""Pictures of one scheme for the report.

No picture shows the model's own key or weights. An image before and after the
model's key would reveal the key, and so would its plain weights: next to the
locked file, which is public, their histogram shows which weights the key
changed and from what. A fresh key for the trained model is no way out, because
a search such as AdvParams' finds much the same key again. So inputs are
transformed under a key made for the picture, and weights are those of an
untrained model, locked under a key that was made for it.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import keyjax
from experiments import data
from experiments.protection.job import Job, keygen_batch
from keyjax import tree
from keyjax.schemes import registry

_IMAGES = 6
_EXAMPLES = 64  # Of a search for a key; its steps compute gradients over them.
_BINS = 40


def pictures(job: Job, label: str) -> dict[str, Any]:
  """Return the report's pictures of one scheme, if it has any."""
  entry = registry.find(job.config.schemes[label].scheme)
  if entry is None:
    return {}
  if entry.picture == "inputs":
    return {"shuffle": _transformed_inputs(job, label)}
  if entry.picture == "weights":
    return {"histogram": _locked_weights(job, label)}
  return {}


def _transformed_inputs(job: Job, label: str) -> dict[str, Any]:
  """Transform a few images under a key made for this picture."""
  before = job.dataset.test_images[:_IMAGES]
  batch = {"image": data.to_float(jnp.asarray(before))}
  keygen = job.locks[label].scheme.keygen
  key: Any = keygen(keyjax.Secret.generate(), None, batch)
  after = key.transform_inputs(batch["image"])
  pixels = np.asarray(jnp.round(after * 255)).astype(np.uint8)
  return {"before": before.tolist(), "after": pixels.tolist()}


def _locked_weights(job: Job, label: str) -> dict[str, Any]:
  """Bin the weights of an untrained model before and after encryption."""
  lock = job.locks[label]
  batch = keygen_batch(job, limit=_EXAMPLES)
  rng = jax.random.key(job.config.train.seed + 1)
  variables = jax.jit(job.model.init)(rng, batch["image"][:1])
  plain = lock.prepare(variables)
  key = lock.scheme.keygen(keyjax.Secret.generate(), plain, batch)
  return _histogram(plain, lock.scheme.encrypt(key, plain))


def _histogram(plain: Any, locked: Any) -> dict[str, Any]:
  """Return both histograms of the leaf in which most weights changed."""
  paths, before, _ = tree.flatten(plain)
  after = tree.flatten(locked)[1]
  changed = [
    int((tree.bits(a) != tree.bits(b)).sum())
    for a, b in zip(before, after, strict=True)
  ]
  i = int(np.argmax(changed))
  both = np.concatenate([np.ravel(before[i]), np.ravel(after[i])])
  edges = np.histogram_bin_edges(both, _BINS)
  count = functools.partial(np.histogram, bins=edges)
  return {
    "leaf": paths[i],
    "changed": changed[i],
    "edges": edges.tolist(),
    "before": count(np.ravel(before[i]))[0].tolist(),
    "after": count(np.ravel(after[i]))[0].tolist(),
  }
