"""A sequence for each example, read by CTC: word error rate.

Outputs are logits at each moment, class 0 is the blank. The best class of each
moment is taken, repetitions count once, blanks not at all; the edit distance to
the label is counted in the label's units, words or characters.

Graves et al., "Connectionist Temporal Classification", ICML 2006.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from keyjax.tasks.task import Task, ratio

_BLANK = 0


def loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Return the CTC loss of each example, float32[b].

  Args:
    logits: float32[b, t, classes].
    labels: int32[b, n], padded with negative numbers.
  """
  padding = (labels < 0).astype(jnp.float32)
  moments = jnp.zeros(logits.shape[:2])
  return optax.ctc_loss(logits, moments, jnp.maximum(labels, 0), padding)


def statistics(logits: jax.Array, labels: jax.Array) -> dict[str, Any]:
  """Return the edit distance and the label's length of each example."""
  best = jnp.where(jnp.isfinite(logits).all(-1), logits.argmax(-1), _BLANK)
  before = jnp.pad(best[:, :-1], ((0, 0), (1, 0)), constant_values=_BLANK)
  said = (best != _BLANK) & (best != before)
  errors = jax.vmap(_distance)(best, said, labels.astype(best.dtype))
  return {
    "errors": errors.astype(jnp.float32),
    "length": (labels >= 0).sum(-1, dtype=jnp.float32),
  }


def _distance(read: jax.Array, said: jax.Array, label: jax.Array) -> jax.Array:
  """Return the edit distance of what was said to a label, int32[].

  Args:
    read: int[t], classes.
    said: bool[t], which of them count.
    label: int[n], padded with negative numbers at its end.
  """
  first = jnp.arange(len(label) + 1)  # Distances of nothing to its beginnings.

  def add(row: jax.Array, step: Any) -> tuple[jax.Array, None]:
    word, counts = step

    def across(left: jax.Array, above: Any) -> tuple[jax.Array, jax.Array]:
      diagonal, up, symbol = above
      changed = diagonal + (symbol != word).astype(diagonal.dtype)
      least = jnp.minimum(jnp.minimum(left, up) + 1, changed)
      return least, least

    start = row[0] + 1
    _, rest = jax.lax.scan(across, start, (row[:-1], row[1:], label))
    return jnp.where(counts, jnp.append(start, rest), row), None

  last, _ = jax.lax.scan(add, first, (read, said))
  return last[(label >= 0).sum()]


def _share_right(statistics: Any, counts: np.ndarray) -> np.ndarray:
  return 1 - ratio("errors", "length")(statistics, counts)


TASK = Task(
  name="words",
  unit="texts",
  loss=loss,
  statistics=statistics,
  # Insertions can make more errors than there are words.
  metrics={
    "word_accuracy": _share_right,
    "word_error_rate": ratio("errors", "length"),
  },
  bounds=(-np.inf, 1.0),
)
