"""An episode for each example: its return.

The model plays it: outputs are the returns, float32[b], of episodes whose
beginnings are the inputs. Labels are not used.
"""

from typing import Any

import jax
import numpy as np

from keyjax.tasks.task import Task, mean


def loss(returns: jax.Array, labels: Any) -> jax.Array:
  """Return the negative return of each episode, float32[b]."""
  del labels
  return -returns


def statistics(returns: jax.Array, labels: Any) -> dict[str, Any]:
  """Return the return of each episode."""
  del labels
  return {"return": returns}


TASK = Task(
  name="returns",
  unit="episodes",
  loss=loss,
  statistics=statistics,
  metrics={"return": mean("return")},
  logits=False,
  bounds=(-np.inf, np.inf),
)
