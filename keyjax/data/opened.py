"""A sealed data set that was opened: its files, and its records one by one."""

import hashlib
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple, NoReturn, SupportsIndex

from keyjax.arguments import show
from keyjax.checkpoint.checks import as_identities
from keyjax.checkpoint.format import signature as signatures
from keyjax.data import format as layout
from keyjax.data.format import Entry, Manifest
from keyjax.data.reading import read_file
from keyjax.data.record_files import RecordFile
from keyjax.data.records import Records, matching, some
from keyjax.errors import ArgumentError, ContentError, KeyringError, SealError
from keyjax.keyring import Identity, open_envelope
from keyjax.keyring.data_keys import leaf_key
from keyjax.keyring.recipients import Private
from keyjax.regular_files import given_path
from keyjax.seal import size_of_sealed, unseal


class SealedData(Private):
  """An opened set; its repr and its pickle hold no key.

  Attributes:
    path: Folder of the set.
    manifest: What it holds.
    files: Entries of its files, by name.
  """

  def __init__(
    self,
    path: pathlib.Path,
    manifest: Manifest,
    data_key: bytes,
    *,
    check_digests: bool,
  ):
    """Keep what `open_data` has opened."""
    self.path = path
    self.id = str(path)
    self.manifest = manifest
    self.files = {entry.name: entry for entry in manifest.files}
    self._data_key = data_key
    self._check_digests = check_digests

  def names(self) -> list[str]:
    """Return the names of all files, in order."""
    return list(self.files)

  def read(self, name: str) -> bytes:
    """Return the content of a file that is sealed as a whole.

    Raises:
      ArgumentError: If the set has no such file, or it has records.
      ContentError: If it is missing, or does not open.
    """
    entry = self.files.get(name)
    if entry is None or entry.records is not None:
      raise ArgumentError(
        f"{self.path} has no file {show(name)} that is sealed as a whole: it "
        f"has {some(x.name for x in self.manifest.files if x.records is None)}"
      )
    expected = entry.digest if self._check_digests else ""
    return self._open(entry.stored, name, entry.size, expected)

  def records(self, pattern: str = "*") -> Records:
    """Return the records of the files whose names match, in order of names.

    Args:
      pattern: Pattern of the shell, such as `mnist-train.*`.

    Raises:
      ArgumentError: If no file of records matches.
      ContentError: If one is missing, or has another number of records.
      KeyringError: If array_record is not installed.
    """
    has_records = {k: v.records is not None for k, v in self.files.items()}
    found = matching(self.path, has_records, pattern)
    return Records([self.record_file(self.files[x]) for x in found])

  def record_file(self, entry: Entry) -> "SealedRecordFile":
    """Return the records of one file; see `records`."""
    records = RecordFile(self.path / entry.stored)
    if len(records) != entry.records:
      raise ContentError(
        f"{entry.name} has {len(records)} records, and {entry.records} were "
        "sealed: some were removed or added, or the file is damaged"
      )
    return SealedRecordFile(
      records,
      entry,
      leaf_key(self._data_key, "data-record", entry.stored),
      layout.record_context(self.manifest.id, entry.stored),
      self._digests(entry, 32 * len(records)) if self._check_digests else None,
    )

  def _digests(self, entry: Entry, size: int) -> bytes:
    """Return the digests of the messages of a file of records."""
    digests = self._open(entry.digests, entry.name, size)
    digest = hashlib.sha256(digests).hexdigest()
    if len(digests) != size or digest != entry.digest:
      raise ContentError(f"{entry.name} is not what was signed")
    return digests

  def _open(self, stored: str, name: str, size: int, digest: str = "") -> bytes:
    """Open a message.

    Args:
      stored: Name of its file.
      name: Name of what it holds, for errors.
      size: Bytes that it holds.
      digest: SHA-256 of the message that was signed; empty for any.
    """
    sealed = read_file(self.path / stored, size_of_sealed(size))
    if digest and hashlib.sha256(sealed).hexdigest() != digest:
      raise ContentError(f"{name} is not what was signed")
    key = leaf_key(self._data_key, "data-file", stored)
    try:
      context = layout.context("file", self.manifest.id, stored)
      return unseal(key, sealed, context)
    except SealError:
      raise ContentError(
        f"{name} does not open: it was changed, or is of another set"
      ) from None


