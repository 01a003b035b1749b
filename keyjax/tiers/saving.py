"""Saving a checkpoint with tiers."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from keyjax import arguments
from keyjax.aes.host import Impl
from keyjax.checkpoint.check_tree import check_tree
from keyjax.checkpoint.checks import as_recipients
from keyjax.checkpoint.format import tree_structure
from keyjax.checkpoint.format.signature import Signer
from keyjax.checkpoint.saving import seal_tree
from keyjax.checkpoint.storage import (
  folders,
  header,
  orbax_writer,
  processes,
)
from keyjax.checkpoint.storage.locations import absolute_path
from keyjax.checkpoint.storage.whole_folders import writing_whole
from keyjax.errors import ArgumentError
from keyjax.keyring import Recipient
from keyjax.tiers.assigning import Leaves, assign
from keyjax.tiers.index import TIERS, Index, check_name
from keyjax.tiers.records import add_record, sub_key
from keyjax.tree import path_str


class Tier(NamedTuple):
  """A part of a model with a data key and recipients of its own.

  Attributes:
    name: Public name: a-z, 0-9, `_` and `-`; models are told it in `present`.
    leaves: Regular expression of whole leaf paths, such as `.*/experts/.*`, or
      a function of a path. A leaf is in the first tier that matches it.
    recipients: Recipients; each can open it alone.
    opens: Names of later tiers that whoever opens this one can open too.
  """

  name: str
  leaves: Leaves
  recipients: Recipient | Iterable[Recipient]
  opens: Sequence[str] = ()


def save(
  path: str | os.PathLike[str],
  tree: Any,
  tiers: Iterable[Tier],
  *,
  step: int = 0,
  name: str = "",
  run: str = "",
  metadata: dict[str, Any] | None = None,
  signer: Signer | None = None,
  impl: Impl = "auto",
) -> None:
  """Seal a tree in tiers and write them to a new folder, all or none.

  Args:
    path: New folder, on a disk or in a bucket (`gs://...`).
    tree: Pytree of arrays, numbers and JAX PRNG keys; see `checkpoint.save`.
    tiers: Tiers in order. Every leaf must be in one, and every tier must have
      a leaf; `Tier("base", ".*", ...)` at the end has the rest.
    step: Training step; sealed in every tier, as are the following.
    name: Name of the model.
    run: Id of the training run.
    metadata: Dict of at most 1 MiB as JSON, for the recipients of all tiers.
    signer: Private key; it signs every tier.
    impl: See `checkpoint.save`.

  Raises:
    ArgumentError: If a leaf is in no tier, a tier has no leaf, or names or
      `opens` do not fit.
    ValueError, FileExistsError, KeyringError, CheckpointStorageError: As
      `checkpoint.save`.

  Example:
    >>> import tempfile, jax.numpy as jnp
    >>> from keyjax import Secret
    >>> from keyjax.keyring import SymmetricKey
    >>> from keyjax.tiers import restore
    >>> alice, bob = (SymmetricKey(Secret.generate()) for _ in "ab")
    >>> params = {"expert": jnp.int32([0]), "stem": jnp.int32([1, 2])}
    >>> path = tempfile.mkdtemp() + "/model"
    >>> save(path, params, [
    ...   Tier("expert", "expert", alice, opens=["base"]),
    ...   Tier("base", ".*", bob),
    ... ])
    >>> restore(path, bob)
    Unlocked(params={'stem': Array([1, 2], dtype=int32)},
             present={'expert': False, 'base': True})
  """
  place = absolute_path(path)
  folders.check_absent(place)
  tiers = _checked_tiers(tiers)
  check_tree(tree)
  parts = split(tree, tiers)
  set_id, _ = processes.new_id_and_data_key()
  index = Index(place, set_id, {tier.name: tier.name for tier in tiers})
  opens = {tier.name: tuple(tier.opens) for tier in tiers}
  keys = {tier.name: processes.new_id_and_data_key()[1] for tier in tiers}
  sealed = {
    tier.name: seal_tree(
      parts[tier.name],
      [*as_recipients(tier.recipients), *sub_keys(tier.name, keys, opens)],
      step=step,
      name=name,
      run=run,
      metadata=add_record(metadata, index, tier.name, opens),
      signer=signer,
      impl=impl,
      lazy=True,
      data_key=keys[tier.name],
    )
    for tier in tiers
  }
  with writing_whole(place) as here:
    if jax.process_index() == 0:
      _write_index(here, index)
    for tier_name, arrays in sealed.items():
      orbax_writer.write(here / TIERS / tier_name, arrays)


def _write_index(folder: Any, index: Index) -> None:
  (folder / header.HEADER).mkdir(parents=True, exist_ok=True)
  text = json.dumps(index.contents())
  (folder / header.HEADER / header.HEADER_FILE).write_text(text)


def sub_keys(
  tier: str, data_keys: Mapping[str, bytes], opens: Mapping[str, Iterable[str]]
) -> list[Recipient]:
  """Return the sub-keys that open a tier, of the tiers that open it.

  Args:
    tier: Name of the tier.
    data_keys: Data keys by tier.
    opens: Lower tiers by the tiers that open them.
  """
  return [
    sub_key(data_keys[higher], tier)
    for higher, lower in opens.items()
    if tier in lower
  ]


def _checked_tiers(tiers: Iterable[Tier]) -> list[Tier]:
  found = list(tiers)
  for tier in found:
    if not isinstance(tier, Tier):
      raise TypeError(
        "tiers is a list of Tier(name, leaves, recipients), got "
        f"{arguments.describe(tier)}"
      )
    check_name(tier.name)
  names = [tier.name for tier in found]
  if len(set(names)) < len(names):
    twice = next(x for x in names if names.count(x) > 1)
    raise ArgumentError(f"two tiers are called {twice}")
  for number, tier in enumerate(found, 1):
    lower = [tier.opens] if isinstance(tier.opens, str) else tier.opens
    for other in lower:
      if other not in names[number:]:
        raise ArgumentError(
          f"tier {tier.name} opens {arguments.show(other)}, which is no tier "
          "after it: list higher tiers first"
        )
    found[number - 1] = tier._replace(opens=tuple(lower))
  if not found:
    raise ArgumentError("tiers is empty: give at least one Tier")
  return found


def split(tree: Any, tiers: Sequence[Tier]) -> dict[str, Any]:
  """Return the part of a tree that is each tier's, by name.

  A part has dicts for all but lists and tuples of which it has each element.

  Raises:
    ArgumentError: If a leaf is in no tier, or a tier has no leaf.
  """
  with_paths = jax.tree_util.tree_leaves_with_path(tree)
  paths = [path_str(path) for path, _ in with_paths]
  if len(set(paths)) < len(paths):
    twice = next(x for x in paths if paths.count(x) > 1)
    raise ValueError(f"two leaves have the path {twice}")
  numbers = assign(paths, {tier.name: tier.leaves for tier in tiers})
  structure = tree_structure.describe(tree)
  leaves = [x for _, x in with_paths]
  return {
    name: tree_structure.rebuild(
      structure, {i: leaves[i] for i in mine}, len(leaves)
    )
    for name, mine in numbers.items()
  }
