"""Libraries that only some users have, imported when they are needed."""

import importlib
from typing import Any

from keyjax.errors import KeyringError


def library(module: str, extra: str) -> Any:
  """Import a library that an extra of this package brings.

  Raises:
    KeyringError: If it is not installed.
  """
  try:
    return importlib.import_module(module)
  except ImportError as error:
    raise KeyringError(
      f"{module} cannot be imported ({error}): pip install 'keyjax[{extra}]'"
    ) from None
