"""Exit codes, and which of them an error gives."""

import contextlib
from collections.abc import Iterator

REFUSED = 1
USAGE = 2
CANNOT_OPEN = 3
FILES = 4
INTERRUPTED = 130

EXIT_CODES = """\
exit codes:
  0  done
  1  data is refused: damaged, changed, not signed as expected, not a checkpoint
  2  the command line is wrong
  3  cannot open: the key is wrong, disabled, revoked or expired
  4  a file or a folder is missing, exists, or cannot be read or written
"""


# How errors begin that are of a disk or a bucket, and not of what lies there.
_OF_FILES = ("could not write", "could not rewrap", "could not reach")


class Failure(Exception):
  """What ends the program: an exit code and one sentence."""

  def __init__(self, code: int, sentence: str):
    """Makes a failure; the sentence holds no key."""
    super().__init__(sentence)
    self.code = code


def classify(error: Exception) -> Failure | None:
  """Returns what an error means to the shell; None for a defect of ours.

  Args:
    error: of the library or of the system.
  """
  # Not at the top: `--help` is there before JAX is.
  from keyjax.checkpoint import CheckpointError
  from keyjax.keyring import KeyringError
  from keyjax.seal import SealError

  text = " ".join(str(error).split())
  if isinstance(error, Failure):
    return error
  if isinstance(error, CheckpointError):
    written = text.startswith(_OF_FILES)
    # What is written anew is read meanwhile, and may turn out to be damaged.
    read = isinstance(error.__context__, CheckpointError)
    return Failure(FILES if written and not read else REFUSED, text)
  if isinstance(error, OSError):
    return Failure(FILES, _system(error) or text)
  if isinstance(error, KeyringError):
    return Failure(CANNOT_OPEN, text)
  if isinstance(error, SealError | ValueError):
    return Failure(REFUSED, text)
  return None


def _system(error: OSError) -> str:
  if error.strerror is None or error.filename is None:
    return ""
  return f"{error.filename}: {error.strerror.lower()}"


@contextlib.contextmanager
def blame(code: int) -> Iterator[None]:
  """Gives errors of key management a code of their own.

  "Cannot open" stays what it is: the one flat sentence and code 3.
  """
  from keyjax.keyring import CannotOpen, KeyringError

  try:
    yield
  except CannotOpen:
    raise
  except KeyringError as error:
    raise Failure(code, " ".join(str(error).split())) from None
