"""Pairs of texts, such as a title and what it is of: the one finds the other.

A model makes a vector of each of the two. A query is right if its own text is
nearer to it than every other text of the examples that are judged.

References:
  van den Oord et al., "Representation Learning with Contrastive Predictive
  Coding", arXiv:1807.03748 (the loss); Reimers and Gurevych, "Sentence-BERT",
  arXiv:1908.10084, whose library trains with this scale and one text each.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from keyjax.tasks import embeddings
from keyjax.tasks.task import Task, mean

_SCALE = 20.0  # Cosine similarities times this are logits.


def loss(vectors: jax.Array, labels: jax.Array) -> jax.Array:
  """Return how hard each query's own text is to tell from the batch's others.

  Args:
    vectors: float32[b, 2, d], of length 1.
    labels: Unused: a pair's own text is the right one.

  Returns:
    Cross-entropy, float32[b]; 0 for a batch of one.
  """
  del labels
  scores = _SCALE * vectors[:, 0] @ vectors[:, 1].T  # [b, b]
  return optax.softmax_cross_entropy_with_integer_labels(
    scores, jnp.arange(len(scores))
  )


def statistics(vectors: jax.Array, labels: jax.Array) -> dict[str, Any]:
  """Return the vectors, and how like they are to those of another model.

  Vectors that are not finite become zeros: they are like none.

  Args:
    vectors: float32[b, 2, d].
    labels: float32[b, 2, d], vectors of the model that is the original.
  """
  good = jnp.isfinite(vectors).all(-1, keepdims=True)
  vectors = jnp.where(good, vectors, 0)
  cosine = embeddings.statistics(vectors, labels)["cosine"].mean(-1)
  return {"query": vectors[:, 0], "text": vectors[:, 1], "cosine": cosine}


def hits(queries: np.ndarray, texts: np.ndarray) -> np.ndarray:
  """Return which queries are nearest to their own text, float32[n].

  Args:
    queries: Vectors of queries, float32[n, d]; one that is NaN finds none.
    texts: Vectors of texts, in the same order.

  Example:
    >>> hits(np.eye(3), np.eye(3)[[1, 0, 2]]).tolist()
    [0.0, 0.0, 1.0]
  """
  scores = queries @ texts.T
  own = scores.diagonal().copy()
  np.fill_diagonal(scores, -np.inf)
  with np.errstate(invalid="ignore"):
    # A tie is no hit: equal vectors find nothing.
    return (own > scores.max(1)).astype(np.float32)


def _retrieval(found: Any, counts: np.ndarray) -> np.ndarray:
  """Return the share of queries that are right, among all texts once each."""
  right = hits(np.asarray(found["query"]), np.asarray(found["text"]))
  return np.asarray(counts @ right.astype(np.float64) / counts.sum(1))


TASK = Task(
  name="pairs",
  unit="pairs",
  loss=loss,
  statistics=statistics,
  metrics={"retrieval": _retrieval, "cosine": mean("cosine")},
  logits=False,
)
