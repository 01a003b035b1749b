"""New data keys for some tiers, as revocation needs."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax

from keyjax.checkpoint.checks import as_recipients
from keyjax.checkpoint.errors import storage_error
from keyjax.checkpoint.format import signature as signatures
from keyjax.checkpoint.rewrapping import write_again
from keyjax.checkpoint.storage import folders, header
from keyjax.errors import ArgumentError
from keyjax.keyring import (
  Identity,
  Recipient,
  inspect_envelope,
  new_data_key,
)
from keyjax.tiers.index import Index, read_index
from keyjax.tiers.opening import Expected, OpenedTiers, open_tiers
from keyjax.tiers.saving import sub_keys


def reencrypt(
  path: str | os.PathLike[str],
  identities: Identity | Iterable[Identity],
  recipients: Mapping[str, Recipient | Iterable[Recipient]],
  *,
  revoked: Iterable[str] = (),
  reinstate: bool = False,
  signer: signatures.Signer | None = None,
  verify_key: signatures.VerifyKey | None = None,
) -> None:
  """Encrypt tiers again under new data keys, for other recipients.

  The checkpoint stays where it is: new bytes are written next to the old ones,
  the index then names them, and the old ones are removed. A kill at any point
  leaves the old tiers or the new ones; `verify` reports what it left over. No
  byte of another tier is touched.

  Whoever opened a tier could open the lower ones too, so these must be given
  with it. Copies of the old bytes open for the old recipients forever.

  Args:
    path: Folder of the checkpoint.
    identities: Keys that open these tiers, and the tiers that open them, whose
      recipients keep access through new sub-keys.
    recipients: Recipients of each of these tiers from now on, by its name.
    revoked: Ids of former recipients, who get an error that says so.
    reinstate: Whether a revoked recipient may be a recipient again.
    signer: Private key to sign with; see `checkpoint.reencrypt`.
    verify_key: Public key whose signature the old tiers must have; by default
      that of the signer, if there is one.

  Raises:
    ArgumentError: If there is no such tier, or one opens a lower tier that is
      not given.
    FileNotFoundError, KeyringError, CheckpointError: As
      `checkpoint.reencrypt`; or if another process changes the tiers.
    ValueError: If it is called with several processes.
  """
  if jax.process_count() > 1:
    raise ValueError(
      "reencrypt runs in one process, however many wrote the checkpoint"
    )
  signatures.check_signer(signer)
  new = {name: as_recipients(given) for name, given in recipients.items()}
  if not new:
    raise ArgumentError("recipients is empty: give those of at least one tier")
  if signer is not None and verify_key is None:
    verify_key = signer.public_key()
  found = open_tiers(
    path, identities, tiers=new, expected=Expected(verify_key=verify_key)
  )
  _check_lower(found, new)
  found = _open_higher(found, new, verify_key)
  revoked = list(revoked)
  _check_higher(found, new, revoked)
  keys = {name: one.data_key for name, one in found.tiers.items()}
  keys |= {name: new_data_key() for name in new}
  with _replacing(found.listed, new) as replaced:
    for name, given in new.items():
      write_again(
        found.tiers[name],
        replaced.place(name),
        [*given, *sub_keys(name, keys, found.opens)],
        revoked=revoked,
        reinstate=reinstate,
        signer=signer,
        data_key=keys[name],
      )


@contextlib.contextmanager
def _replacing(index: Index, names: Iterable[str]) -> Iterator[Index]:
  """Yield an index with new folders, which then replaces the other one."""
  fresh = {name: f"{name}.{os.urandom(8).hex()}" for name in names}
  replaced = index._replace(folders=index.folders | fresh)
  try:
    yield replaced
    _replace_index(index, replaced)
  except BaseException:
    # An interruption, or a bucket's answer that is lost, may come after it.
    with contextlib.suppress(OSError):
      listed = read_index(index.path).folders
      for name in fresh:
        if listed[name] != fresh[name]:
          folders.remove(replaced.place(name))
    raise
  for name in fresh:
    folders.remove(index.place(name))


def _check_lower(found: OpenedTiers, new: Mapping[str, Any]) -> None:
  for name in new:
    for lower in found.opens.get(name, ()):
      if lower not in new:
        raise ArgumentError(
          f"tier {name} opens {lower}: whoever loses the one could open the "
          f"other, so give the recipients of {lower} too"
        )


def _open_higher(
  found: OpenedTiers,
  new: Mapping[str, Any],
  verify_key: signatures.VerifyKey | None,
) -> OpenedTiers:
  """Open the tiers that open those to encrypt again, for their sub-keys."""
  higher = [x for x, lower in found.opens.items() if set(lower) & new.keys()]
  return open_tiers(
    found.listed.path,
    found.identities,
    tiers=[*new, *(x for x in higher if x not in new)],
    expected=Expected(verify_key=verify_key),
  )


def _check_higher(
  found: OpenedTiers, new: Mapping[str, Any], revoked: list[str]
) -> None:
  for name, one in found.tiers.items():
    lower = set(found.opens.get(name, ())) & new.keys()
    if name in new or not lower:
      continue
    present = inspect_envelope(one.files.envelope)["recipients"]
    if both := [x for x in revoked if x in present]:
      raise ArgumentError(
        f"{both[0]} is a recipient of tier {name}, which opens "
        f"{min(lower)}: give the recipients of {name} too"
      )


def _replace_index(index: Index, replaced: Index) -> None:
  try:
    header.replace_json(
      index.path, replaced.contents(), before=index.contents()
    )
  except OSError as error:
    what = f"could not write the index of {index.path}"
    raise storage_error(what, error) from None
