"""Texts to look up: Python's own help, titles against what follows them."""

from typing import NamedTuple

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
