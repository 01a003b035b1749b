"""Checks of arguments, before anything is read or written."""

import numbers
import os
from collections.abc import Iterable, Mapping
from typing import Any

from keyjax import arguments
from keyjax.keyring import Identity, Keyring, Recipient
from keyjax.keyring.encoding import is_name
from keyjax.secrets import Secret


def checked_step(step: Any) -> int:
  """Return a training step as an int.

  Raises:
    ValueError: If it is not a whole number, or is negative.
  """
  whole = isinstance(step, numbers.Integral) and not isinstance(step, bool)
  if not whole or step < 0:
    shown = arguments.show(step)
    raise ValueError(f"step={shown}: a whole number, 0 or more")
  return int(step)


def check_optional_name(name: str, what: str) -> None:
  """Raise a ValueError unless this is a name, or empty for none.

  Args:
    name: 1 to 128 letters, digits and `._:/+@=-`.
    what: What it names, for the error message.
  """
  if name != "" and not is_name(name):
    raise ValueError(
      f"{what}={arguments.show(name)}: 1 to 128 letters, digits or ._:/+@=-, "
      "beginning with a letter or a digit"
    )


def as_recipients(
  recipients: Recipient | Iterable[Recipient],
) -> list[Recipient]:
  """Return one or several recipients as a list.

  Raises:
    TypeError: If one of them is not a recipient.
  """
  return _as_list(
    recipients, method="wrap", kind="a recipient", parser="parse_recipient"
  )


def as_identities(
  identities: Identity | Iterable[Identity],
) -> list[Identity]:
  """Return one or several identities as a list.

  Raises:
    TypeError: If one of them is not an identity.
  """
  return _as_list(
    identities, method="unwrap", kind="an identity", parser="read_key"
  )


def _as_list(values: Any, *, method: str, kind: str, parser: str) -> list[Any]:
  single = isinstance(values, str | bytes | Mapping)
  several = isinstance(values, Iterable) and not single
  found = list(values) if several else [values]
  for one in found:
    if not (hasattr(one, "id") and callable(getattr(one, method, None))):
      name = type(one).__name__
      hint = _hint(one, kind, parser)
      raise TypeError(f"a {name} is not {kind}{hint}")
  return found


def _hint(value: Any, kind: str, parser: str) -> str:
  """Return what to do with something that was given as a key."""
  from keyjax import keys  # Not at the top: it loads JAX.

  if isinstance(value, Secret):
    return ": use keyring.SymmetricKey of it"
  if isinstance(value, str):
    return f": use keyring.{parser} of it"
  if isinstance(value, os.PathLike):
    return f": read the file and use keyring.{parser} of it"
  if isinstance(value, keys.Key):
    return ": the key of a scheme opens no checkpoint; see keyjax.keyring"
  if isinstance(value, Keyring):
    make = "recipient()" if kind == "a recipient" else "identities()"
    return f": give its {make}"
  if kind == "an identity" and hasattr(value, "wrap"):
    return ": it only seals; give the private key that opens"
  return "; see keyjax.keyring"
