"""The folder of a sealed data set: its header, its manifest, its contexts.

    PATH/keyjax-data.json     JSON: envelope, format, manifest, version
    PATH/<16 hex>.manifest    one sealed message: JSON, what the set holds
    PATH/<16 hex>.signature   one sealed message: JSON, who signed that manifest
    PATH/<16 hex>.records     array_record, each record one sealed message
    PATH/<16 hex>.file        one sealed message, any other file
    PATH/<16 hex>.digests     one sealed message, of a signed set: the SHA-256
                              of each message of a .records file

Files are never changed. The header is replaced in one step, and names the
manifest: what it does not lead to is not part of the set.
"""

import json
import os
import pathlib
import re
from collections.abc import Collection
from typing import Any, NamedTuple

from keyjax.data.reading import read_file
from keyjax.data.sizes import Limits
from keyjax.errors import ContentError, KeyringError, SealError
from keyjax.keyring.data_keys import leaf_key
from keyjax.keyring.encoding import dump, field, parse
from keyjax.keyring.encoding import is_name as is_public_name
from keyjax.seal import seal, unseal

FORMAT = "keyjax-data"
VERSION = 1
HEADER = "keyjax-data.json"
RECORDS = ".records"
WHOLE = ".file"
DIGESTS = ".digests"
MANIFEST = ".manifest"
SIGNATURE = ".signature"
MAX_HEADER_BYTES = 1 << 25
MAX_MANIFEST_BYTES = 1 << 28
_MAX_ITEMS = 1 << 24
_MAX_COUNT = 1 << 48
_MAX_NAME = 512
# Entries of a manifest; what surrounds them is short.
LIMITS = Limits(
  "a manifest",
  {
    "digest": "0" * 64,
    "digests": f"{'0' * 16}.digests",
    "name": "",
    "records": 1 << 48,
    "size": 1 << 48,
    "stored": f"{'0' * 16}.records",
  },
  size=MAX_MANIFEST_BYTES - 1024,
  items=_MAX_ITEMS - 64,
)
_STORED = re.compile(r"[0-9a-f]{16}\.(records|file|digests|manifest|signature)")
_ID = re.compile(r"data/[0-9a-f]{32}")


class Entry(NamedTuple):
  """A file of a sealed data set.

  Attributes:
    name: Its name in the folder that was sealed, with `/`.
    stored: Its name in the sealed folder.
    size: Bytes of its content; of records, all together.
    records: Number of its records; None if it is sealed as a whole.
    digests: Name of the stored digests of its messages; empty without.
    digest: SHA-256, hexadecimal, of the digests, or of the message of a file
      that is sealed as a whole; empty if the set is not signed.
  """

  name: str
  stored: str
  size: int
  records: int | None
  digests: str = ""
  digest: str = ""


class Manifest(NamedTuple):
  """What a sealed data set holds.

  Attributes:
    id: Random id of the set, which begins with `data/`.
    name: Name that its owner gave it; empty for none.
    revision: 1 for a new set; each change adds one.
    files: Its files, by name in order.
  """

  id: str
  name: str
  revision: int
  files: tuple[Entry, ...]


class Header(NamedTuple):
  """What anyone can read, and nothing of which is authenticated.

  Attributes:
    envelope: The data key, wrapped for the recipients.
    manifest: Name of the stored manifest.
  """

  envelope: bytes
  manifest: str


def context(what: str, *fields: Any) -> bytes:
  """Return what a message of a set is bound to, unambiguously.

  Example:
    >>> context("file", "data/0", "a")
    b'["keyjax/data/1","file","data/0","a"]'
  """
  parts = ["keyjax/data/1", what, *fields]
  return json.dumps(parts, separators=(",", ":")).encode("ascii")


def record_context(set_id: str, stored: str) -> bytes:
  """Return the start of a record's context; `record_number` follows it."""
  return context("record", set_id, stored)


def record_number(index: int) -> bytes:
  """Return the end of the context of a record: its place in its file."""
  return index.to_bytes(8, "big")


def header_bytes(header: Header) -> bytes:
  """Return a header as canonical JSON."""
  return dump(
    {
      "envelope": header.envelope.decode("ascii"),
      "format": FORMAT,
      "manifest": header.manifest,
      "version": VERSION,
    }
  )


def signature_name(manifest: str) -> str:
  """Return the name of the stored signature of a stored manifest."""
  return manifest.removesuffix(MANIFEST) + SIGNATURE


def stored_names(path: pathlib.Path) -> set[str]:
  """Return the names of all files in a set's folder that look stored."""
  return {x.name for x in path.iterdir() if _STORED.fullmatch(x.name)}


def names_of(manifest: Manifest, stored: str) -> set[str]:
  """Return the names of the stored files that belong to a set.

  Args:
    manifest: What it holds.
    stored: Name of the stored manifest.
  """
  files = {x.stored for x in manifest.files}
  digests = {x.digests for x in manifest.files if x.digests}
  return files | digests | {stored, signature_name(stored)}


def is_sealed(path: str | os.PathLike[str]) -> bool:
  """Return whether a folder is a sealed data set."""
  return (pathlib.Path(path) / HEADER).is_file()


