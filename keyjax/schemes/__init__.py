"""Schemes for key-based protection, one file each.

A scheme's file holds all that is its own: the factory, the key class with its
operations, and a call of `keyjax.schemes.registry.register`, which makes it
known to configs, attacks, cards and reports.
"""

import functools
import importlib
import pkgutil


@functools.cache
def load() -> None:
  """Import every module of this package, so that its schemes register."""
  for module in pkgutil.walk_packages(__path__, f"{__name__}."):
    importlib.import_module(module.name)
