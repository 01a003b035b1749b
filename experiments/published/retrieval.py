"""Texts to look up: Python's own help, titles against what follows them."""

from typing import NamedTuple

import numpy as np

_RULE = "*"  # Titles are underlined with it.


class Texts(NamedTuple):
  """Queries, and the text that each one is to find.

  Attributes:
    queries: Queries.
    texts: Texts, in the order of the queries.
  """

  queries: tuple[str, ...]
  texts: tuple[str, ...]


def python_help() -> Texts:
  """Return the titles of the topics of `help()`, and their texts.

  The topics come with Python; a title that several have is used once.
  """
  from pydoc_data import topics

  found: dict[str, str] = {}
  for name in sorted(topics.topics):
    title, rule, *rest = topics.topics[name].strip().split("\n")
    if rule.startswith(_RULE):
      found.setdefault(title, " ".join(" ".join(rest).split()))
  return Texts(tuple(found), tuple(found.values()))


def hits(queries: np.ndarray, texts: np.ndarray) -> np.ndarray:
  """Return which queries are nearest to their own text, float32[n].

  Args:
    queries: Embeddings of queries, float32[n, d]; one that is NaN finds none.
    texts: Embeddings of texts, in the same order.
  """
  scores = queries @ texts.T
  own = scores.diagonal().copy()
  np.fill_diagonal(scores, -np.inf)
  with np.errstate(invalid="ignore"):
    # A tie is no hit: equal embeddings find nothing.
    return (own > scores.max(1)).astype(np.float32)
