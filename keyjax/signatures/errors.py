"""The error that signatures of models raise."""

from collections.abc import Sequence
from typing import NamedTuple

from keyjax.errors import ContentError


class Difference(NamedTuple):
  """How a file of a model differs from what was signed.

  Attributes:
    where: Name of the file, relative to the model.
    what: Description, a few words.
  """

  where: str
  what: str


class ModelSignatureError(ContentError):
  """A signature, or the model that it is of, is refused.

  Attributes:
    differences: Files that are not as signed; empty if something else is wrong.
  """

  def __init__(self, message: str, differences: Sequence[Difference] = ()):
    """Create the error.

    Args:
      message: One line.
      differences: Files that are not as signed.
    """
    super().__init__(message)
    self.differences = tuple(differences)

  def __reduce__(self) -> tuple[object, ...]:
    """Pickle the differences too."""
    return type(self), (str(self), self.differences)
