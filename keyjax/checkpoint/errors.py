"""Errors of checkpoints in one line, without values of arrays."""

import re

from keyjax.errors import (
  CheckpointContentError,
  CheckpointError,
  CheckpointStorageError,
)

__all__ = [
  "CheckpointContentError",
  "CheckpointError",
  "CheckpointStorageError",
  "content_error",
  "storage_error",
]


def storage_error(what: str, error: Exception) -> CheckpointStorageError:
  """Return the error of storage that failed."""
  return CheckpointStorageError(_in_one_line(what, error))


def content_error(what: str, error: Exception) -> CheckpointContentError:
  """Return the error of data that is refused."""
  return CheckpointContentError(_in_one_line(what, error))


def _in_one_line(what: str, error: Exception) -> str:
  # Orbax wraps some errors in a plain Exception with pages of text.
  cause = (error.__cause__ or error) if type(error) is Exception else error
  # Its texts may print values of arrays: only the start of the first line.
  text = str(cause).strip()
  system = re.search(r"([^:\[\]]+) \[os_error_code=", text)
  reason = system[1].strip() if system else text.split("\n")[0][:160]
  return f"{what}: {reason or type(cause).__name__}"
