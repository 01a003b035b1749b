"""The exceptions of the library, by what the caller can do about them.

    KeyjaxError
      ArgumentError                 an argument does not fit; change it
      StorageError                  a disk or a bucket failed; try again
      ContentError                  what was read is refused; do not use it
        SealError
      CapabilityError               a token permits nothing; ask a person
      KeyringError                  a key cannot be used; give another one
        CannotOpen
          WrongPassphrase
        ReleaseRefused              by a release server
          ApprovalNeeded            until others have approved
        ReleaseUnavailable          (a StorageError too)
      CheckpointError               a checkpoint could not be used
        CheckpointStorageError      (a StorageError too)
        CheckpointContentError      (a ContentError too)
          CheckpointSignatureError

Other wrong arguments are a `ValueError` or a `TypeError`, as everywhere in
Python.
This module imports nothing of KeyJAX, so that every other module can use it.
"""

import copyreg
from typing import Any


class KeyjaxError(Exception):
  """Base of the errors that a caller may want to handle."""


class _FixedMessageError(KeyjaxError):
  """An error that writes its message itself."""

  def __reduce__(self) -> Any:
    """Pickle the message, without a call of `__init__`, for process pools."""
    return copyreg.__newobj__, (type(self), *self.args)  # type: ignore[attr-defined]


class ArgumentError(KeyjaxError, ValueError):
  """An argument does not fit what it refers to.

  Raise it where the user chose the argument: a name that does not tell a
  file's format, or leaves that a checkpoint does not have.
  """


class StorageError(KeyjaxError, OSError):
  """A disk, a file system or a bucket failed.

  Raise it where nothing is known to be wrong with the data: no space, no
  permission, no network.
  """


class ContentError(KeyjaxError):
  """Data was read and is refused.

  Raise it for data that is damaged, altered, of an unknown format or version,
  or not signed as expected.
  """


class SealError(_FixedMessageError, ContentError):
  """Sealed data does not open; the cause is deliberately omitted."""

  def __init__(self) -> None:
    """Create the error with its only message."""
    super().__init__(
      "cannot open: the key or the context is wrong, or the data is damaged"
    )


class CapabilityError(KeyjaxError):
  """A capability token is not valid; the message says why."""


class KeyringError(KeyjaxError):
  """A key, an envelope or a keyring cannot be used; the message says why."""


class CannotOpen(_FixedMessageError, KeyringError):
  """No supplied key opens the data; the cause is deliberately omitted.

  A wrong key, a wrong passphrase and a damaged file produce the same message,
  so that trying keys does not reveal how close one of them was. Key files
  raise `WrongPassphrase` instead.
  """

  def __init__(self) -> None:
    """Create the error with its only message."""
    super().__init__(
      "cannot open: no key given opens it, or the data is damaged"
    )


class WrongPassphrase(CannotOpen):
  """The passphrase of a key file is wrong, or the file is damaged.

  Anyone who has the file can try passphrases without KeyJAX, so there is
  nothing to hide.
  """

  def __init__(self, key: str = "this private key"):
    """Create the error.

    Args:
      key: Path of the key file, or a source that is not a file.
    """
    KeyringError.__init__(
      self, f"the passphrase of {key} is wrong, or the file is damaged"
    )


class ReleaseRefused(KeyringError):
  """A release server, which holds the key, refuses to use it."""


class ApprovalNeeded(ReleaseRefused):
  """A release waits for approvals; the message names the request."""


class ReleaseUnavailable(KeyringError, StorageError):
  """A release server cannot be reached, or did not answer; try again."""


class CheckpointError(KeyjaxError, OSError):
  """A checkpoint could not be written, read or trusted.

  Raise one of its two subclasses.
  """


class CheckpointStorageError(CheckpointError, StorageError):
  """A checkpoint could not be written, or its storage could not be reached."""


class CheckpointContentError(CheckpointError, ContentError):
  """A checkpoint was found and is refused, or is not the expected one."""


class CheckpointSignatureError(CheckpointContentError):
  """A checkpoint is not signed, or not with the expected key."""
