"""The first line of a file of tags: what the tags are of, and who signed them.

It is checked before any tag is read.
"""

from typing import Any

from cryptography.exceptions import InvalidSignature

from keyjax.data.format import is_name
from keyjax.data.sizes import Limits
from keyjax.errors import ContentError, KeyringError
from keyjax.keyring import VerifyKey
from keyjax.keyring.encoding import check_name, decode, dump, field, parse
from keyjax.keyring.signing import signature_kind

FORMAT = "keyjax-tags"
VERSION = 1
MAX_HEADER = 1 << 24
MAX_TAGS = 1 << 27  # 4 GiB, which are in memory.
_MAX_ITEMS = 1 << 20
# Of files; the other fields are short.
LIMITS = Limits(
  "a file of tags",
  ["", 1 << 48],
  size=MAX_HEADER - (1 << 14),
  items=_MAX_ITEMS - 64,
)


def signed_bytes(document: dict[str, Any]) -> bytes:
  """Return what the signature of a header covers.

  Args:
    document: Its fields without the signature.
  """
  return b"keyjax/data/tags/1\n" + dump(document)


def parse_header(
  path: Any, head: bytes
) -> tuple[dict[str, Any], bytes, dict[str, int]]:
  """Read the first line of a file of tags, which anyone may have written.

  Args:
    path: The file, for errors.
    head: The line, and its end unless it is longer than a header may be.

  Returns:
    The fields without the signature; the signature; and the number of records
    of each file.

  Raises:
    ContentError: If it is not a header, or there are too many tags.
  """
  try:
    if not head.endswith(b"\n"):
      raise KeyringError(f"its header does not end within {MAX_HEADER} bytes")
    document = parse(head[:-1], "a header", size=MAX_HEADER, items=_MAX_ITEMS)
    signature = decode(field(document, "signature", str))
    del document["signature"]
    pairs = list(map(_pair, document.get("files") or []))
    check_name(field(document, "name", str), "its name")
    field(document, "algorithm", str)
  except (KeyringError, TypeError, ValueError) as error:
    raise ContentError(f"{path} is no file of tags: {error}") from None
  files = dict(pairs)
  if sum(files.values()) > MAX_TAGS:
    raise ContentError(f"{path} has more than {MAX_TAGS} tags")
  return document, signature, files


def _pair(fields: Any) -> tuple[str, int]:
  name, count = fields
  if type(name) is not str or type(count) is not int:
    raise KeyringError("its files are of another type")
  if name and not is_name(name):
    raise KeyringError("its files are not named by paths in a folder")
  if not 0 <= count < 1 << 48:
    raise KeyringError("its files have impossible numbers of records")
  return name, count


def check_signature(
  path: Any, document: dict[str, Any], signature: bytes, verify_key: VerifyKey
) -> None:
  """Raise a ContentError unless a header was signed with a key.

  Args:
    path: The file, for errors.
    document: Fields without the signature.
    signature: The signature.
    verify_key: The key.
  """
  kind = signature_kind(verify_key)
  if document["algorithm"] == "none":
    raise ContentError(f"{path} is not signed")
  try:
    if document["algorithm"] != kind:
      raise InvalidSignature
    verify_key.verify(signature, signed_bytes(document))
  except InvalidSignature:
    raise ContentError(f"{path} was not signed with the expected key") from None