class SealedRecordFile(Private):
  """The records of one file; it holds a key."""

  def __init__(
    self,
    records: RecordFile,
    entry: Entry,
    key: bytes,
    context: bytes,
    digests: bytes | None,
  ):
    """Keep what `SealedData.record_file` has opened and checked."""
    self.name = self.id = entry.name
    self._records = records
    self._key = key
    self._context = context
    self._digests = digests

  def __len__(self) -> int:
    return len(self._records)

  def read(self, indices: Sequence[int]) -> list[bytes]:
    """Return records.

    Raises:
      ContentError: If one of them does not open; the message has its index.
    """
    sealed = self._records.read_named(indices, self.name)
    return [self._open(i, x) for i, x in zip(indices, sealed, strict=True)]

  def _open(self, index: int, message: bytes) -> bytes:
    if self._digests is not None:
      digest = self._digests[32 * index : 32 * (index + 1)]
      if hashlib.sha256(message).digest() != digest:
        raise ContentError(f"{self._at(index)} is not what was signed")
    number = layout.record_number(index)
    try:
      return unseal(self._key, message, self._context + number)
    except SealError:
      raise ContentError(
        f"{self._at(index)} does not open: it was changed or moved, or is of "
        "another set"
      ) from None

  def _at(self, index: int) -> str:
    return f"record {index} of {self.name}"


def open_data(
  path: str | os.PathLike[str],
  identities: Identity | Iterable[Identity],
  *,
  name: str | None = None,
  verify_key: signatures.VerifyKey | None = None,
) -> SealedData:
  """Open a sealed data set; no record is read yet.

  Args:
    path: Folder of the set, on a disk.
    identities: Keys to try.
    name: Expected name of the set; None for any.
    verify_key: Public key whose signature is required; None to require none.
      Then every record is compared with what was signed: without, another
      recipient may have sealed other records.

  Raises:
    FileNotFoundError: If there is no sealed data set at `path`.
    KeyringError: If no identity opens it.
    ContentError: If it is damaged, of another name, or not signed with this
      key.
    StorageError: If it cannot be read.
  """
  found = open_set(
    given_path(path),
    as_identities(identities),
    name=name,
    verify_key=verify_key,
  )
  return SealedData(
    pathlib.Path(path),
    found.manifest,
    found.data_key,
    check_digests=verify_key is not None,
  )


class OpenedSet(NamedTuple):
  """What opening a set yields; its repr shows no key.

  Attributes:
    header: Header of the set.
    manifest: What it holds.
    data_key: Its data key.
  """

  header: layout.Header
  manifest: Manifest
  data_key: bytes

  def __repr__(self) -> str:
    return f"<OpenedSet {self.manifest.id}>"

  def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
    raise TypeError("an OpenedSet is not pickled or copied")


def open_set(
  folder: pathlib.Path,
  identities: list[Identity],
  *,
  name: str | None = None,
  verify_key: signatures.VerifyKey | None = None,
) -> OpenedSet:
  """Open the envelope and the manifest of a set; see `open_data`."""
  if not identities:
    raise KeyringError(f"no identity was given: give a key that opens {folder}")
  header = layout.read_header(folder)
  while True:
    try:
      return _open_header(folder, header, identities, name, verify_key)
    except ContentError:
      newer = layout.read_header(folder)
      if newer == header:
        raise
      header = newer  # Another process has replaced it, and its manifest.


def _open_header(
  folder: pathlib.Path,
  header: layout.Header,
  identities: list[Identity],
  name: str | None,
  verify_key: signatures.VerifyKey | None,
) -> OpenedSet:
  opened = open_envelope(header.envelope, identities)
  most = size_of_sealed(layout.MAX_MANIFEST_BYTES)
  sealed = read_file(folder / header.manifest, most)
  manifest = layout.open_manifest(
    sealed, opened.data_key, opened.checkpoint, header.manifest
  )
  if name is not None and manifest.name != name:
    raise ContentError(
      f"{folder} is of the set {show(manifest.name)}, not of {show(name)}"
    )
  found = OpenedSet(header, manifest, opened.data_key)
  if verify_key is not None:
    _check_signature(folder, found, sealed, verify_key)
  return found


def _check_signature(
  folder: pathlib.Path,
  found: OpenedSet,
  sealed: bytes,
  verify_key: signatures.VerifyKey,
) -> None:
  name = layout.signature_name(found.header.manifest)
  signatures.verify_signature(
    verify_key,
    found.data_key,
    found.manifest.id,
    manifest=sealed,
    sealed=read_file(folder / name, signatures.SEALED_SIZE),
    what="data set",
  )
  if not all(x.digest for x in found.manifest.files):
    raise ContentError("the manifest is signed and has no digests")
