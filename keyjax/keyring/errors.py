"""The errors of key management: clear sentences, and one that is flat."""


class KeyringError(Exception):
  """A key, an envelope or a keyring cannot be used; the message says why."""


class CannotOpen(KeyringError):
  """Nothing given opens it; which part was wrong is not said.

  A wrong key, a wrong passphrase and a damaged file give the same words, so
  that nobody who tries keys learns how near they were.
  """

  def __init__(self) -> None:
    """Makes the one flat error there is."""
    super().__init__(
      "cannot open: no key given opens it, or the data is damaged"
    )
