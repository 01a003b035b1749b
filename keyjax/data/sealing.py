"""Sealing a folder, file by file and record by record."""

import hashlib
import os
import pathlib
from collections.abc import Iterable

from keyjax import private_files
from keyjax.checkpoint.checks import as_recipients, check_optional_name
from keyjax.checkpoint.format import signature as signatures
from keyjax.data import format as layout
from keyjax.data.folders import changing_folder, new_folder, write_file
from keyjax.data.format import Entry, Header, Manifest
from keyjax.data.reading import read_file
from keyjax.data.record_files import RecordFile, RecordWriter, is_record_file
from keyjax.data.records import list_files
from keyjax.errors import ArgumentError
from keyjax.keyring import Recipient, seal_envelope
from keyjax.keyring.data_keys import leaf_key, new_data_key
from keyjax.keyring.entries import now
from keyjax.regular_files import given_path
from keyjax.seal import seal


def seal_data(
  source: str | os.PathLike[str],
  path: str | os.PathLike[str],
  recipients: Recipient | Iterable[Recipient],
  *,
  name: str = "",
  signer: signatures.Signer | None = None,
  replace: bool = False,
) -> int:
  """Seal a data set, which is left as it is, unencrypted.

  The records of array_record files are sealed one by one, so that each can be
  read alone; all other files, such as those that describe the set, as a whole.
  Nothing plain is written. A kill at any moment leaves no set at `path`, or the
  one that is replaced.

  Args:
    source: Folder, for instance of a version of a data set of TFDS; or a file.
    path: New folder.
    recipients: Recipients; each can open it alone.
    name: Name of the set: letters, digits and `._:/+@=-`; sealed.
    signer: Ed25519 or ML-DSA-65 private key of `cryptography`. The signature
      covers every record.
    replace: Whether a sealed set at `path` is replaced, in one step. Readers
      that have opened it cannot go on. To revoke a recipient, seal the set
      again without them; they may have kept what they could read.

  Returns:
    The number of records, and of files that are sealed as a whole.

  Raises:
    FileNotFoundError: If there is nothing at `source`.
    FileExistsError: If something is at `path`; with `replace`, something else
      than a sealed data set.
    ArgumentError: If there is no file in `source`, or one that is neither a
      file nor a folder, or there are more than a manifest can name, or `path`
      is inside it.
    KeyringError: If a recipient cannot be used, or array_record is not
      installed.
    ContentError: If a file of records is damaged.
    StorageError: If the set cannot be written.

  Example:
    >>> import pathlib, tempfile
    >>> from keyjax import Secret
    >>> from keyjax.data import open_data
    >>> from keyjax.keyring import SymmetricKey
    >>> owner, folder = SymmetricKey(Secret.generate()), tempfile.mkdtemp()
    >>> text = pathlib.Path(folder, "text")
    >>> _ = text.write_text("To be, or not to be")
    >>> seal_data(text, f"{folder}/sealed", owner)
    1
    >>> open_data(f"{folder}/sealed", owner).read("text")
    b'To be, or not to be'
  """
  origin, target = given_path(source), given_path(path)
  signatures.check_signer(signer)
  check_optional_name(name, "name")
  found = as_recipients(recipients)
  _check_places(origin, target, replace=replace)
  # Now: a set that another process seals from here on is never replaced.
  replaced = layout.is_sealed(target)
  files = list_files(origin)
  layout.LIMITS.check(files)
  set_id, data_key = f"data/{os.urandom(16).hex()}", new_data_key()
  envelope = seal_envelope(data_key, found, checkpoint=set_id, created=now())

  def write(folder: pathlib.Path) -> tuple[Header, Manifest]:
    sealer = Sealer(folder, set_id, data_key, signed=signer is not None)
    entries = [sealer.seal(files[x], x) for x in sorted(files)]
    manifest = Manifest(set_id, name, 1, tuple(entries))
    return write_manifest(folder, manifest, data_key, envelope, signer)

  if replaced:
    with changing_folder(target) as commit:
      header, manifest = write(target)
      commit(header, layout.names_of(manifest, header.manifest))
  else:
    with new_folder(target) as folder:
      header, manifest = write(folder)
      write_file(folder / layout.HEADER, layout.header_bytes(header))
  return sum(1 if x.records is None else x.records for x in manifest.files)