def read_header(path: pathlib.Path) -> Header:
  """Read a header, which anyone may have written.

  Raises:
    FileNotFoundError: If there is no sealed data set at `path`.
    ContentError: If it is not the header of one.
    StorageError: If it cannot be read.
  """
  if not is_sealed(path):
    raise FileNotFoundError(f"there is no sealed data set at {path}")
  data = read_file(path / HEADER, MAX_HEADER_BYTES)
  what = f"{path} is not a sealed data set"
  try:
    found = parse(data, HEADER, size=MAX_HEADER_BYTES, items=1 << 15)
    kind, version = field(found, "format", str), field(found, "version", int)
    if kind == FORMAT and version != VERSION:
      raise ContentError(
        f"{path} is a sealed data set of version {version:.0f}: this release "
        f"of KeyJAX reads version {VERSION}"
      )
    envelope = field(found, "envelope", str).encode("ascii")
    manifest = field(found, "manifest", str)
  except (KeyringError, UnicodeEncodeError, OverflowError) as error:
    raise ContentError(f"{what}: {error}") from None
  header = Header(envelope, manifest)
  if not _is_stored(manifest, MANIFEST) or data != header_bytes(header):
    raise ContentError(f"{what}: its header has other fields")
  return header


def seal_manifest(manifest: Manifest, data_key: bytes, stored: str) -> bytes:
  """Return a manifest as a sealed message.

  Args:
    manifest: What the set holds.
    data_key: Its data key.
    stored: Name of the file that it is for.
  """
  key = leaf_key(data_key, "data-manifest", stored)
  message = context("manifest", manifest.id, stored)
  return seal(key, _manifest_bytes(manifest), message)


def _manifest_bytes(manifest: Manifest) -> bytes:
  files = [
    {k: v for k, v in entry._asdict().items() if v not in ("", None)}
    for entry in manifest.files
  ]
  return dump({**manifest._asdict(), "files": files})


def open_manifest(
  sealed: bytes, data_key: bytes, set_id: str, stored: str
) -> Manifest:
  """Open a manifest; see `seal_manifest`.

  Raises:
    ContentError: If it does not open, or is not a manifest.
  """
  key = leaf_key(data_key, "data-manifest", stored)
  try:
    data = unseal(key, sealed, context("manifest", set_id, stored))
  except SealError:
    raise ContentError(
      "the manifest does not open: it is damaged, or of another data set"
    ) from None
  try:
    found = parse(data, "a manifest", size=MAX_MANIFEST_BYTES, items=_MAX_ITEMS)
    files = tuple(map(_entry, field(found, "files", list)))
    manifest = Manifest(
      id=field(found, "id", str),
      name=field(found, "name", str),
      revision=field(found, "revision", int),
      files=files,
    )
  except KeyringError as error:
    raise ContentError(f"the manifest is refused: {error}") from None
  _check(manifest, set_id)
  if _manifest_bytes(manifest) != data:
    raise ContentError("the manifest is refused: it has other fields")
  return manifest


def _entry(fields: Any) -> Entry:
  """Read a file's entry; any recipient may have written it."""
  if not isinstance(fields, dict):
    raise KeyringError("one of its files is not an object")
  records = field(fields, "records", int) if "records" in fields else None
  optional = {
    name: field(fields, name, str)
    for name in ("digests", "digest")
    if name in fields
  }
  return Entry(
    name=field(fields, "name", str),
    stored=field(fields, "stored", str),
    size=field(fields, "size", int),
    records=records,
    **optional,
  )


def _check(manifest: Manifest, set_id: str) -> None:
  """Refuse a manifest that is malformed, or leads out of its folder."""
  names = [entry.name for entry in manifest.files]
  stored = [entry.stored for entry in manifest.files]
  right = (
    _ID.fullmatch(manifest.id)
    and manifest.id == set_id
    and 1 <= manifest.revision < _MAX_COUNT
    and (manifest.name == "" or is_public_name(manifest.name))
    and 0 < len(names)
    and names == sorted(set(names))
    and not clash(names)
    and len(set(stored)) == len(stored)
    and all(map(_is_right, manifest.files))
  )
  if not right:
    raise ContentError("the manifest is refused: its fields are out of range")


def _is_right(entry: Entry) -> bool:
  if entry.records is None:
    suffix, digests = WHOLE, not entry.digests
  else:  # Signed records have a digest of their digests, others have neither.
    suffix, digests = RECORDS, bool(entry.digests) == bool(entry.digest)
    digests &= not entry.digests or _is_stored(entry.digests, DIGESTS)
  return (
    is_name(entry.name)
    and _is_stored(entry.stored, suffix)
    and digests
    and 0 <= entry.size < _MAX_COUNT
    and 0 <= (entry.records or 0) < _MAX_COUNT
  )


def clash(names: Collection[str]) -> str:
  """Return a name of a file that is that of a folder, too; empty if none is.

  Example:
    >>> clash(["a", "b/c"]), clash(["a", "a/c"])
    ('', 'a')
  """
  folders = {str(x) for name in names for x in pathlib.PurePath(name).parents}
  return min(folders.intersection(names), default="")


def is_name(name: str) -> bool:
  """Return whether this names a file in a folder, with `/`, printably.

  Example:
    >>> is_name("1.0.0/features.json"), is_name("../key"), is_name("/key")
    (True, False, False)
  """
  path = pathlib.PurePosixPath(name)
  inside = not path.is_absolute() and ".." not in path.parts
  short = len(name) <= _MAX_NAME and name.isprintable()
  return bool(path.parts) and inside and str(path) == name and short


def _is_stored(name: str, suffix: str) -> bool:
  return bool(_STORED.fullmatch(name)) and name.endswith(suffix)
