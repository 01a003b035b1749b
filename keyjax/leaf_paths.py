"""Patterns of leaf paths; `keyjax.tree` makes the paths."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from keyjax import arguments


def matcher(pattern: str | Callable[[str], bool]) -> Callable[[str], bool]:
  """Return a predicate on leaf paths: the expression must match all of one.

  Raises:
    ValueError: If `pattern` is not a regular expression.
    TypeError: If it is neither text nor a function.

  Example:
    >>> matcher(".*kernel")("params/dense/kernel")
    True
    >>> matcher("dense")("params/dense/kernel")
    False
  """
  if callable(pattern):
    return pattern
  if not isinstance(pattern, str):
    raise TypeError(
      "a pattern of leaf paths is a regular expression, such as '.*kernel', or "
      f"a function of a path, got {arguments.describe(pattern)}"
    )
  try:
    compiled = re.compile(pattern)
  except re.error as error:
    raise ValueError(
      f"{pattern!r} is not a regular expression: {error}"
    ) from None
  return lambda path: compiled.fullmatch(path) is not None


def unmatched(pattern: Any, paths: Sequence[str]) -> str:
  """Return an error text: no leaf matches a pattern, and which leaves exist."""
  some = ", ".join(paths[:4]) + (", ..." if len(paths) > 4 else "")
  shown = repr(pattern) if isinstance(pattern, str) else "the function"
  return f"no leaf matches {shown} with its whole path; the leaves are {some}"
