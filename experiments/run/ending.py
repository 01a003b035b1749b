"""How every command ends when a user errs, or stops it: with one line."""

import contextlib
import sys
from collections.abc import Iterator

from experiments.run import preemption
from keyjax import keyring

_INTERRUPTED = 130  # As shells say of SIGINT.


@contextlib.contextmanager
def one_line() -> Iterator[None]:
  """Ends the program with one line when a user errs, or stops it."""
  try:
    yield
  except (ValueError, OSError, keyring.KeyringError) as error:
    sys.exit(f"error: {error}")
  except preemption.Preempted as stop:
    print(stop, file=sys.stderr)
    sys.exit(preemption.EXIT_STATUS)
  except KeyboardInterrupt:
    print("stopped; run the same command again to go on", file=sys.stderr)
    sys.exit(_INTERRUPTED)
