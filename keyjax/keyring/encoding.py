"""Canonical JSON, base64, names and lines of text.

Everything here reads untrusted data: sizes are checked before anything is
parsed, and only the one canonical form of a document is accepted, so that two
parsers cannot read different contents from the same bytes.
"""

import base64
import binascii
import contextlib
import hashlib
import json
import re
from collections.abc import Collection
from typing import Any, NoReturn

from keyjax.arguments import describe
from keyjax.errors import KeyringError

PUBLIC_PREFIX = "keyjax-"
CHECKSUM_BYTES = 4
_MAX_LINE = 8192
_COMMENT = re.compile(r"^#.*$", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+@=-]{0,127}")


def dump(document: Any) -> bytes:
  """Return canonical JSON: sorted keys, no spaces, ASCII, no NaN."""
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
  """Read a canonical JSON object.

  Args:
    data: Untrusted bytes.
    what: Expected kind of document, for error messages.
    size: Maximum number of bytes.
    items: Maximum number of brackets and commas. Python needs about 70 bytes
      for an item that takes 3 in a file.

  Raises:
    KeyringError: If it is too large, not JSON, not canonical or not an object.
  """
  if len(data) > size:
    raise KeyringError(f"{what} of {len(data)} bytes: at most {size} are read")
  if sum(data.count(mark) for mark in (b"[", b"{", b",")) > items:
    raise KeyringError(f"{what} has too many parts")
  document: Any = None
  canonical: bool | None = None
  with contextlib.suppress(ValueError, RecursionError):
    document = json.loads(data, parse_constant=_refuse)
    canonical = isinstance(document, dict) and dump(document) == data
  if canonical is None:  # Not in `except`: JSON's errors contain the document.
    raise KeyringError(f"{what} is not JSON")
  if not canonical:
    raise KeyringError(f"{what} is not a JSON object in its canonical form")
  return document


def _refuse(constant: str) -> NoReturn:
  raise ValueError(f"{constant} is not JSON")


def encode_secret(text: str, what: str) -> bytes:
  """Return secret text as UTF-8; a `UnicodeEncodeError` would contain it.

  Args:
    text: Passphrase, or a key as text.
    what: Name of it, for the error.

  Raises:
    KeyringError: If it has half of a surrogate pair, which is how Python reads
      bytes that are not UTF-8.
  """
  data = text.encode("utf-8", "surrogatepass")
  decode_secret(data, what)
  return data


def decode_secret(data: bytes | bytearray, what: str) -> str:
  """Return UTF-8 as secret text; a `UnicodeDecodeError` would contain it.

  Raises:
    KeyringError: If it is not UTF-8.
  """
  text = data.decode("utf-8", "surrogateescape")
  if any("\ud800" <= c <= "\udfff" for c in text):
    raise KeyringError(f"the {what} is not UTF-8 text")
  return text


def encode(data: bytes) -> str:
  """Return base64."""
  return base64.b64encode(data).decode("ascii")


def decode(text: str) -> bytes:
  """Read base64 in its canonical form.

  Raises:
    KeyringError: If it is not canonical base64.
  """
  data: bytes | None = None
  if text.isascii():  # A UnicodeEncodeError would contain the text.
    with contextlib.suppress(binascii.Error):
      data = base64.b64decode(text, validate=True)
  if data is None:
    raise KeyringError("a field is not base64")
  if encode(data) != text:
    raise KeyringError("a field is not base64 in its canonical form")
  return data


def field(
  fields: dict[str, Any], name: str, kind: type, size: int | None = None
) -> Any:
  """Return a field after checking its type; bytes are decoded.

  Args:
    fields: Parsed object.
    name: Name of the field.
    kind: `str`, `int`, `list` or `dict`; `bytes` for a base64 string.
    size: Number of bytes that it must have, if that is fixed.

  Raises:
    KeyringError: If it is missing, or of another type or size.
  """
  value = fields.get(name) if isinstance(fields, dict) else None
  right = type(value) is (str if kind is bytes else kind)
  if value is None or not right:
    raise KeyringError(f"the field {name!r} is missing or of another type")
  if kind is not bytes:
    return value
  data = decode(value)
  if size is not None and len(data) != size:
    raise KeyringError(f"the field {name!r} has {len(data)} bytes, not {size}")
  return data


def is_name(text: object) -> bool:
  """Return whether this is a name as `check_name` requires."""
  return isinstance(text, str) and bool(_NAME.fullmatch(text))


def check_name(text: str, what: str) -> str:
  """Return a public name unchanged.

  Raises:
    KeyringError: If it is not 1 to 128 letters, digits and `._:/+@=-`. Such
      names can be printed, and used in paths, without further care.
  """
  if not is_name(text):
    raise KeyringError(
      f"{what}: a name has 1 to 128 letters, digits or ._:/+@=- and begins "
      "with a letter or a digit"
    )
  return text


def fingerprint(data: bytes) -> str:
  """Return 128 bits of SHA-256, as a public name of public bytes."""
  digest = hashlib.sha256(data).hexdigest()[:32]
  return "-".join(digest[i : i + 4] for i in range(0, 32, 4))


def format_line(kind: str, data: bytes) -> str:
  """Return public bytes as a line, `keyjax-KIND:BASE64`, with a checksum.

  Example:
    >>> parse_line(format_line("x25519", bytes(32)), ["x25519"], "a key")[0]
    'x25519'
  """
  head = PUBLIC_PREFIX + kind
  return f"{head}:{encode(data + checksum(head, data))}"


def parse_line(
  text: str, kinds: Collection[str], what: str
) -> tuple[str, bytes]:
  """Read a line of public bytes.

  Args:
    text: Untrusted text. Lines that begin with `#` are skipped, because
      `keyjax keygen` writes one.
    kinds: Known kinds.
    what: Expected kind of text, for error messages.

  Returns:
    The kind and the bytes.

  Raises:
    KeyringError: If it is not such a line, of an unknown kind, or misread.
  """
  if not isinstance(text, str):
    raise TypeError(f"{what} is read from text, got {describe(text)}")
  text = text.removeprefix("\ufeff")  # Editors of Windows write this mark.
  head, colon, body = _COMMENT.sub("", text).strip().partition(":")
  kind = head.removeprefix(PUBLIC_PREFIX)
  if not head.startswith(PUBLIC_PREFIX) or not colon or kind not in kinds:
    raise KeyringError(
      f"{what} looks like {PUBLIC_PREFIX}{next(iter(kinds))}:...; the kinds "
      f"are {', '.join(kinds)}"
    )
  if len(body) > _MAX_LINE:
    raise KeyringError(f"{what} has at most {_MAX_LINE} characters")
  return kind, split_checksum(head, decode(body), f"{what} of kind {kind}")


def checksum(head: str, data: bytes) -> bytes:
  """Return four bytes over the text before the colon, and the data."""
  return hashlib.sha256(f"{head}:".encode() + data).digest()[:CHECKSUM_BYTES]


def split_checksum(head: str, data: bytes, what: str) -> bytes:
  """Return data without the checksum at its end.

  Args:
    head: Text before the colon.
    data: Bytes, and their checksum.
    what: Expected kind of text, for the error message.

  Raises:
    KeyringError: If the checksum is wrong.
  """
  body, found = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
  if found != checksum(head, body):
    raise KeyringError(f"{what} is cut or misread")
  return body
