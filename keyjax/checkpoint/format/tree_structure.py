"""The structure of a tree as JSON, to restore a tree without its model.

Dicts, lists, tuples and None are restored as they were; every other node (a
dataclass, a named tuple, an optax state) becomes a dict of its fields.
"""

import enum
import numbers
from collections.abc import Iterator
from typing import Any

from keyjax import arguments
from keyjax.checkpoint.errors import CheckpointContentError
from keyjax.checkpoint.format.origin import is_text

MAX_DEPTH = 64


def describe(tree: Any) -> Any:
  """Return a tree's structure: leaves are numbers, nodes `{kind: children}`.

  Raises:
    ValueError: If the tree is deeper than 64 nodes, or a key of a dict is
      neither text nor a whole number.

  Example:
    >>> describe({"a": [3.0, None]})
    {'dict': [['a', {'list': [0, None]}]]}
  """
  return _describe(tree, iter(range(1 << 62)), 0)


def _describe(node: Any, counter: Any, depth: int) -> Any:
  import jax  # Not at the top: a reader of the structure needs none of it.

  if depth > MAX_DEPTH:
    raise ValueError(f"a checkpoint's tree has at most {MAX_DEPTH} levels")
  if node is None:
    return None
  if jax.tree_util.all_leaves([node]):
    return next(counter)
  children = jax.tree_util.tree_flatten_with_path(
    node, is_leaf=lambda x: x is not node
  )[0]
  inner = [(p[0], _describe(x, counter, depth + 1)) for p, x in children]
  if type(node) in (list, tuple):
    return {type(node).__name__: [x for _, x in inner]}
  return {"dict": [[name_of(entry), x] for entry, x in inner]}


def name_of(entry: Any) -> str | int:
  """Return the name that an entry of JAX's paths has in a checkpoint.

  Raises:
    ValueError: If it is the key of a dict that would come back as another one.

  Example:
    >>> import jax, numpy as np
    >>> name_of(jax.tree_util.DictKey(np.int64(3)))
    3
  """
  for field in ("key", "name", "idx"):
    if hasattr(entry, field):
      return _plain_key(getattr(entry, field))
  return str(entry)


def _plain_key(key: Any) -> str | int:
  """Return a key as text or as an int that is equal to it."""
  plain: str | int | None = None
  if isinstance(key, str):
    plain = str.__str__(key)
  elif isinstance(key, numbers.Integral) and not isinstance(key, bool):
    plain = int(key)
  # Paths of leaves show a key by str(), which for some enums differs.
  if plain is None or str(key) != str(plain):
    hint = ", such as its value" if isinstance(key, enum.Enum) else ""
    raise ValueError(
      f"a key of a dict is {arguments.describe(key)}: a checkpoint keeps keys "
      f"that are text or whole numbers{hint}"
    )
  if isinstance(plain, str) and not is_text(plain):
    raise ValueError("a key of a dict is text that has no UTF-8")
  return plain


def names(structure: Any) -> list[str]:
  """Return a name with dots for each leaf, as is usual in safetensors.

  Keys are kept as they are, so that a flat dict has its keys as names.

  Args:
    structure: Structure from `describe`.

  Example:
    >>> names(describe({"mlp/~/linear": {"w": 1.0}, "x": [2.0, 3.0]}))
    ['mlp/~/linear.w', 'x.0', 'x.1']
  """
  return [".".join(keys) for keys in leaf_keys(structure)]


def leaf_keys(structure: Any) -> list[tuple[str, ...]]:
  """Return the keys that lead to each leaf, as text.

  Example:
    >>> leaf_keys(describe({"x": [2.0, 3.0]}))
    [('x', '0'), ('x', '1')]
  """
  return list(_keys(structure, ()))


def _keys(node: Any, above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
  if isinstance(node, int):
    yield above
  elif node is not None:
    ((kind, children),) = node.items()
    named = children if kind == "dict" else enumerate(children)
    for name, child in named:
      yield from _keys(child, (*above, str(name)))


def child(structure: Any, name: str) -> tuple[Any, list[int]]:
  """Return the structure under a name of a dict, and its leaves' numbers.

  Args:
    structure: Structure from `describe`, checked by `check`.
    name: Key of the dict.

  Raises:
    CheckpointContentError: If there is no such name.

  Example:
    >>> child(describe({"a": 1.0, "b": [3.0, 4.0]}), "b")
    ({'list': [1, 2]}, [1, 2])
  """
  named = structure.get("dict", []) if isinstance(structure, dict) else []
  for key, node in named:
    if key == name:
      return node, list(_numbers(node))
  raise CheckpointContentError(f"the manifest's tree has no {name}")


def _numbers(node: Any) -> Iterator[int]:
  if isinstance(node, int):
    yield node
  elif node is not None:
    ((kind, children),) = node.items()
    for one in children:
      yield from _numbers(one[1] if kind == "dict" else one)


def rebuild(structure: Any, leaves: dict[int, Any], count: int) -> Any:
  """Return the tree, or the part of it that holds the given leaves.

  A node without any of its leaves is omitted; a list or tuple without some of
  them becomes a dict by position, so that no element moves.

  Args:
    structure: Structure from `describe`, checked by `check`.
    leaves: All or some leaves by number.
    count: Number of leaves of the whole tree.

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
  """Return a subtree, and whether it is part of the result."""
  if node is None:
    return None, whole
  if isinstance(node, int):
    return leaves.get(node), node in leaves
  ((kind, children),) = node.items()
  named = children if kind == "dict" else list(enumerate(children))
  rebuilt = [(name, *_rebuild(x, leaves, whole)) for name, x in named]
  present = {name: x for name, x, is_present in rebuilt if is_present}
  if kind == "dict" or len(present) < len(rebuilt):
    return present, whole or bool(present)
  values = list(present.values())
  node = tuple(values) if kind == "tuple" else values
  return node, whole or bool(present)


def check(structure: Any, count: int) -> None:
  """Check that this is the structure of `count` leaves.

  Raises:
    CheckpointContentError: If it is not.
  """
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
      "the manifest's tree has a node of an unknown kind"
    )
  ((kind, children),) = node.items()
  if kind not in ("dict", "list", "tuple") or type(children) is not list:
    raise CheckpointContentError(
      "the manifest's tree has a node of an unknown kind"
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
