"""Tags of records: who made each record, and where in the set it belongs.

A tag is the HMAC-SHA-256 of a record with its index, its label, and the names
of its file and its set. Tags are stored beside the set, which stays as it is.
A signature covers the root of the Merkle tree (RFC 6962) over all tags.

    line 1   canonical JSON: format, version, name, files (names and numbers of
             records, in order), root, algorithm, signature
    then     32 bytes for each record of the first file, of the second, ...

References:
  H. Krawczyk, M. Bellare and R. Canetti, RFC 2104, "HMAC", 1997.
  B. Laurie, A. Langley and E. Kasper, RFC 6962, "Certificate Transparency",
  2013, section 2.1.
"""

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keyjax import private_files
from keyjax.arguments import describe, show
from keyjax.data.tag_headers import (
  FORMAT,
  LIMITS,
  MAX_HEADER,
  MAX_TAGS,
  VERSION,
  check_signature,
  parse_header,
  signed_bytes,
)
from keyjax.errors import ArgumentError, ContentError
from keyjax.keyring import SigningKey, VerifyKey
from keyjax.keyring.encoding import dump, encode
from keyjax.keyring.signing import signature_kind
from keyjax.merkle import Tree
from keyjax.regular_files import open_file

TAG_BYTES = 32


class RecordTags:
  """The tags of a set, in memory.

  Attributes:
    name: Name of the set.
    files: Number of records of each file, in the order in which they were
      added.
    signed: Whether the file that they were read from has a signature.
  """

  def __init__(
    self, name: str, files: dict[str, int] | None = None, tags: bytes = b""
  ):
    """Keep tags; without them, those of an empty set.

    Raises:
      ValueError: If their number is not that of the files' records.
    """
    self.name = name
    self.files = dict(files or {})
    if len(tags) != TAG_BYTES * sum(self.files.values()):
      raise ValueError(
        f"{len(tags)} bytes of tags for {sum(self.files.values())} records"
      )
    self.signed = False
    self._tags = bytes(tags)
    ends = itertools.accumulate(self.files.values())
    self._ends = dict(zip(self.files, ends, strict=True))

  def __len__(self) -> int:
    return len(self._tags) // TAG_BYTES

  def __repr__(self) -> str:
    return f"<RecordTags of {len(self)} records of {self.name}>"

  def of(self, file: str = "") -> Sequence[bytes]:
    """Return the tags of a file.

    Raises:
      ArgumentError: If the set has no such file.
    """
    if file not in self.files:
      raise ArgumentError(f"there are no tags of the file {show(file)}")
    end = self._ends[file]
    return [
      self._tags[TAG_BYTES * i : TAG_BYTES * (i + 1)]
      for i in range(end - self.files[file], end)
    ]

  def extended(self, tags: Iterable[bytes], file: str = "") -> "RecordTags":
    """Return tags with those of more records; the others stay the same.

    Args:
      tags: Tags of the new records, whose indices continue those of `file`.
      file: A new file, or the one that was added last.

    Raises:
      ArgumentError: If other files were added after this one.
    """
    if file in self.files and file != list(self.files)[-1]:
      raise ArgumentError(
        f"other files were added after {show(file)}: add a new file"
      )
    new = b"".join(tags)
    count = self.files.get(file, 0) + len(new) // TAG_BYTES
    return RecordTags(self.name, self.files | {file: count}, self._tags + new)

  def with_files(self, tags: Mapping[str, Sequence[bytes]]) -> "RecordTags":
    """Return tags with those of new files; the others stay the same.

    Args:
      tags: Tags of the records of each new file, by its name.

    Raises:
      ArgumentError: If there are tags of a file already.
    """
    known = [name for name in tags if name in self.files]
    if known:
      raise ArgumentError(
        f"there are tags of the file {show(known[0])} already"
      )
    counts = {name: len(found) for name, found in tags.items()}
    new = b"".join(itertools.chain.from_iterable(tags.values()))
    return RecordTags(self.name, self.files | counts, self._tags + new)

  def root(self, size: int | None = None) -> bytes:
    """Return the root of the Merkle tree over the first tags, 32 bytes.

    A signed root of fewer records can be compared with the root of as many:
    it proves that nothing of them has changed since.

    Args:
      size: Number of tags; all by default.

    Raises:
      ValueError: If there are fewer.
    """
    size = len(self) if size is None else size
    if not 0 <= size <= len(self):
      raise ValueError(f"size={size}: there are {len(self)} tags")
    tree = Tree()
    for i in range(size):
      tree.append(self._tags[i * TAG_BYTES : (i + 1) * TAG_BYTES])
    return tree.root()

  def write(
    self, path: str | os.PathLike[str], signer: SigningKey | None = None
  ) -> None:
    """Write or replace a file of tags, completely or not at all.

    See `changing_tags` where other processes may extend the same file.

    Args:
      path: File.
      signer: Key that signs the root and the names of the files.

    Raises:
      TypeError: If the signer is no `keyring.SigningKey`.
      ArgumentError: If there are more than 2^27 tags, or more files than a
        header can name.
      OSError: If it cannot be written; the old one is still there then. If only
        the last step fails, which waits until the new name is on the disk, it
        is the new one.
    """
    LIMITS.check(self.files)
    if len(self) > MAX_TAGS:
      raise ArgumentError(f"{len(self)} tags: a file has at most {MAX_TAGS}")
    if not isinstance(signer, SigningKey | None):
      raise TypeError(
        f"signer={describe(signer)}: tags are signed with a keyring.SigningKey"
      )
    document = self._document(
      "none" if signer is None else signature_kind(signer.public)
    )
    signature = b""
    if signer is not None:
      signature = signer.private.sign(signed_bytes(document))
    document["signature"] = encode(signature)
    with private_files.replacing(path, mode=0o666) as file:
      file.write(dump(document) + b"\n" + self._tags)

  def _document(self, algorithm: str) -> dict[str, Any]:
    return {
      "algorithm": algorithm,
      "files": [[name, count] for name, count in self.files.items()],
      "format": FORMAT,
      "name": self.name,
      "root": encode(self.root()),
      "version": VERSION,
    }

  @classmethod
  def read(
    cls, path: str | os.PathLike[str], verify_key: VerifyKey | None = None
  ) -> "RecordTags":
    """Read a file of tags.

    Args:
      path: File.
      verify_key: Public key whose signature is required; None to require none.

    Raises:
      FileNotFoundError: If there is none.
      ContentError: If it is not one, was changed, or is not signed with this
        key; tags are read only once their number is that of the header.
    """
    with open_file(path) as (file, size):
      head = file.readline(MAX_HEADER + 1)
      document, signature, files = parse_header(path, head)
      if verify_key is not None:
        check_signature(path, document, signature, verify_key)
      count = sum(files.values())
      if size - len(head) != TAG_BYTES * count:
        raise ContentError(
          f"{path} is no file of tags: it has {size} bytes, and its header "
          f"says {count} records"
        )
      tags = file.read(TAG_BYTES * count)
    try:
      found = cls(document["name"], files, tags)
      right = dump(found._document(document["algorithm"]))
    except ValueError as error:  # It was cut meanwhile.
      raise ContentError(f"{path} is no file of tags: {error}") from None
    if right != dump(document):  # In JSON 1 is not 1.0.
      raise ContentError(
        f"{path} was changed: its root is not that of its tags"
      )
    found.signed = document["algorithm"] != "none"
    return found
