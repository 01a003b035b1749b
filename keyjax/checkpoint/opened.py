"""An opened checkpoint: its data key is known and its manifest parsed."""

import os
from collections.abc import Iterable
from typing import Any, NamedTuple, NoReturn

from keyjax import arguments
from keyjax.checkpoint.checks import as_identities
from keyjax.checkpoint.errors import CheckpointContentError
from keyjax.checkpoint.format import signature
from keyjax.checkpoint.format.manifest import Manifest
from keyjax.checkpoint.format.manifest_json import (
  MAX_SEALED_SIZE,
  open_manifest,
)
from keyjax.checkpoint.storage.sealed_files import SealedFiles
from keyjax.keyring import Identity, KeyringError, open_envelope

_SIZE_CHECKED_FROM = 1 << 28


class OpenedCheckpoint(NamedTuple):
  """What is needed to open parts; its repr shows no key.

  Attributes:
    files: Where the sealed bytes are.
    manifest: What they hold.
    data_key: Data key of the checkpoint.
    check_digests: Whether a signature was verified, so that the digest of each
      message is checked too.
  """

  files: SealedFiles
  manifest: Manifest
  data_key: bytes
  check_digests: bool

  def __repr__(self) -> str:
    return f"<OpenedCheckpoint {self.files.path}>"

  def __reduce_ex__(self, protocol: Any) -> NoReturn:
    raise TypeError("an OpenedCheckpoint is not pickled: it holds a key")


def open_checkpoint(
  path: str | os.PathLike[str],
  identities: Identity | Iterable[Identity],
  *,
  step: int | None = None,
  name: str | None = None,
  run: str | None = None,
  verify_key: signature.VerifyKey | None = None,
) -> OpenedCheckpoint:
  """Open the envelope and the manifest of a checkpoint.

  Args:
    path: Folder of the checkpoint.
    identities: Keys to try.
    step: Expected training step; None for any.
    name: Expected name of the model; None for any.
    run: Expected id of the training run; None for any.
    verify_key: Public key whose signature is required; None to require none.

  Raises:
    FileNotFoundError: If there is no complete checkpoint at `path`.
    KeyringError: If no identity opens it.
    CheckpointError: If it is damaged, of another step, model or run, or not
      signed with this key.
  """
  files = SealedFiles(path)
  tried = as_identities(identities)
  if not tried:
    raise KeyringError(f"no identity was given: give a key that opens {path}")
  envelope = open_envelope(files.envelope, tried)
  sealed = files.read_small("manifest", MAX_SEALED_SIZE)
  manifest = open_manifest(envelope.data_key, envelope.checkpoint, sealed)
  _check_size(files, manifest)
  check_expected(files.path, "step", expected=step, found=manifest.step)
  check_expected(files.path, "model", expected=name, found=manifest.name)
  check_expected(files.path, "run", expected=run, found=manifest.run)
  if verify_key is not None:
    signature.verify_signature(
      verify_key,
      envelope.data_key,
      manifest.id,
      manifest=sealed,
      sealed=files.read_small("signature", signature.SEALED_SIZE),
    )
    if manifest.digests is None:
      raise CheckpointContentError("the manifest is signed and has no digests")
  return OpenedCheckpoint(
    files=files,
    manifest=manifest,
    data_key=envelope.data_key,
    check_digests=verify_key is not None,
  )


def check_expected(path: Any, what: str, *, expected: Any, found: Any) -> None:
  """Refuse a checkpoint of another step, name or run than the expected one.

  Args:
    path: Folder of the checkpoint.
    what: "step", "model" or "run".
    expected: Expected value; None for any.
    found: Value in the manifest; an empty string if it records none.

  Raises:
    CheckpointContentError: If they differ.
  """
  if expected is None or found == expected:
    return
  # A value that was given may be a key that was pasted.
  is_short = arguments.show(expected) == repr(expected)
  wanted = f"{what} {expected}" if is_short else f"the {what} that was given"
  if found == "":
    raise CheckpointContentError(
      f"{path} records no {what}, and {wanted} is expected"
    )
  if expected == "":
    raise CheckpointContentError(
      f"{path} is of {what} {found}, and no {what} is expected"
    )
  raise CheckpointContentError(f"{path} is of {what} {found}, not of {wanted}")


def _check_size(files: SealedFiles, manifest: Manifest) -> None:
  """Refuse a manifest of far larger sizes before memory is allocated for them.

  Anyone who knows a recipient's public key can seal a manifest of any sizes
  for it. Truncated files pass, for the error that names the leaf.

  Raises:
    CheckpointContentError: If the files are far too small.
  """
  claimed = manifest.streams.processes * manifest.streams.size
  if claimed > _SIZE_CHECKED_FROM and claimed > 4 * files.data_size():
    raise CheckpointContentError(
      f"{files.path} has far fewer bytes than its manifest says"
    )
