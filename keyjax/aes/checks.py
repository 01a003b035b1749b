"""Checks of the shapes and dtypes of arguments, while a program is traced.

Nothing that is computed from an argument of another size would show that
something is wrong: a counter of five words would lose one.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_SCHEDULES = ((11, 4), (13, 4), (15, 4))


def array(
  name: str, x: Any, dtype: Any, *shapes: tuple[int | str, ...]
) -> jax.Array | np.ndarray:
  """Return an argument as an array.

  Args:
    name: Name of the argument, for the error.
    x: Argument.
    dtype: Dtype that it must have.
    *shapes: Allowed shapes; an axis with a name may have any size.

  Raises:
    ValueError: If the dtype or the shape is another one.

  Example:
    >>> array("data", np.zeros(3, np.uint8), np.uint8, ("n",)).shape
    (3,)
    >>> array("data", np.zeros(3), np.uint8, ("n",))
    Traceback (most recent call last):
    ...
    ValueError: data is float64[3], not uint8[n]
  """
  if not hasattr(x, "dtype"):
    x = np.asarray(x)
  if x.dtype != dtype or not any(_fits(x.shape, shape) for shape in shapes):
    wanted = " or ".join(
      f"{np.dtype(dtype)}[{', '.join(map(str, shape))}]" for shape in shapes
    )
    raise ValueError(f"{name} is {x.dtype}{list(x.shape)}, not {wanted}")
  return x


def _fits(shape: tuple[int, ...], wanted: tuple[int | str, ...]) -> bool:
  return len(shape) == len(wanted) and all(
    isinstance(b, str) or a == b for a, b in zip(shape, wanted, strict=True)
  )


def round_keys(x: Any) -> jax.Array | np.ndarray:
  """Return a key schedule; raise a ValueError if it has another shape."""
  return array("round_keys", x, jnp.uint32, *_SCHEDULES)


def counter(x: Any) -> jax.Array | np.ndarray:
  """Return a counter block; raise a ValueError if it has another shape."""
  return array("counter", x, jnp.uint32, (4,))
