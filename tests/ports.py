"""Ports for servers of tests."""

import itertools
import os
import socket

# Below the range from which Linux gives ports to outgoing connections, so that
# only another test could take one between this choice and its use.
_FIRST = 10_000
_COUNT = 20_000
_numbers = itertools.count()


def free_port() -> int:
  """Return a port that nothing uses, and that no other process tries next."""
  while True:
    at = (os.getpid() * 101 + next(_numbers)) % _COUNT
    with socket.socket() as tried:
      try:
        tried.bind(("127.0.0.1", _FIRST + at))
      except OSError:
        continue
      return _FIRST + at
