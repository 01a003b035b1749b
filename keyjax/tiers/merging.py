"""Trees of some leaves of one tree, and the tree of all of them."""

from typing import Any

from keyjax.checkpoint.errors import CheckpointContentError

_NODES = (dict, list, tuple)


def merge(a: Any, b: Any, path: str = "") -> Any:
  """Return the tree of the leaves of two parts of one tree.

  Args:
    a: Part of a tree; a list or tuple without some elements is a dict by
      position, see `tree_structure.rebuild`.
    b: Another part.
    path: Where both are, for the error.

  Raises:
    CheckpointContentError: If they are not parts of one tree.

  Example:
    >>> merge({"x": [{"w": 1}, {"w": 2}]}, {"x": {1: {"b": 3}}})
    {'x': [{'w': 1}, {'w': 2, 'b': 3}]}
  """
  if not (isinstance(a, _NODES) and isinstance(b, _NODES)):
    raise CheckpointContentError(f"two tiers hold {path or 'the whole tree'}")
  left, right = _children(a), _children(b)
  merged = left | right
  for name in left.keys() & right.keys():
    where = f"{path}/{name}" if path else str(name)
    merged[name] = merge(left[name], right[name], where)
  kind = next((type(x) for x in (a, b) if not isinstance(x, dict)), dict)
  if kind is dict:
    return merged
  if set(merged) != set(range(len(merged))):
    raise CheckpointContentError(
      f"two tiers hold other elements of {path or 'the tree'}"
    )
  return kind(merged[i] for i in range(len(merged)))


def _children(node: Any) -> dict[Any, Any]:
  return dict(node if isinstance(node, dict) else enumerate(node))
