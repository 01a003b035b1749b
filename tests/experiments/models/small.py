"""Small models, their shapes, and variables that are quick to make."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from experiments import models

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
SMALL = {
  "mlp": {"hidden": (8, 8)},
  "cnn": {"features": (4, 8), "units": 8},
  "vgg11": {"width": 4},
  "resnet18": {"width": 4},
  "vit_micro": {},
  "mixer_micro": {"depth": 1},
}


@functools.cache
def abstract(name, num_classes=10, size=32, batch=2, **options):
  """Return the variables, logits and module by shape only."""
  model = models.create(name, num_classes, MEAN, STD, **options)
  x = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.float32)
  logits, variables = jax.eval_shape(
    model.init_with_output, jax.random.key(0), x
  )
  return variables, logits, model


def initialise(model, images):
  """Return variables drawn by NumPy: nothing is compiled."""
  rng = np.random.default_rng(0)

  def draw(path, leaf):
    kind = path[-1].key
    if kind == "kernel":
      scale = math.sqrt(2 / math.prod(leaf.shape[:-1]))
      return jnp.asarray(rng.normal(0, scale, leaf.shape), leaf.dtype)
    return jnp.full(leaf.shape, kind in ("scale", "var"), leaf.dtype)

  shapes = jax.eval_shape(model.init, jax.random.key(0), images)
  return jax.tree_util.tree_map_with_path(draw, shapes)
