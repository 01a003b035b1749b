"""What a service answers: names such as `top:3` in a config, as functions."""

import functools
from collections.abc import Callable
from typing import Any

from keyjax.defenses import answers

_WITH_NUMBER: dict[str, tuple[Callable[..., Any], Callable[[str], Any], str]]
_WITH_NUMBER = {
  "temperature": (answers.temperature, float, "temperature {}"),
  "top": (answers.top, int, "the top-{} probabilities"),
  "round": (answers.rounded, int, "{}-digit probabilities"),
}


def parse(
  text: str, field: str = "privacy.replies"
) -> tuple[str, answers.Answer]:
  """Return the title of a reply, and what it leaves of logits.

  Args:
    text: `label`, `temperature:T`, `top:K` or `round:DIGITS`.
    field: Field of the config that it is from, for the error.

  Raises:
    ValueError: If it is something else.

  Example:
    >>> parse("top:3")[0]
    'the top-3 probabilities'
  """
  if text == "label":
    return "the label alone", answers.label
  name, _, number = text.partition(":")
  try:
    function, read, words = _WITH_NUMBER[name]
    value = read(number)
  except (KeyError, ValueError):
    raise ValueError(
      f"{field}: {text!r}: choose label, temperature:T, top:K or round:DIGITS"
    ) from None
  return words.format(number), functools.partial(_apply, function, value)


def _apply(function: Callable[..., Any], value: Any, logits: Any) -> Any:
  return function(logits, value)
