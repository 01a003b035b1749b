"""Checks of arguments that are easily mixed up.

Messages say what was given in place of what. A value itself is shown only if
it is a number or a short text: it might be a key, or gigabytes of weights.
"""

import numbers
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_LONGEST = 24  # Of a text that is shown; 32 digits may be an AES key.
_MODULES = ("flax.linen", "flax.nnx", "equinox", "haiku", "torch.nn")


def describe(value: Any) -> str:
  """Return what a value is, without its content.

  Example:
    >>> import numpy as np
    >>> describe({"image": 1}), describe(np.ones((2, 3))), describe(print)
    ('a dict of image', 'float64[2, 3]', 'the function print')
  """
  if value is None:
    return "None"
  if isinstance(value, type):
    return f"the class {value.__name__}"
  if is_array(value):
    if str(value.dtype).startswith("key<"):
      return "a JAX PRNG key"
    return f"{value.dtype}{list(value.shape)}"
  if _is_module(value):
    return f"the module {type(value).__name__}"
  name = getattr(value, "__name__", None)
  if callable(value) and isinstance(name, str):
    return f"the function {name}"
  kind = type(value).__name__
  fields = list(value) if isinstance(value, Mapping) else []
  if fields and all(isinstance(x, str) for x in fields):
    more = ", ..." if len(fields) > 4 else ""
    names = [x if len(x) <= _LONGEST else "a long name" for x in fields[:4]]
    return f"a {kind} of {', '.join(names)}{more}"
  return f"{'an' if kind[0] in 'aeioAEIO' else 'a'} {kind}"


def is_array(value: Any) -> bool:
  """Return whether a value has the shape and the dtype of an array."""
  return hasattr(value, "shape") and hasattr(value, "dtype")


def _is_module(value: Any, libraries: tuple[str, ...] = _MODULES) -> bool:
  """Return whether a value is a model of a library, not a function."""
  homes = [base.__module__ for base in type(value).__mro__]
  return any(home.startswith(libraries) for home in homes)


def show(value: Any) -> str:
  """Return a number or a short text as it is written, and else what it is."""
  if isinstance(value, str) and len(value) <= _LONGEST:
    return repr(value)
  if isinstance(value, int) and abs(value) >= 1 << 64:
    return "a number of more than 64 bits"  # Perhaps a key.
  if isinstance(value, bool | numbers.Number):
    return repr(value)
  return describe(value)


def first_line(error: Exception) -> str:
  """Return the type and the first line of an error."""
  text = (str(error).strip() or "no message").splitlines()[0]
  text = re.sub(r" \(https?://\S+\)", "", text)  # Pages about errors of Flax.
  return f"{type(error).__name__}: {text:.300}"


def shapes(tree: Any) -> str:
  """Return the shapes of a tree's first leaves, for an error."""
  import jax  # Not at the top: keys need none of it, and it loads slowly.

  found = [describe(x) for x in jax.tree.leaves(tree)]
  return ", ".join(found[:4]) + (", ..." if len(found) > 4 else "")


def require_function(value: Any, what: str, instead: str) -> None:
  """Raise a TypeError unless a value is a function, and not a model.

  Args:
    value: The argument.
    what: Where it was given, such as "hpnn: apply_fn".
    instead: What to pass.
  """
  if callable(value) and not isinstance(value, type) and not _is_module(value):
    return
  raise TypeError(
    f"{what} is {describe(value)}, not a function: pass {instead}"
  )


def require_apply(value: Any, what: str) -> None:
  """Raise a TypeError unless a value may be a forward pass."""
  instead = "the forward pass of a model, such as model.apply"
  if not isinstance(value, type):
    names = ("apply_fn", "apply")
    found = [x for x in names if callable(getattr(value, x, None))]
    instead = f"its `{found[0]}`" if found else instead
    if _is_module(value, ("flax.nnx",)):
      instead = "`keyjax.nnx_apply(graphdef)` of `nnx.split(model)`"
  require_function(value, what, instead)


