"""Trees as msgpack, as Flax writes them, from files that anyone may have made.

Flax and msgpack raise a dozen types of errors for damage, whose texts contain
what was read.
"""

from typing import Any

import flax
import jax


def restore(data: bytes) -> Any:
  """Return the tree of msgpack bytes.

  Raises:
    ValueError: If they are damaged; the message contains none of them.

  Example:
    >>> restore(flax.serialization.msgpack_serialize({"a": 1}))
    {'a': 1}
  """
  try:
    found = flax.serialization.msgpack_restore(data)
    jax.tree.structure(found)  # Names that cannot be sorted make no tree.
    return found
  except Exception:  # KeyError, OverflowError, RecursionError, SyntaxError, ...
    pass
  raise ValueError("the msgpack data is damaged")
