"""Canonical JSON, base64 and names: what envelopes are written in.

Everything here reads data of strangers: sizes are checked before anything is
parsed, and only the one canonical spelling of a document is accepted, so that
two parsers cannot read two things into the same bytes.
"""

import base64
import binascii
import hashlib
import json
import re
from typing import Any, NoReturn

from keyjax.errors import KeyringError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+@=-]{0,127}")


def dump(document: Any) -> bytes:
  """Returns canonical JSON: sorted keys, no spaces, ASCII, no NaN."""
  try:
    text = json.dumps(
      document, sort_keys=True, separators=(",", ":"), allow_nan=False
    )
  except (TypeError, ValueError, RecursionError):
    raise KeyringError(
      "this does not fit into JSON: use strings, numbers, lists and dicts"
    ) from None
  return text.encode("ascii")


def parse(data: bytes, what: str, *, size: int, items: int) -> dict[str, Any]:
  """Reads a canonical JSON object.

  Args:
    data: what `dump` wrote, or anything else.
    what: what it should be, for the errors.
    size: the most bytes it may have.
    items: the most brackets and commas it may have: Python needs some 70
      bytes for what takes 3 in a file.

  Raises:
    KeyringError: it is too large, not JSON, not canonical or not an object.
  """
  if len(data) > size:
    raise KeyringError(f"{what} of {len(data)} bytes: at most {size} are read")
  if sum(data.count(mark) for mark in (b"[", b"{", b",")) > items:
    raise KeyringError(f"{what} has too many parts")
  try:
    document = json.loads(data, parse_constant=_refuse)
    canonical = isinstance(document, dict) and dump(document) == data
  except (ValueError, RecursionError):
    raise KeyringError(f"{what} is not JSON") from None
  if not canonical:
    raise KeyringError(f"{what} is not a JSON object in its canonical form")
  return document


def _refuse(constant: str) -> NoReturn:
  raise ValueError(f"{constant} is not JSON")


def encode(data: bytes) -> str:
  """Returns base64."""
  return base64.b64encode(data).decode("ascii")


def decode(text: str) -> bytes:
  """Reads base64 in its one canonical spelling.

  Raises:
    KeyringError: it is not base64.
  """
  try:
    data = base64.b64decode(text, validate=True)
  except (binascii.Error, ValueError):
    raise KeyringError("a field is not base64") from None
  if encode(data) != text:
    raise KeyringError("a field is not base64 in its canonical form")
  return data


def field(
  fields: dict[str, Any], name: str, kind: type, size: int | None = None
) -> Any:
  """Returns a field after its type was checked; bytes are decoded.

  Args:
    fields: a parsed object.
    name: which field.
    kind: `str`, `int`, `list` or `dict`; `bytes` stands for base64.
    size: how many bytes it must have, if that is fixed.

  Raises:
    KeyringError: it is missing, or of another type or size.
  """
  value = fields.get(name)
  right = type(value) is (str if kind is bytes else kind)
  if value is None or not right:
    raise KeyringError(f"the field {name!r} is missing or of another type")
  if kind is not bytes:
    return value
  data = decode(value)
  if size is not None and len(data) != size:
    raise KeyringError(f"the field {name!r} has {len(data)} bytes, not {size}")
  return data


def check_name(text: str, what: str) -> str:
  """Returns a public name unchanged.

  Raises:
    KeyringError: it is not 1 to 128 letters, digits and `._:/+@=-`, so that
      it could not be printed or put into a path without care.
  """
  if not isinstance(text, str) or not _NAME.fullmatch(text):
    raise KeyringError(
      f"{what}: a name has 1 to 128 letters, digits or ._:/+@=- and begins "
      "with a letter or a digit"
    )
  return text


def fingerprint(data: bytes) -> str:
  """Returns 128 bits of SHA-256, for the public name of public bytes."""
  digest = hashlib.sha256(data).hexdigest()[:32]
  return "-".join(digest[i : i + 4] for i in range(0, 32, 4))
