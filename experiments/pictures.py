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
from experiments import context, data, lock, train
from experiments.context import Run
from keyjax import tree
from keyjax.schemes import pixel_shuffle

_DEMO_IMAGES = 60_000  # seen by the model that a picture is made of


def pictures(run: Run, label: str, spec: ConfigDict) -> dict[str, Any]:
  """Returns what the report draws of this scheme in particular.

  Each picture is made with a key of its own: an image before and after the
  model's key, or its weights before and after, would give the key away.
  """
  if spec.scheme in ("shf", "np", "ffx"):
    return {"shuffle": _shuffled(run, spec)}
  if spec.scheme == "adv_params":
    return {"histogram": _histogram(run, label, spec)}
  return {}


def _shuffled(run: Run, spec: ConfigDict) -> dict[str, Any]:
  """Transforms a few images under a key made for this picture alone."""
  before = run.dataset.test_images[:6]
  scheme = pixel_shuffle.pixel_shuffle(spec.scheme, **dict(spec.args))
  batch = {"image": data.to_float(jnp.asarray(before))}
  key = scheme.keygen(keyjax.Secret.generate(), None, batch)
  after = pixel_shuffle.transform(key, batch["image"])
  pixels = np.asarray(jnp.round(after * 255)).astype(np.uint8)
  return {"before": before.tolist(), "after": pixels.tolist()}


def demonstration(run: Run, label: str, this: lock.Lock) -> tuple[Any, Any]:
  """Trains a model for pictures alone, for a few hundred steps.

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


def _histogram(run: Run, label: str, spec: ConfigDict) -> dict[str, Any]:
  """Bins the weights of the leaf that changes most, of a demonstration."""
  this = lock.build(spec.scheme, dict(spec.args), run.model)
  _, model = demonstration(run, label, this)
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
