"""Which leaves of a checkpoint are wanted."""

from collections.abc import Callable, Iterable

from keyjax.checkpoint.format.manifest import Leaf, Manifest
from keyjax.checkpoint.parts.opening import LeafRequest
from keyjax.errors import ArgumentError

LeafSelection = str | Callable[[str], bool] | Iterable[str]


def select_leaves(
  manifest: Manifest, leaves: LeafSelection | None
) -> list[int]:
  """Return the numbers of the selected leaves.

  Args:
    manifest: What the checkpoint holds.
    leaves: Paths, or a regular expression for whole paths; None for all.

  Raises:
    ArgumentError: If a path does not exist, or nothing matches.
  """
  paths = [leaf.path for leaf in manifest.leaves]
  if leaves is None:
    return list(range(len(paths)))
  if not isinstance(leaves, str) and not callable(leaves):
    selected = set(leaves)
    if missing := sorted(selected - set(paths))[:4]:
      raise ArgumentError(f"no leaf {', '.join(missing)} in this checkpoint")
    leaves = selected.__contains__
  from keyjax.tree import matcher, unmatched  # It loads JAX.

  matches = matcher(leaves)
  if found := [i for i, path in enumerate(paths) if matches(path)]:
    return found
  raise ArgumentError(unmatched(leaves, paths))


def whole_leaf(number: int, leaf: Leaf) -> LeafRequest:
  """Return the request of a whole leaf in host memory."""
  start = (0,) * len(leaf.shape)
  return LeafRequest(leaf=number, boxes=[(start, leaf.shape)], devices=None)
