"""One class for each example: accuracy."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from keyjax.tasks.task import Task, mean


def loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Return the cross-entropy of each example, float32[b]."""
  return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def statistics(logits: jax.Array, labels: jax.Array) -> dict[str, Any]:
  """Return which examples are right.

  The argmax of NaN is a class too: see `keyjax.tasks.nonfinite`.
  """
  found = logits.argmax(-1)
  return {"hits": (found == labels.astype(found.dtype)).astype(jnp.float32)}


TASK = Task(
  name="classes",
  unit="images",
  loss=loss,
  statistics=statistics,
  metrics={"accuracy": mean("hits")},
  exact=True,
  chance=lambda classes: 1 / classes,
)
