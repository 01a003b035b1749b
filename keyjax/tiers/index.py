"""The index of a checkpoint with tiers, which is public, and where they are.

    PATH/header/metadata   JSON: format, version, id, tiers
    PATH/tiers/FOLDER/     a sealed checkpoint for each tier

Nothing in the index is authenticated: whoever opens a tier compares it with
the record that is sealed there (`record`).
"""

import os
import re
from typing import Any, NamedTuple

from keyjax import arguments
from keyjax.checkpoint.errors import CheckpointContentError
from keyjax.checkpoint.storage import header
from keyjax.errors import ArgumentError

VERSION = 1
TIERS = "tiers"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_ID = re.compile(r"[0-9a-f]{32}")
_RANDOM = re.compile(r"(\.[0-9a-f]{16})?")  # Of a tier that was re-encrypted.


class Index(NamedTuple):
  """What anyone can read of a checkpoint with tiers.

  Attributes:
    path: Absolute path of the checkpoint.
    id: Random id of the set of tiers.
    folders: Name of each tier's folder, by the tier's name.
  """

  path: Any
  id: str
  folders: dict[str, str]

  def place(self, tier: str) -> Any:
    """Return the absolute path of a tier, a sealed checkpoint."""
    return self.path / TIERS / self.folders[tier]

  def contents(self) -> dict[str, Any]:
    """Return the index as it is stored."""
    return {
      "format": header.TIERS_FORMAT,
      "id": self.id,
      "tiers": [list(item) for item in self.folders.items()],
      "version": VERSION,
    }


def check_name(name: Any) -> None:
  """Raise an ArgumentError unless this can be the name of a tier."""
  if not isinstance(name, str) or not _NAME.fullmatch(name):
    raise ArgumentError(
      f"a tier is named by 1 to 64 of a-z, 0-9, _ and -, not "
      f"{arguments.show(name)}"
    )


def read_index(path: str | os.PathLike[str]) -> Index:
  """Read the index of a checkpoint with tiers.

  Raises:
    FileNotFoundError: If there is no complete checkpoint at `path`.
    CheckpointError: If it has no tiers, or its index cannot be read.
  """
  place = header.find(path)
  what = f"{place} is not a checkpoint with tiers"
  fields = header.read_json(place, what)
  if fields["format"] != header.TIERS_FORMAT:
    raise CheckpointContentError(what)
  version = fields.get("version")
  if type(version) is not int or version != VERSION:
    raise CheckpointContentError(
      f"{place} has an index of version {version!r:.20}: this release of "
      f"KeyJAX reads version {VERSION}"
    )
  if not _is_well_formed(fields):
    raise CheckpointContentError(f"{what}: its index is malformed")
  return Index(path=place, id=fields["id"], folders=dict(fields["tiers"]))


def _is_well_formed(fields: dict[str, Any]) -> bool:
  if set(fields) != {"format", "id", "tiers", "version"}:
    return False
  tiers = fields["tiers"]
  if not (isinstance(fields["id"], str) and _ID.fullmatch(fields["id"])):
    return False
  if not (isinstance(tiers, list) and tiers and all(map(_is_entry, tiers))):
    return False
  return len({name for name, _ in tiers}) == len(tiers)


def _is_entry(entry: Any) -> bool:
  """Return whether this is a tier and its folder, which is inside `tiers`."""
  if not (isinstance(entry, list) and [*map(type, entry)] == [str, str]):
    return False
  name, folder_name = entry
  rest = folder_name.removeprefix(name)
  return bool(
    _NAME.fullmatch(name)
    and folder_name.startswith(name)
    and _RANDOM.fullmatch(rest)
  )


def is_tiered(path: str | os.PathLike[str]) -> bool:
  """Return whether the checkpoint at a path has tiers.

  Raises:
    FileNotFoundError, CheckpointError: If there is no sealed checkpoint.
  """
  place = header.find(path)
  fields = header.read_json(place, f"{place} is not a sealed checkpoint")
  return bool(fields["format"] == header.TIERS_FORMAT)


def folder(path: str | os.PathLike[str], tier: str) -> str:
  """Return the folder of a tier, for the functions of `keyjax.checkpoint`.

  These check the tier, and not that it belongs to the others: `restore` and
  `verify` of this package do.

  Raises:
    ArgumentError: If there is no such tier.
    FileNotFoundError, CheckpointError: If it is no checkpoint with tiers.
  """
  index = read_index(path)
  require_tiers(index, [tier])
  return os.fspath(index.place(tier))


def require_tiers(index: Index, names: Any) -> None:
  """Raise an ArgumentError unless all of these are tiers of a checkpoint."""
  for name in names:
    if name not in index.folders:
      raise ArgumentError(
        f"no tier {arguments.show(name)} in {index.path}: it has "
        f"{', '.join(index.folders)}"
      )
