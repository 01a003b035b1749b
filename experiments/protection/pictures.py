"""What a report draws of one scheme in particular.

Each picture is made with a key of its own: an image before and after the
model's key, or its weights before and after, would give the key away.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import keyjax
from experiments import data
from experiments.protection import job as context
from experiments.protection import lock
from experiments.protection.job import Run
from experiments.training import train
from keyjax import tree
from keyjax.schemes import registry

_DEMO_IMAGES = 60_000  # seen by the model that a picture is made of


def train_shown(run: Run, label: str, spec: ConfigDict) -> Any:
  """Trains the model that a picture of this scheme is made of, if it needs one.

  As all training, it is for every process.

  Returns:
    Its variables, on the host; None where no picture shows weights.
  """
  if _kind(spec) != "weights":
    return None
  this = lock.build(spec.scheme, dict(spec.args), run.model)
  return demonstration(run, label, this)[1]


def pictures(run: Run, spec: ConfigDict, shown: Any) -> dict[str, Any]:
  """Returns what the report draws of this scheme in particular.

  Each picture is made with a key of its own: an image before and after the
  model's key, or its weights before and after, would give the key away.

  Args:
    run: what protections share.
    spec: the scheme's, from the config.
    shown: from `train_shown`.
  """
  kind = _kind(spec)
  if kind == "inputs":
    return {"shuffle": _shuffled(run, spec)}
  if kind == "weights":
    return {"histogram": _histogram(run, spec, shown)}
  return {}


def _kind(spec: ConfigDict) -> str:
  entry = registry.find(spec.scheme)
  return entry.picture if entry else ""


def _shuffled(run: Run, spec: ConfigDict) -> dict[str, Any]:
  """Transforms a few images under a key made for this picture alone."""
  before = run.dataset.test_images[:6]
  scheme = lock.build(spec.scheme, dict(spec.args), run.model).scheme
  batch = {"image": data.to_float(jnp.asarray(before))}
  key = scheme.keygen(keyjax.Secret.generate(), None, batch)
  after = key.transform_inputs(batch["image"])
  pixels = np.asarray(jnp.round(after * 255)).astype(np.uint8)
  return {"before": before.tolist(), "after": pixels.tolist()}


def demonstration(run: Run, label: str, this: lock.Lock) -> tuple[Any, Any]:
  """Trains a model for pictures alone, for a few hundred steps.

  Every process must take part.

  Args:
    run: what protections share.
    label: the protection's name.
    this: the protection.

  Returns:
    The key that it trained under, None where it trains under none, and its
    variables. The key is derived, so that training can go on; none is kept.
  """
  config = run.config.train.copy_and_resolve_references()
  config.seed += 1
  config.epochs = min(config.epochs, _DEMO_IMAGES / run.dataset.num_examples)
  folder = run.workdir.folder(label) / "demonstration"
  scheme, key = keyjax.identity(), None
  if this.trains:
    batch = context.keygen_batch(run)
    rng = jax.random.key(config.seed)
    first = jax.jit(run.model.init)(rng, batch["image"][:1])
    secret = run.workdir.secret.child(f"{label}/demonstration")
    scheme, key = this.scheme, this.scheme.keygen(secret, first, batch)
  args = config, run.dataset, run.model, scheme, () if key is None else key
  return key, train.train(*args, folder, "demo", run.people)


def _histogram(run: Run, spec: ConfigDict, model: Any) -> dict[str, Any]:
  """Bins the weights of the leaf that changes most, of a demonstration."""
  this = lock.build(spec.scheme, dict(spec.args), run.model)
  key = this.scheme.keygen(
    keyjax.Secret.generate(), model, context.keygen_batch(run)
  )
  return _bins(model, this.scheme.encrypt(key, model))


def _bins(plain: Any, locked: Any) -> dict[str, Any]:
  paths, before, _ = tree.flatten(plain)
  after = tree.flatten(locked)[1]
  pairs = list(zip(before, after, strict=True))
  differs = [int((tree.bits(a) != tree.bits(b)).sum()) for a, b in pairs]
  i = int(np.argmax(differs))
  both = np.concatenate([np.ravel(before[i]), np.ravel(after[i])])
  edges = np.histogram_bin_edges(both, 40)
  count = functools.partial(np.histogram, bins=edges)
  return {
    "leaf": paths[i],
    "changed": differs[i],
    "edges": edges.tolist(),
    "before": count(np.ravel(before[i]))[0].tolist(),
    "after": count(np.ravel(after[i]))[0].tolist(),
  }
