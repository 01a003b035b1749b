"""The structure of a tree as JSON, so that a tree comes back without a model.

Dicts, lists, tuples and None come back as they were; every other node (a
dataclass, a named tuple, a state of optax) as a dict of its fields.
"""

from typing import Any

import jax

from keyjax.checkpoint.errors import CheckpointContentError

MAX_DEPTH = 64


def describe(tree: Any) -> Any:
  """Returns a tree's structure: leaves are numbers, nodes `{kind: children}`.

  Raises:
    ValueError: it is deeper than 64 nodes.

  Example:
    >>> describe({"a": [3.0, None]})
    {'dict': [['a', {'list': [0, None]}]]}
  """
  return _describe(tree, iter(range(1 << 62)), 0)


def _describe(node: Any, numbers: Any, depth: int) -> Any:
  if depth > MAX_DEPTH:
    raise ValueError(f"a checkpoint's tree has at most {MAX_DEPTH} levels")
  if node is None:
    return None
  if jax.tree_util.all_leaves([node]):
    return next(numbers)
  children = jax.tree_util.tree_flatten_with_path(
    node, is_leaf=lambda x: x is not node
  )[0]
  inner = [(p[0], _describe(x, numbers, depth + 1)) for p, x in children]
  if type(node) in (list, tuple):
    return {type(node).__name__: [x for _, x in inner]}
  return {"dict": [[_name(entry), x] for entry, x in inner]}


def _name(entry: Any) -> str | int:
  for field in ("key", "name", "idx"):
    value = getattr(entry, field, None)
    if isinstance(value, str | int):
      return value
  return str(entry)


def rebuild(structure: Any, leaves: dict[int, Any], count: int) -> Any:
  """Returns the tree, or what is left of it when not all leaves are given.

  A node that lost all its leaves is left out; a list or tuple that lost some
  comes back as a dict by position, so that no element moves.

  Args:
    structure: what `describe` returned, checked by `check`.
    leaves: leaves by number, all or some.
    count: how many there are in all.

  Example:
    >>> structure = describe({"a": [3.0, 4.0], "b": ()})
    >>> rebuild(structure, {0: 3.0, 1: 4.0}, 2)
    {'a': [3.0, 4.0], 'b': ()}
    >>> rebuild(structure, {1: 4.0}, 2)
    {'a': {1: 4.0}}
  """
  return _rebuild(structure, leaves, len(leaves) == count)[0]


def _rebuild(
  node: Any, leaves: dict[int, Any], whole: bool
) -> tuple[Any, bool]:
  """Returns a subtree, and whether it belongs into the tree."""
  if node is None:
    return None, whole
  if isinstance(node, int):
    return leaves.get(node), node in leaves
  ((kind, children),) = node.items()
  named = children if kind == "dict" else list(enumerate(children))
  made = [(name, *_rebuild(x, leaves, whole)) for name, x in named]
  out = {name: x for name, x, kept in made if kept}
  if kind == "dict" or len(out) < len(made):
    return out, whole or bool(out)
  values = list(out.values())
  return (tuple(values) if kind == "tuple" else values), whole or bool(out)


def check(structure: Any, count: int) -> None:
  """Raises a CheckpointError unless this is the structure of `count` leaves."""
  found: list[int] = []
  _check(structure, found, 0)
  if found != list(range(count)):
    raise CheckpointContentError(
      "the manifest's tree has other leaves than it lists"
    )


def _check(node: Any, found: list[int], depth: int) -> None:
  if node is None:
    return
  if type(node) is int:
    found.append(node)
    return
  if depth > MAX_DEPTH or type(node) is not dict or len(node) != 1:
    raise CheckpointContentError(
      "the manifest's tree has a node of no known kind"
    )
  ((kind, children),) = node.items()
  if kind not in ("dict", "list", "tuple") or type(children) is not list:
    raise CheckpointContentError(
      "the manifest's tree has a node of no known kind"
    )
  if kind == "dict":
    for child in children:
      pair = type(child) is list and len(child) == 2
      if not pair or type(child[0]) not in (str, int):
        raise CheckpointContentError(
          "the manifest's tree has a field without a name"
        )
    if len({child[0] for child in children}) < len(children):
      raise CheckpointContentError("the manifest's tree has a name twice")
    children = [child[1] for child in children]
  for child in children:
    _check(child, found, depth + 1)
