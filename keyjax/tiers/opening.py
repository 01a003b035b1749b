"""Opening the tiers that some keys open, and checking that they are one set."""

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from keyjax.checkpoint.checks import as_identities
from keyjax.checkpoint.errors import CheckpointContentError
from keyjax.checkpoint.format.manifest import Manifest
from keyjax.checkpoint.format.signature import VerifyKey
from keyjax.checkpoint.opened import OpenedCheckpoint, open_checkpoint
from keyjax.checkpoint.storage import header, locations
from keyjax.errors import ArgumentError, CannotOpen, KeyringError
from keyjax.keyring import Identity, inspect_envelope
from keyjax.tiers.index import Index, read_index, require_tiers
from keyjax.tiers.records import check_record, sub_key


class Expected(NamedTuple):
  """What every tier must be of; see `checkpoint.restore`."""

  step: int | None = None
  name: str | None = None
  run: str | None = None
  verify_key: VerifyKey | None = None


ANY = Expected()


class OpenedTiers(NamedTuple):
  """Tiers whose data keys are known.

  Attributes:
    listed: All tiers.
    tiers: Opened ones, by name, in the order of the index.
    opens: Lower tiers by the tiers that open any.
    identities: The keys, and the sub-keys of the opened tiers.
  """

  listed: Index
  tiers: dict[str, OpenedCheckpoint]
  opens: dict[str, list[str]]
  identities: list[Identity]


def open_tiers(
  path: str | os.PathLike[str],
  identities: Identity | Iterable[Identity],
  *,
  tiers: Iterable[str] | None = None,
  expected: Expected = ANY,
) -> OpenedTiers:
  """Open tiers of a checkpoint: envelopes and manifests.

  A tier opens for its recipients, and for those of the tiers that open it. The
  key of a recipient that fails is an error; a tier without a recipient among
  the keys is left out.

  Args:
    path: Folder of the checkpoint.
    identities: Keys.
    tiers: Tiers that must open; None for all that open, at least one.
    expected: What every tier must be of.

  Raises:
    ArgumentError: If there is no such tier.
    FileNotFoundError, KeyringError, CheckpointError: As `checkpoint.restore`;
      or if the tiers are not those that were saved together.
  """
  index = read_index(path)
  named = named_tiers(tiers)
  wanted = list(index.folders) if named is None else named
  require_tiers(index, wanted)
  keys = as_identities(identities)
  if not keys:
    raise KeyringError(f"no identity was given: give a key that opens {path}")
  opened = _open_what_opens(index, wanted, keys, expected)
  missing = [name for name in wanted if name not in opened]
  if missing and (named is not None or not opened):
    raise _why_not(index, missing, keys)
  in_order = {name: opened[name] for name in index.folders if name in opened}
  (first, one), *others = in_order.items()
  opens = check_record(index, first, one.manifest)
  for name, other in others:
    same = check_record(index, name, other.manifest) == opens
    if not same or _said(other.manifest) != _said(one.manifest):
      raise CheckpointContentError(
        f"tiers {first} and {name} of {index.path} were not saved together"
      )
  return OpenedTiers(index, in_order, opens, keys)


def _open_what_opens(
  index: Index, wanted: Sequence[str], keys: list[Identity], expected: Expected
) -> dict[str, OpenedCheckpoint]:
  """Return the wanted tiers that open, and others that lead to them.

  Args:
    index: All tiers.
    wanted: Names of the wanted ones; others are opened only for a sub-key.
    keys: Keys; sub-keys of opened tiers are appended.
    expected: What every tier must be of.
  """
  others = [name for name in index.folders if name not in wanted]
  opened: dict[str, OpenedCheckpoint] = {}
  found = True
  while found:  # A sub-key may open a tier that was tried before.
    found = False
    for name in [*wanted, *others]:
      if name in opened or opened.keys() >= set(wanted):
        continue
      if name in others and not locations.is_whole(index.place(name)):
        continue  # A copy without it.
      one = _open_for_recipients(index, name, keys, expected)
      if one is not None:
        lower = check_record(index, name, one.manifest).get(name, ())
        keys += [sub_key(one.data_key, other) for other in lower]
        opened[name] = one
        found = True
  return opened


def named_tiers(tiers: Iterable[str] | None) -> list[str] | None:
  """Return the names of tiers that must open; None for whatever opens."""
  if tiers is None:
    return None
  if isinstance(tiers, str):
    raise TypeError("tiers is a list of names, got one text")
  if not (found := list(tiers)):
    raise ArgumentError("tiers is empty: name at least one, or give None")
  return found


def _open_for_recipients(
  index: Index, name: str, keys: Sequence[Identity], expected: Expected
) -> OpenedCheckpoint | None:
  """Open a tier; return None if none of the keys is a recipient's."""
  place = index.place(name)
  public = inspect_envelope(header.read(header.find(place)))
  if not {key.id for key in keys} & set(public["recipients"]):
    return None
  return open_checkpoint(place, keys, **expected._asdict())


def _why_not(
  index: Index, names: Sequence[str], keys: Sequence[Identity]
) -> KeyringError:
  """Return the error of tiers that do not open, the most specific one."""
  errors: list[KeyringError] = []
  for name in names:
    try:
      open_checkpoint(index.place(name), keys)
    except KeyringError as error:
      errors.append(error)
  known = [x for x in errors if not isinstance(x, CannotOpen)]
  return (known or errors or [CannotOpen()])[0]


def _said(manifest: Manifest) -> tuple[int, str, str]:
  """Return what the user said of a checkpoint, and so of all its tiers."""
  return manifest.step, manifest.name, manifest.run


def with_sub_keys(
  path: str | os.PathLike[str], identities: Identity | Iterable[Identity]
) -> list[Identity]:
  """Return keys, and the sub-keys of the tiers that they open.

  With these, `checkpoint.rewrap` of a lower tier's `folder` works for whoever
  opens a higher one.

  Raises:
    FileNotFoundError, KeyringError, CheckpointError: As `restore`.
  """
  return open_tiers(path, identities).identities
