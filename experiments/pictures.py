"""What a report draws of one scheme in particular.

Each picture is made with a key of its own: an image before and after the
model's key, or its weights before and after, would give the key away.
"""

import functools
from typing import Any

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


def _histogram(run: Run, label: str, spec: ConfigDict) -> dict[str, Any]:
  """Bins the weights of the leaf that changes most, of a model for this alone.

  It trains for a few hundred steps from another seed and keeps no key.
  """
  config = run.config.train.copy_and_resolve_references()
  config.seed += 1
  config.epochs = min(config.epochs, _DEMO_IMAGES / run.dataset.num_examples)
  folder = run.workdir.folder(label) / "demonstration"
  plain = keyjax.identity()
  args = config, run.dataset, run.model, plain, (), folder, "demo"
  model = train.train(*args, run.people)
  scheme = lock.build(spec.scheme, dict(spec.args), run.model).scheme
  key = scheme.keygen(
    keyjax.Secret.generate(), model, context.keygen_batch(run)
  )
  return _bins(model, scheme.encrypt(key, model))


def _bins(plain: Any, locked: Any) -> dict[str, Any]:
  paths, before, _ = tree.flatten(plain)
  after = tree.flatten(locked)[1]
  pairs = list(zip(before, after, strict=True))
  differs = [
    int((context.words(a) != context.words(b)).sum()) for a, b in pairs
  ]
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
