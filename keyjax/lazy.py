"""Packages whose names are imported when they are first used.

JAX takes a second to load and Orbax another; the command line and the keyring
need neither for most of what they do.
"""

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def attach(
  package: str, homes: Mapping[str, Iterable[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
  """Return the `__getattr__` and `__dir__` of a package.

  Args:
    package: Its `__name__`. A name in its `__all__` that has no home is a
      module of the package.
    homes: Names by the module that defines them. No module has the name of
      what it defines: importing it would hide that.

  Example:
    >>> get, _ = attach("keyjax", {"secrets": ["Secret"]})
    >>> get("Secret").__name__
    'Secret'
  """
  home_of = {name: home for home, names in homes.items() for name in names}

  def __getattr__(name: str) -> Any:
    module = sys.modules[package]
    if name not in module.__all__:
      raise AttributeError(f"module {package!r} has no attribute {name!r}")
    found = importlib.import_module(f"{package}.{home_of.get(name, name)}")
    value = getattr(found, name) if name in home_of else found
    setattr(module, name, value)
    return value

  def __dir__() -> list[str]:
    module = sys.modules[package]
    return sorted({*vars(module), *module.__all__})

  return __getattr__, __dir__
