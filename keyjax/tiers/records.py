"""What is sealed in every tier, so that the tiers of a set belong together."""

from collections.abc import Iterable, Mapping
from typing import Any

from keyjax.checkpoint.errors import CheckpointContentError
from keyjax.checkpoint.format.manifest import Manifest
from keyjax.errors import ArgumentError
from keyjax.keyring import SymmetricKey
from keyjax.keyring.data_keys import leaf_key
from keyjax.secrets import Secret
from keyjax.tiers.index import Index

RECORD = "keyjax.tiers"  # A key of the metadata of each tier.


def add_record(
  metadata: Mapping[str, Any] | None,
  index: Index,
  tier: str,
  opens: Mapping[str, Iterable[str]],
) -> dict[str, Any]:
  """Return the metadata of a tier: the user's, and the record of the set.

  Args:
    metadata: Metadata of the user.
    index: The set.
    tier: Name of the tier.
    opens: Lower tiers that each tier opens.
  """
  if metadata and RECORD in metadata:
    raise ArgumentError(f"metadata: {RECORD!r} is the record of the tiers")
  record = {
    "id": index.id,
    "opens": {name: list(lower) for name, lower in opens.items() if lower},
    "tier": tier,
    "tiers": list(index.folders),
  }
  return {**(metadata or {}), RECORD: record}


def check_record(
  index: Index, tier: str, manifest: Manifest
) -> dict[str, list[str]]:
  """Check that an opened tier is the one that the index says.

  Args:
    index: The index, which anyone may have written.
    tier: Name of the tier.
    manifest: Manifest of the tier.

  Returns:
    The lower tiers by the tiers that open any.

  Raises:
    CheckpointContentError: If the tier was saved in another checkpoint, under
      another name, or with other tiers.
  """
  record = manifest.metadata.get(RECORD)
  if not isinstance(record, dict):
    raise CheckpointContentError(f"{index.place(tier)} was saved without tiers")
  if record.get("id") != index.id:
    raise CheckpointContentError(
      f"tier {tier} of {index.path} is of another checkpoint"
    )
  if record.get("tier") != tier:
    raise CheckpointContentError(
      f"tier {tier} of {index.path} was saved under another name"
    )
  if record.get("tiers") != list(index.folders):
    raise CheckpointContentError(
      f"{index.path} has other tiers than were saved: one was added, removed "
      "or moved"
    )
  opens = record.get("opens")
  if not (isinstance(opens, dict) and _are_names(opens, index)):
    raise CheckpointContentError(
      f"tier {tier} of {index.path} has a malformed record"
    )
  return opens


def _are_names(opens: dict[str, Any], index: Index) -> bool:
  names = list(index.folders)
  return all(
    higher in names
    and isinstance(lower, list)
    and all(one in names for one in lower)
    for higher, lower in opens.items()
  )


def sub_key(data_key: bytes, lower: str) -> SymmetricKey:
  """Return the key with which whoever opens a tier opens a lower one.

  Args:
    data_key: Data key of the higher tier.
    lower: Name of the lower tier.
  """
  return SymmetricKey(Secret(leaf_key(data_key, "tier", lower)))