def require_choice(value: Any, name: str, choices: Sequence[str]) -> None:
  """Raise a ValueError unless a value is one of some texts."""
  if isinstance(value, str) and value in choices:
    return
  *some, last = map(repr, choices)
  raise ValueError(
    f"{name}={show(value)}: choose {', '.join(some)} or {last}"
    + ("" if isinstance(value, str) else "; params are for the scheme's keygen")
  )


def require_pattern(value: Any, name: str) -> None:
  """Raise a TypeError unless a value is text; `re` says if it is a pattern."""
  if not isinstance(value, str):
    raise TypeError(
      f"{name} is one regular expression of paths, such as '.*kernel' or "
      f"'a|b', got {describe(value)}"
    )


def whole_number(value: Any, name: str, least: int = 1) -> int:
  """Return a number as an int.

  Raises:
    ValueError: If it is not a whole number, or is too small.
  """
  is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
  if not is_whole or value < least:
    bound = f"{least} or more" if least == 0 else f"at least {least}"
    raise ValueError(f"{name}={show(value)}: a whole number, {bound}")
  return int(value)


def positive(value: Any, name: str) -> float:
  """Return a finite number above 0 as a float.

  Raises:
    TypeError: If it is no number.
    ValueError: If it is not above 0, or not finite.

  Example:
    >>> positive(2, "rate")
    2.0
    >>> positive(float("inf"), "rate")
    Traceback (most recent call last):
    ValueError: rate=inf: must be above 0, and finite
  """
  if not isinstance(value, numbers.Real) or isinstance(value, bool):
    raise TypeError(f"{name}={show(value)}: a number above 0, and finite")
  try:
    found = float(value)
  except OverflowError:  # A whole number that no float holds.
    found = float("inf")
  if not 0 < found < float("inf"):
    raise ValueError(f"{name}={show(value)}: must be above 0, and finite")
  return found


def seed_number(value: Any, name: str = "seed") -> int:
  """Return a seed as an int, which NumPy and JAX both take.

  Raises:
    ValueError: If it is not a whole number from 0 to 2^63 - 1.

  Example:
    >>> seed_number(-1)
    Traceback (most recent call last):
    ValueError: seed=-1: a whole number, 0 or more
  """
  found = whole_number(value, name, least=0)
  if found >= 1 << 63:
    raise ValueError(f"{name}={show(value)}: a whole number below 2^63")
  return found


def check_runs(
  run: Callable[[], Any], what: str, inputs: Any, hint: str = ""
) -> Any:
  """Return what a user's function returns for shapes of its arguments.

  Args:
    run: Function without arguments that traces it.
    what: The call, for the error.
    inputs: What the function got from a batch.
    hint: What else may be wrong.

  Raises:
    ValueError: If it raises an error.
  """
  try:
    return run()
  except Exception as error:
    raise ValueError(
      f"{what} fails for a batch of {shapes(inputs) or describe(inputs)}: give "
      "keygen the params and the batch that the model takes, in their shapes"
      f"{hint} ({first_line(error)})"
    ) from error


def from_batch(
  take: Callable[[Any], Any],
  batch: Any,
  scheme: str,
  what: str = "images",
  example: str = "float32[b, h, w, c]",
) -> Any:
  """Return the part of a batch that a scheme looks at.

  Args:
    take: Function that returns it.
    batch: Batch that keygen got.
    scheme: Name of the scheme, for the error.
    what: What is looked at, for the error.
    example: What stands for it in the example of a batch.

  Raises:
    ValueError: If the batch does not have it, or it is not of arrays.
  """
  require_function(
    take, f"{scheme}: image", 'a function such as lambda batch: batch["x"]'
  )
  try:
    found = take(batch)
  except (TypeError, KeyError, IndexError, AttributeError):
    problem = f"the batch is {describe(batch)}"
  else:
    import jax  # As in `shapes`.

    if any(map(is_array, jax.tree.leaves(found))):
      return found
    problem = f"the batch has {describe(found)} there, not an array"
  raise ValueError(
    f"{scheme}: keygen looks at {what}, and {problem}: give a batch such as "
    f'{{"image": {example}}}, or pass `image=`, a function that takes them '
    "from the batch"
  ) from None
