"""A vector for each example: cosine similarity to the one that is wanted."""

from typing import Any

import jax
import jax.numpy as jnp

from keyjax.tasks.task import Task, mean


def loss(vectors: jax.Array, labels: jax.Array) -> jax.Array:
  """Return 1 less the cosine similarity, float32[b]."""
  return 1 - statistics(vectors, labels)["cosine"]


def statistics(vectors: jax.Array, labels: jax.Array) -> dict[str, Any]:
  """Return the cosine similarity of each pair; 0 where a vector is zero.

  Args:
    vectors: float32[b, d].
    labels: float32[b, d], such as the embeddings of the plain model.
  """
  vectors, labels = _scaled(vectors), _scaled(labels)
  squares = (vectors**2).sum(-1) * (labels**2).sum(-1)
  dots = (vectors * labels).sum(-1)
  # The gradient of a root at zero would be NaN.
  sizes = jnp.sqrt(jnp.where(squares == 0, 1, squares))
  return {"cosine": jnp.where(squares == 0, 0, dots / sizes)}


def _scaled(vectors: jax.Array) -> jax.Array:
  """Return vectors whose largest number is 1, in the same directions.

  The squares of the numbers of a long vector overflow, of a short one vanish.
  """
  # No scale changes the cosine: it has no gradient.
  most = jax.lax.stop_gradient(jnp.abs(vectors).max(-1, keepdims=True))
  return vectors / jnp.where(most > 0, most, 1)


TASK = Task(
  name="embeddings",
  unit="texts",
  loss=loss,
  statistics=statistics,
  metrics={"cosine": mean("cosine")},
  logits=False,
  bounds=(-1.0, 1.0),
)
