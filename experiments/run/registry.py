"""Entries by name, each registered by the module that defines it."""

import contextlib
import importlib
import pkgutil
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Registry(Generic[T]):
  """Entries by name.

  Every module of a package registers what it defines when it is imported, and
  the registry imports them all: a new entry is one new file.

  Attributes:
    entries: What has been registered, by name.
  """

  def __init__(self, kind: str, package: str) -> None:
    """Create an empty registry.

    Args:
      kind: Kind of entry, for error messages.
      package: Package whose modules register it.
    """
    self.entries: dict[str, T] = {}
    self._kind = kind
    self._package = package

  def add(self, name: str, entry: T) -> None:
    """Register an entry.

    Raises:
      ValueError: If the name is taken.
    """
    if name in self.entries:
      raise ValueError(f"A {self._kind} {name!r} is registered already.")
    self.entries[name] = entry

  @contextlib.contextmanager
  def temporary(self) -> Iterator[None]:
    """Forget the entries that are added in the block when it ends."""
    self.names()
    before = dict(self.entries)
    try:
      yield
    finally:
      self.entries = before

  def names(self) -> tuple[str, ...]:
    """Return all names, in alphabetical order."""
    package = importlib.import_module(self._package)
    for module in pkgutil.iter_modules(package.__path__, f"{self._package}."):
      importlib.import_module(module.name)
    return tuple(sorted(self.entries))

  def get(self, name: str) -> T:
    """Return an entry.

    Raises:
      ValueError: If the name is unknown; the message lists the known ones.
    """
    names = self.names()
    if name not in names:
      raise ValueError(
        f"Unknown {self._kind} {name!r}: choose from {', '.join(names)}."
      )
    return self.entries[name]
