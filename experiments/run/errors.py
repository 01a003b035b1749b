"""Exit codes and one-line messages, the same for every command."""

import contextlib
import sys
from collections.abc import Iterator

from experiments.run import preemption
from keyjax.errors import KeyjaxError

_INTERRUPTED = 130  # 128 + SIGINT, as in shells.


@contextlib.contextmanager
def reported() -> Iterator[None]:
  """Turn a user's error or a stop into one line and an exit code.

  Wrong arguments and folders are a ValueError, files an OSError, and keys and
  encrypted data a `KeyjaxError`: exit code 1. Any other exception is a bug and
  keeps its traceback.
  """
  try:
    yield
  except (ValueError, OSError, KeyjaxError) as error:
    sys.exit(f"error: {error}")
  except preemption.Preempted as stop:
    print(stop, file=sys.stderr)
    sys.exit(preemption.EXIT_CODE)
  except KeyboardInterrupt:
    print("stopped; run the same command again to resume", file=sys.stderr)
    sys.exit(_INTERRUPTED)
