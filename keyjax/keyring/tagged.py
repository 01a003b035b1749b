"""One line of text for public bytes: `keyjax-KIND:BASE64` with a checksum."""

import hashlib
import re
from collections.abc import Collection

from keyjax.errors import KeyringError
from keyjax.keyring.encoding import decode, encode

_PREFIX = "keyjax-"
CHECK = 4
_MAX_TEXT = 8192
_COMMENT = re.compile(r"^#.*$", re.MULTILINE)


def write_tagged(kind: str, data: bytes) -> str:
  """Returns the line.

  Example:
    >>> read_tagged(write_tagged("x25519", bytes(32)), ["x25519"], "a key")[0]
    'x25519'
  """
  return f"{_PREFIX}{kind}:{encode(data + checksum(_PREFIX + kind, data))}"


def read_tagged(
  text: str, kinds: Collection[str], what: str
) -> tuple[str, bytes]:
  """Reads a line.

  Args:
    text: what `write_tagged` returned, or anything else; lines that begin
      with `#` are skipped, as `keyjax keygen` writes one.
    kinds: those that are known.
    what: what it should be, for the errors.

  Returns:
    The kind and the bytes.

  Raises:
    KeyringError: it is not one, of an unknown kind, or misread.
  """
  head, colon, body = _COMMENT.sub("", text).strip().partition(":")
  kind = head.removeprefix(_PREFIX)
  if not head.startswith(_PREFIX) or not colon or kind not in kinds:
    raise KeyringError(
      f"{what} looks like keyjax-{next(iter(kinds))}:...; the kinds are "
      f"{', '.join(kinds)}"
    )
  if len(body) > _MAX_TEXT:
    raise KeyringError(f"{what} has at most {_MAX_TEXT} characters")
  data = decode(body)
  key, check = data[:-CHECK], data[-CHECK:]
  if check != checksum(head, key):
    raise KeyringError(f"{what} of kind {kind} is cut or misread")
  return kind, key


def checksum(head: str, data: bytes) -> bytes:
  """Returns four bytes over what stands before the colon, and the data."""
  return hashlib.sha256(f"{head}:".encode() + data).digest()[:CHECK]
