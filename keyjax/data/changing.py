"""More files, or other recipients, for a sealed data set."""

import os
from collections.abc import Iterable

from keyjax.checkpoint.checks import as_identities, as_recipients
from keyjax.checkpoint.format import signature as signatures
from keyjax.data import format as layout
from keyjax.data.folders import changing_folder
from keyjax.data.opened import open_set
from keyjax.data.records import list_files
from keyjax.data.sealing import Sealer, check_source, write_manifest
from keyjax.errors import ArgumentError
from keyjax.keyring import Identity, Recipient, rewrap_envelope
from keyjax.regular_files import given_path


def append_data(
  path: str | os.PathLike[str],
  source: str | os.PathLike[str],
  identities: Identity | Iterable[Identity],
  *,
  signer: signatures.Signer | None = None,
) -> int:
  """Seal the files of a folder that a set does not have yet, into the set.

  Files that it has are not read or compared. A kill at any moment leaves the
  set as it was, or with all new files.

  Args:
    path: Folder of the set.
    source: Folder with the new files, and perhaps old ones; or a file.
    identities: Keys, one of which opens the set.
    signer: Private key that signs the whole set again; needed if it is signed.
      The set must be signed with this key before.

  Returns:
    The number of files that were added; 0 if there are no new ones.

  Raises:
    FileNotFoundError: If there is no set, or nothing at `source`.
    ArgumentError: If the set is signed and there is no signer, the source is a
      sealed set, a new file has the name of a folder of the set, or there are
      more files than a manifest can name.
    KeyringError: If no identity opens it.
    ContentError: If the set or a new file is damaged, or the set is not signed
      with this key.
    StorageError: If it cannot be written, or another process is changing it.
  """
  folder = given_path(path)
  tried = as_identities(identities)
  signatures.check_signer(signer)
  origin = given_path(source)
  check_source(origin, folder)
  files = list_files(origin)
  with changing_folder(folder) as commit:
    verify_key = None if signer is None else signer.public_key()
    found = open_set(folder, tried, verify_key=verify_key)
    manifest = found.manifest
    signed = all(x.digest for x in manifest.files)
    if signed and signer is None:
      raise ArgumentError(f"{path} is signed: give the signer")
    known = {x.name for x in manifest.files}
    new = sorted(set(files) - known)
    if not new:
      return 0
    layout.LIMITS.check({*known, *new})
    clash = layout.clash({*known, *new})
    if clash:
      raise ArgumentError(f"{clash} would be a file and a folder of {path}")
    sealer = Sealer(folder, manifest.id, found.data_key, signed=signed)
    entries = [*manifest.files, *(sealer.seal(files[x], x) for x in new)]
    manifest = manifest._replace(
      revision=manifest.revision + 1,
      files=tuple(sorted(entries, key=lambda x: x.name)),
    )
    header, _ = write_manifest(
      folder, manifest, found.data_key, found.header.envelope, signer
    )
    commit(header, layout.names_of(manifest, header.manifest))
  return len(new)


def rewrap_data(
  path: str | os.PathLike[str],
  identities: Identity | Iterable[Identity],
  recipients: Recipient | Iterable[Recipient],
  *,
  revoked: Iterable[str] = (),
  reinstate: bool = False,
) -> None:
  """Replace the recipients of a set; no record is read.

  It does not revoke: anyone who could open the set may have kept its data key.
  To revoke, seal the set again; see `seal_data`.

  Args:
    path: Folder of the set.
    identities: Keys, one of which opens it.
    recipients: All recipients who can open it from now on.
    revoked: Ids of former recipients, who get an error that says so.
    reinstate: Whether a revoked recipient may be a recipient again.

  Raises:
    FileNotFoundError: If there is no sealed data set at `path`.
    KeyringError: If no identity opens it, or a recipient cannot be used or was
      revoked.
    StorageError: If it cannot be written, or another process is changing it.
  """
  folder = given_path(path)
  tried, wanted = as_identities(identities), as_recipients(recipients)
  with changing_folder(folder) as commit:
    found = open_set(folder, tried)
    envelope = rewrap_envelope(
      found.header.envelope, tried, wanted, revoked=revoked, reinstate=reinstate
    )
    header = found.header._replace(envelope=envelope)
    commit(header, layout.names_of(found.manifest, header.manifest))
