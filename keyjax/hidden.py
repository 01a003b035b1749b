"""Leaves that a mask hides from a scheme."""

from typing import Any, NoReturn

import flax

_HIDDEN = (
  "`masked` hides this leaf from the scheme, which skips it (`tree.lockable`), "
  "and calls `tree.reveal` before it runs a model"
)


@flax.struct.dataclass
class Hidden:
  """A leaf that a scheme must not see; `masked` makes and removes it."""

  value: Any

  def __getattr__(self, name: str) -> NoReturn:
    raise AttributeError(f"a hidden leaf has no {name}: {_HIDDEN}")

  def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
    raise TypeError(f"a hidden leaf is not an array: {_HIDDEN}")


def is_hidden(x: Any) -> bool:
  """Return whether a leaf is hidden."""
  return isinstance(x, Hidden)
