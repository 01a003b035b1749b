"""One thread for small matrices.

Threads that wait for each other cost seconds where other programs use the same
cores: 20 s instead of 1 s for ten classes of 150 examples.
"""

import contextlib
from typing import Any

from keyjax.errors import KeyringError
from keyjax.extras import library


def one_thread() -> contextlib.AbstractContextManager[Any]:
  """Return a context in which BLAS and OpenMP use one thread.

  Without threadpoolctl, which scikit-learn brings, it changes nothing.
  """
  try:
    found = library("threadpoolctl", "poisoning")
  except KeyringError:
    return contextlib.nullcontext()
  limits: contextlib.AbstractContextManager[Any] = found.threadpool_limits(1)
  return limits
