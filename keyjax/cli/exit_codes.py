"""Exit codes, and which of them an error leads to."""

import contextlib
from collections.abc import Iterator

from keyjax.errors import (
  ArgumentError,
  CannotOpen,
  ContentError,
  KeyringError,
  StorageError,
)

REFUSED = 1
USAGE = 2
CANNOT_OPEN = 3
FILES = 4
INTERRUPTED = 130

HELP = """\
exit codes:
  0  success
  1  data is refused: damaged, changed, not signed as expected, not a checkpoint
  2  the command line is wrong
  3  cannot open: the key is wrong, disabled, revoked or expired
  4  a file or a folder is missing, exists, or cannot be read or written
"""


class Failure(Exception):
  """Fatal CLI error: exit code and message."""

  def __init__(self, code: int, message: str):
    """Create the error; the message must not contain a key."""
    super().__init__(message)
    self.code = code


def classify(error: Exception) -> Failure | None:
  """Return the exit code and message of an error.

  Args:
    error: Error of the library or of the operating system.

  Returns:
    The failure; None for a bug in KeyJAX.
  """
  if isinstance(error, Failure):
    return error
  for kind, code in _CODES:
    if isinstance(error, kind):
      return Failure(code, _message(error))
  return None


# The first match counts.
_CODES: tuple[tuple[type[Exception], int], ...] = (
  (ArgumentError, USAGE),
  (StorageError, FILES),
  (ContentError, REFUSED),
  (KeyringError, CANNOT_OPEN),
  (OSError, FILES),
  (ValueError, REFUSED),
)


def _message(error: Exception) -> str:
  if isinstance(error, OSError) and error.strerror:
    if error.filename is not None:  # It may be empty.
      return f"{error.filename}: {error.strerror.lower()}"
  return " ".join(str(error).split())


@contextlib.contextmanager
def keyring_errors_as(code: int) -> Iterator[None]:
  """Give key management errors another exit code.

  `CannotOpen` keeps its deliberately uninformative message and its code, 3.
  """
  try:
    yield
  except CannotOpen:
    raise
  except KeyringError as error:
    raise Failure(code, _message(error)) from None
