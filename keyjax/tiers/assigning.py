"""Which leaf is in which tier."""

from collections.abc import Callable, Mapping, Sequence

from keyjax.errors import ArgumentError
from keyjax.tree import matcher, unmatched

Leaves = str | Callable[[str], bool]


def assign(
  paths: Sequence[str], tiers: Mapping[str, Leaves]
) -> dict[str, list[int]]:
  """Return the numbers of each tier's leaves, by the tier's name.

  Args:
    paths: Paths of all leaves.
    tiers: Patterns in order; a leaf is in the first tier that matches it.

  Raises:
    ArgumentError: If a leaf is in no tier, or a tier has no leaf.

  Example:
    >>> assign(["a", "b", "c"], {"one": "b", "rest": ".*"})
    {'one': [1], 'rest': [0, 2]}
  """
  matches = {name: matcher(leaves) for name, leaves in tiers.items()}
  numbers: dict[str, list[int]] = {name: [] for name in tiers}
  rest: list[int] = []
  for i, path in enumerate(paths):
    first = next((name for name in tiers if matches[name](path)), None)
    (rest if first is None else numbers[first]).append(i)
  for name, leaves in tiers.items():
    if not numbers[name]:
      why = "earlier tiers have all leaves that match"
      if not any(map(matches[name], paths)):
        why = unmatched(leaves, paths)
      raise ArgumentError(f"tier {name} has no leaf: {why}")
  if rest:
    raise ArgumentError(
      f"leaf {paths[rest[0]]} is in no tier: end with one of the rest, whose "
      'pattern is ".*"'
    )
  return numbers
