"""Errors of checkpoints in one line, without values of arrays."""

import errno
import re

from keyjax.errors import (
  CheckpointContentError,
  CheckpointError,
  CheckpointSignatureError,
  CheckpointStorageError,
)

__all__ = [
  "CheckpointContentError",
  "CheckpointError",
  "CheckpointSignatureError",
  "CheckpointStorageError",
  "read_error",
  "storage_error",
]

# How TensorStore begins errors that say nothing about the data.
_STORAGE_STATUS = (
  "DEADLINE_EXCEEDED",
  "PERMISSION_DENIED",
  "UNAUTHENTICATED",
  "UNAVAILABLE",
)
# TensorStore appends these to the text of an error, in any order.
_DETAILS = re.compile(r" \[(?:os_error_code|tensorstore_spec)=")
_STORAGE_NUMBERS = (errno.EACCES, errno.EIO, errno.EPERM, errno.ESTALE)


def storage_error(what: str, error: Exception) -> CheckpointStorageError:
  """Return the error of storage that failed."""
  return CheckpointStorageError(_in_one_line(what, error))


def read_error(what: str, error: Exception) -> CheckpointError:
  """Return the error of a read that failed in storage, or of its content."""
  cause = _cause(error)
  unreachable = str(cause).startswith(_STORAGE_STATUS)
  number = getattr(cause, "errno", None)
  if unreachable or number in _STORAGE_NUMBERS:
    return storage_error(what, error)
  return CheckpointContentError(_in_one_line(what, error))


def _cause(error: Exception) -> BaseException:
  # Orbax wraps some errors in a plain Exception with pages of text.
  return (error.__cause__ or error) if type(error) is Exception else error


def _in_one_line(what: str, error: Exception) -> str:
  cause = _cause(error)
  # Its texts may print values of arrays: only the start of the first line.
  text = str(cause).strip()
  if "[os_error_code=" in text:
    reason = _DETAILS.split(text)[0].rpartition(":")[2].strip()
  else:
    reason = text.split("\n")[0][:160]
  return f"{what}: {reason or type(cause).__name__}"
