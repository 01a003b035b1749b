"""Items of a step that are text: JSON, and states of iterators."""

import json
from collections.abc import Mapping
from typing import Any

import jax

from keyjax import arguments
from keyjax.checkpoint.errors import CheckpointContentError
from keyjax.errors import ArgumentError


def to_json(value: Any, what: str) -> str:
  """Return a value as JSON that reads as the same value; tuples as lists.

  Raises:
    ValueError: If it is not JSON, or a key of a dict is not text.
  """
  try:
    _check_keys(value, what)
    return json.dumps(value, allow_nan=False)
  except (TypeError, ValueError, RecursionError) as error:
    if isinstance(error, ArgumentError):
      raise
    raise ArgumentError(
      f"{what} does not fit into JSON: use text, finite numbers, lists and "
      "dicts"
    ) from None


def _check_keys(value: Any, what: str) -> None:
  if isinstance(value, Mapping):
    # JSON would make text of them: of 1 and "1", one is lost.
    if other := [key for key in value if not isinstance(key, str)]:
      kind = type(other[0]).__name__
      raise ArgumentError(f"{what}: a key of a dict is text, not of {kind}")
    value = list(value.values())
  if isinstance(value, list | tuple):
    for one in value:
      _check_keys(one, what)


def parse_json(data: bytes | str, what: str) -> Any:
  """Read JSON of a checkpoint, which is not trusted.

  Raises:
    CheckpointContentError: If it is not JSON.
  """
  try:
    return json.loads(data, parse_constant=_refuse)
  except (ValueError, RecursionError):
    raise CheckpointContentError(f"{what} is damaged: not JSON") from None


def _refuse(constant: str) -> Any:
  raise ValueError(constant)


def get_state(iterator: Any) -> str:
  """Return the state of an iterator as text, as Grain writes it."""
  state = iterator.get_state()
  if isinstance(state, bytes):
    return state.decode("utf-8")
  return json.dumps(state, indent=4)


def process_name(process: int, count: int) -> str:
  """Return the name of the state of a process, as Grain names its files."""
  return f"process_{process}-of-{count}"


def own_process_name() -> str:
  """Return the name of the state of this process."""
  return process_name(jax.process_index(), jax.process_count())


def set_state(iterator: Any, text: str, what: str) -> Any:
  """Put an iterator where it was, and return it.

  Raises:
    CheckpointContentError: If the state is of another pipeline.
  """
  state: Any = text.encode("utf-8")
  if not isinstance(iterator.get_state(), bytes):
    state = parse_json(text, what)
  try:
    iterator.set_state(state)
  except (KeyError, IndexError, TypeError, ValueError) as error:
    raise CheckpointContentError(
      f"{what} does not fit this iterator: {arguments.first_line(error)}"
    ) from None
  if hasattr(iterator, "start_prefetch"):
    iterator.start_prefetch()
  return iterator
