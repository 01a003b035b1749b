"""The error that cards raise."""


class CardError(ValueError):
  """A card cannot be made, or is refused."""
