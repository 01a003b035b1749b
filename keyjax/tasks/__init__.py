"""Tasks: what a model is asked to do, and the metric that judges it.

    classes     one class for each example             accuracy
    tokens      the next token                         accuracy, perplexity
    masks       a class for each pixel                 mean IoU
    boxes       objects and where they are             AP50, AP
    embeddings  a vector                               cosine similarity
    pairs       vectors of two texts                   retrieval, cosine
    words       a sequence, by CTC                     word accuracy, error rate
    returns     an episode, which the model plays      return

A task of another kind is a `Task` of one's own.
"""

import importlib
import pkgutil

from keyjax.tasks.classes import TASK as CLASSES
from keyjax.tasks.task import (
  Task,
  mean,
  nonfinite,
  num_examples,
  ratio,
  take,
)

__all__ = [
  "CLASSES",
  "Task",
  "get",
  "mean",
  "names",
  "nonfinite",
  "num_examples",
  "ratio",
  "take",
]


def names() -> tuple[str, ...]:
  """Return the names of the tasks that `get` knows."""
  found = (m.name for m in pkgutil.iter_modules(__path__))
  return tuple(sorted(name for name in found if name != "task"))


def get(name: str) -> Task:
  """Return a task by name.

  Args:
    name: One of `names()`.

  Raises:
    ValueError: If there is no such task; the message lists the known ones.

  Example:
    >>> get("tokens").metric
    'accuracy'
  """
  if name not in names():
    raise ValueError(f"unknown task {name!r}; known: {', '.join(names())}")
  found: Task = importlib.import_module(f"{__name__}.{name}").TASK
  return found
