"""The error of a part that does not open."""

from keyjax.checkpoint.errors import CheckpointContentError
from keyjax.checkpoint.format.layout import Part
from keyjax.checkpoint.format.manifest import Leaf


def damaged(leaf: Leaf, part: Part) -> CheckpointContentError:
  """Return the error of a part that does not open."""
  where = f" at {list(part.start)}" if len(leaf.parts) > 1 else ""
  return CheckpointContentError(
    f"leaf {leaf.path}{where} does not open: it is damaged, or is not the one "
    "that was saved here"
  )
