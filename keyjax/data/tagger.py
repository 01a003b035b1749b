"""Tags of records, and the key that makes them.

References:
  H. Krawczyk, M. Bellare and R. Canetti, RFC 2104, "HMAC", 1997.
"""

import hmac
import operator
from typing import BinaryIO

from keyjax.checkpoint.checks import check_optional_name
from keyjax.errors import ArgumentError
from keyjax.keyring.recipients import Private
from keyjax.secrets import Secret, require_secret

_PART = 1 << 20


class Tagger(Private):
  """The key of a set's tags; its repr shows none.

  Example:
    >>> tagger = Tagger(Secret.generate(), "faces")
    >>> tag = tagger.tag(b"pixels", 7, label=b"alice")
    >>> tagger.is_right(tag, b"pixels", 7, label=b"alice")
    True
    >>> tagger.is_right(tag, b"pixels", 7, label=b"bob")
    False
  """

  def __init__(self, secret: Secret, name: str):
    """Derive the key.

    Args:
      secret: Root secret.
      name: Name of the set: letters, digits and `._:/+@=-`. Sets of one secret
        have different names.

    Raises:
      ValueError: If the name is empty, or has other characters.
    """
    require_secret(secret, "Tagger")
    if not name:
      raise ValueError("name='': tags are of a set that has a name")
    check_optional_name(name, "name")
    self.name = self.id = name
    self._key = secret.derive(f"data/tags/{name}", 32)

  def tag(
    self, record: bytes, index: int, *, label: bytes = b"", file: str = ""
  ) -> bytes:
    """Return the tag of a record, 32 bytes.

    Args:
      record: The record.
      index: Its index in its file.
      label: Its label, if the record does not contain it.
      file: Name of its file in the set.

    Raises:
      ArgumentError: If the index is negative.
    """
    start = _place(operator.index(index), label, file)
    return hmac.digest(self._key, start + record, "sha256")

  def is_right(
    self,
    tag: bytes,
    record: bytes,
    index: int,
    *,
    label: bytes = b"",
    file: str = "",
  ) -> bool:
    """Return whether this is the tag of a record, in constant time."""
    expected = self.tag(record, index, label=label, file=file)
    return hmac.compare_digest(expected, tag)

  def is_right_file(self, tag: bytes, opened: BinaryIO, file: str) -> bool:
    """Return whether this is the tag of a whole file, a part at a time.

    Args:
      tag: The tag.
      opened: The file, which is read to its end.
      file: Its name in the set.
    """
    expected = hmac.new(self._key, _place(0, b"", file), "sha256")
    while part := opened.read(_PART):
      expected.update(part)
    return hmac.compare_digest(expected.digest(), tag)


def _place(index: int, label: bytes, file: str) -> bytes:
  """Return what a tag covers beside the record."""
  if index < 0:
    raise ArgumentError(f"index={index}: 0 or more")
  text = file.encode()
  parts = (
    index.to_bytes(8, "big"),
    len(text).to_bytes(8, "big"),
    text,
    len(label).to_bytes(8, "big"),
    label,
  )
  return b"".join(parts)
