"""The errors of key management: clear sentences, and one that is flat."""


class KeyringError(Exception):
  """A key, an envelope or a keyring cannot be used; the message says why."""


class CannotOpen(KeyringError):
  """Nothing given opens it; which part was wrong is not said.

  A wrong key, a wrong passphrase and a damaged file give the same words, so
  that nobody who tries keys learns how near they were. What a key file says is
  `WrongPassphrase`.
  """

  def __init__(self) -> None:
    """Makes the one flat error there is."""
    super().__init__(
      "cannot open: no key given opens it, or the data is damaged"
    )


class WrongPassphrase(CannotOpen):
  """The passphrase of a key file is wrong, or the file is damaged.

  Who has the file can try passphrases without us: there is nothing to hide.
  """

  def __init__(self, key: str = "this private key"):
    """Names a key: a path, or a source that is no file."""
    KeyringError.__init__(
      self, f"the passphrase of {key} is wrong, or the file is damaged"
    )
