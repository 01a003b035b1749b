"""The next token of a text: accuracy and perplexity.

Tokens of one sequence depend on each other, so that intervals are over
sequences. Positions with a negative label, such as padding, do not count.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from keyjax.tasks.task import Task, ratio


def loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Return the mean cross-entropy of each sequence's tokens, float32[b]."""
  found = statistics(logits, labels)
  return found["nats"] / jnp.maximum(found["tokens"], 1)


def statistics(logits: jax.Array, labels: jax.Array) -> dict[str, Any]:
  """Return hits, tokens and nats of each sequence, float32[b].

  Args:
    logits: float32[b, t, vocabulary].
    labels: int32[b, t], the next tokens.
  """
  counted = labels >= 0
  known = jnp.maximum(labels, 0)
  nats = optax.softmax_cross_entropy_with_integer_labels(logits, known)
  found = logits.argmax(-1)
  hits = (found == labels.astype(found.dtype)) & counted
  return {
    "hits": hits.sum(-1, dtype=jnp.float32),
    "tokens": counted.sum(-1, dtype=jnp.float32),
    "nats": jnp.where(counted, nats, 0).sum(-1, dtype=jnp.float32),
  }


def _perplexity(statistics: Any, counts: np.ndarray) -> np.ndarray:
  with np.errstate(over="ignore"):
    return np.exp(ratio("nats", "tokens")(statistics, counts))


TASK = Task(
  name="tokens",
  unit="tokens",
  loss=loss,
  statistics=statistics,
  metrics={
    "accuracy": ratio("hits", "tokens"),
    "perplexity": _perplexity,
  },
  units=lambda labels: labels.shape[-1],
  chance=lambda classes: 1 / classes,
)
