"""Open files of records: few at a time, so that a set may have thousands."""

import collections
import resource
import threading
import weakref
from collections.abc import Callable
from typing import Any, Protocol

_MOST = 4096


class Owner(Protocol):
  """What has a reader: None while it is closed."""

  reader: Any


class OpenFiles:
  """The readers that are open; the oldest ones are closed for new ones.

  A reader that a thread is using is closed once it has read.

  Example:
    >>> opened = OpenFiles(most=1)
    >>> class File:
    ...   reader = None
    >>> first, second = File(), File()
    >>> opened.open(first, lambda: "reader of the first")
    'reader of the first'
    >>> _ = opened.open(second, lambda: "reader of the second")
    >>> first.reader, second.reader
    (None, 'reader of the second')
  """

  def __init__(self, most: int | None = None):
    """Begin without any.

    Args:
      most: Number of readers; by default half of the files that the process
        may have open.
    """
    self._most = most
    self._lock = threading.Lock()
    self._owners: collections.deque[weakref.ref[Owner]] = collections.deque()

  def open(self, owner: Owner, make: Callable[[], Any]) -> Any:
    """Return a new reader, and keep it as `owner.reader`.

    Args:
      owner: Whose reader it is.
      make: Function that opens it; threads may call it at the same time.
    """
    most = self._most or _allowed()
    with self._lock:
      self._close(max(0, len(self._owners) + 1 - most))
    reader = make()
    with self._lock:
      owner.reader = reader
      self._owners.append(weakref.ref(owner))
    return reader

  def close(self) -> bool:
    """Close all readers; return whether there were any."""
    with self._lock:
      return self._close(len(self._owners))

  def _close(self, count: int) -> bool:
    for _ in range(count):
      owner = self._owners.popleft()()
      if owner is not None:
        owner.reader = None
    return count > 0


def _allowed() -> int:
  """Return half of the files that the process may have open."""
  soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
  if soft == resource.RLIM_INFINITY:
    return _MOST
  return max(1, min(_MOST, soft // 2))
