"""The error of cards."""


class CardError(ValueError):
  """A card cannot be made, or is refused; the message says why."""
