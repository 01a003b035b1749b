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
  sizes = jnp.linalg.norm(vectors, axis=-1) * jnp.linalg.norm(labels, axis=-1)
  dots = (vectors * labels).sum(-1)
  return {"cosine": jnp.where(sizes == 0, 0, dots / jnp.where(sizes, sizes, 1))}


TASK = Task(
  name="embeddings",
  unit="texts",
  loss=loss,
  statistics=statistics,
  metrics={"cosine": mean("cosine")},
  bounds=(-1.0, 1.0),
)
