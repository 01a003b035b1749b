"""What can be read of a checkpoint with tiers, and what is wrong with it."""

import os
from collections.abc import Iterable, Iterator
from typing import Any

from keyjax.checkpoint.format.signature import VerifyKey
from keyjax.checkpoint.inspecting import inspect as inspect_tier
from keyjax.checkpoint.storage import header, locations
from keyjax.checkpoint.verifying import Problem
from keyjax.checkpoint.verifying import verify as verify_tier
from keyjax.keyring import Identity
from keyjax.tiers.index import TIERS, VERSION, Index, read_index
from keyjax.tiers.opening import Expected, named_tiers, open_tiers


def inspect(
  path: str | os.PathLike[str],
  identities: Identity | Iterable[Identity] | None = None,
) -> dict[str, Any]:
  """Return what can be read of a checkpoint's tiers; nothing of their leaves.

  Args:
    path: Folder of the checkpoint.
    identities: Keys; None for what anyone can read.

  Returns:
    `format`, `version`, `id` and `tiers`: for each tier, by name, what
    `checkpoint.inspect` returns without a key; none of this is authenticated.
    With keys, also `present` for each tier: whether it opens, and then it is
    one of those that were saved together.

  Raises:
    FileNotFoundError, KeyringError, CheckpointError: As `restore`.
  """
  index = read_index(path)
  tiers = {name: inspect_tier(index.place(name)) for name in index.folders}
  if identities is not None:
    opened = open_tiers(path, identities).tiers
    tiers = {x: one | {"present": x in opened} for x, one in tiers.items()}
  return {
    "format": header.TIERS_FORMAT,
    "version": VERSION,
    "id": index.id,
    "tiers": tiers,
  }


def verify(
  path: str | os.PathLike[str],
  identities: Identity | Iterable[Identity],
  *,
  tiers: Iterable[str] | None = None,
  step: int | None = None,
  name: str | None = None,
  run: str | None = None,
  verify_key: VerifyKey | None = None,
) -> list[Problem]:
  """Open every chunk of the tiers that some keys open.

  Args:
    path: Folder of the checkpoint.
    identities: Keys.
    tiers: Tiers that must open, and are checked alone; None for all that open.
    step: Expected training step.
    name: Expected name of the model.
    run: Expected id of the training run.
    verify_key: Public key whose signature every tier must have.

  Returns:
    Every defect, `where` beginning with the tier's name and a colon; and every
    folder that the index does not list, such as a killed `reencrypt` leaves.

  Raises:
    FileNotFoundError, KeyringError, CheckpointError, ArgumentError: As
      `restore`.
  """
  expected = Expected(step, name, run, verify_key)
  tiers = named_tiers(tiers)
  found = open_tiers(path, identities, tiers=tiers, expected=expected)
  problems = [
    problem._replace(where=f"{tier}: {problem.where}")
    for tier in found.tiers
    if tiers is None or tier in tiers
    for problem in verify_tier(
      found.listed.place(tier), found.identities, verify_key=verify_key
    )
  ]
  return [*problems, *_unlisted(found.listed)]


def _unlisted(index: Index) -> Iterator[Problem]:
  with locations.bucket_errors(index.path):
    names = sorted(x.name for x in (index.path / TIERS).iterdir())
  for name in names:
    if name not in index.folders.values() and not name.startswith("."):
      yield Problem(f"{TIERS}/{name}", "the index lists no such folder")