class Sealer:
  """What seals files for one set."""

  def __init__(
    self, folder: pathlib.Path, set_id: str, data_key: bytes, *, signed: bool
  ):
    """Prepare to seal.

    Args:
      folder: Where the sealed files go.
      set_id: Id of the set.
      data_key: Data key of the set.
      signed: Whether the manifest is going to be signed.
    """
    self._folder = folder
    self._id = set_id
    self._data_key = data_key
    self._signed = signed

  def seal(self, source: pathlib.Path, name: str) -> Entry:
    """Seal one file.

    Args:
      source: File to read.
      name: Its name in the set.
    """
    if is_record_file(name):
      return self._seal_records(source, name)
    content = read_file(source)
    stored = _new_name(layout.WHOLE)
    message = self._write(stored, content)
    digest = hashlib.sha256(message).hexdigest() if self._signed else ""
    return Entry(name, stored, len(content), None, digest=digest)

  def _seal_records(self, source: pathlib.Path, name: str) -> Entry:
    stored = _new_name(layout.RECORDS)
    key = leaf_key(self._data_key, "data-record", stored)
    context = layout.record_context(self._id, stored)
    digests = bytearray()
    size = 0
    records = RecordFile(source)
    writer = RecordWriter(self._folder / stored)
    try:
      for i, record in enumerate(records):
        message = seal(key, record, context + layout.record_number(i))
        writer.write(message)
        size += len(record)
        if self._signed:
          digests += hashlib.sha256(message).digest()
    finally:
      writer.close()
      records.close()
    with (self._folder / stored).open("rb") as file:
      private_files.sync_file(file)
    entry = Entry(name, stored, size, len(records))
    if not self._signed:
      return entry
    other = _new_name(layout.DIGESTS)
    self._write(other, bytes(digests))
    digest = hashlib.sha256(digests).hexdigest()
    return entry._replace(digests=other, digest=digest)

  def _write(self, stored: str, content: bytes) -> bytes:
    """Seal and write a file as one message, and return the message."""
    message = seal(
      leaf_key(self._data_key, "data-file", stored),
      content,
      layout.context("file", self._id, stored),
    )
    write_file(self._folder / stored, message)
    return message


def write_manifest(
  folder: pathlib.Path,
  manifest: Manifest,
  data_key: bytes,
  envelope: bytes,
  signer: signatures.Signer | None,
) -> tuple[Header, Manifest]:
  """Write a manifest and its signature; return a header that leads there."""
  stored = _new_name(layout.MANIFEST)
  sealed = layout.seal_manifest(manifest, data_key, stored)
  # Nothing is committed that could not be opened.
  layout.open_manifest(sealed, data_key, manifest.id, stored)
  signature = signatures.sign(signer, data_key, manifest.id, sealed)
  write_file(folder / stored, sealed)
  write_file(folder / layout.signature_name(stored), signature)
  return Header(envelope, stored), manifest


def _new_name(suffix: str) -> str:
  return os.urandom(8).hex() + suffix


def _check_places(
  source: pathlib.Path, target: pathlib.Path, *, replace: bool
) -> None:
  if not source.exists():
    raise FileNotFoundError(f"there is no file or folder {source}")
  replaced = replace and layout.is_sealed(target)
  if (target.exists() or target.is_symlink()) and not replaced:
    raise FileExistsError(f"{target} exists")
  check_source(source, target)


def check_source(source: pathlib.Path, target: pathlib.Path) -> None:
  """Raise an ArgumentError if a source is sealed, or contains a set."""
  if layout.is_sealed(source):
    raise ArgumentError(f"{source} is a sealed data set already")
  if target.resolve().is_relative_to(source.resolve()):
    raise ArgumentError(f"{target} is inside {source}, which is to be sealed")
