"""Modules of a folder, by name: a new entry is one new file."""

import importlib
import pkgutil
import types
from collections.abc import Collection, Iterable


def names(
  path: Iterable[str], without: Collection[str] = ()
) -> tuple[str, ...]:
  """Return the names of a package's modules, in alphabetical order.

  Args:
    path: `__path__` of the package.
    without: Names of modules that others share, and that are no entries.
  """
  files = {module.name for module in pkgutil.iter_modules(path)}
  return tuple(sorted(files - set(without)))


def get(
  package: str, name: str, known: Collection[str], kind: str
) -> types.ModuleType:
  """Return a module of a package.

  Args:
    package: Name of the package.
    name: Name of the module.
    known: Names that are entries.
    kind: Kind of entry, for the error.

  Raises:
    ValueError: If the name is unknown; the message lists the known ones.
  """
  if name not in known:
    raise ValueError(
      f"Unknown {kind} {name!r}: choose from {', '.join(known)}."
    )
  return importlib.import_module(f"{package}.{name}")
