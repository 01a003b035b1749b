"""Who can open a checkpoint, as its envelope says."""

from collections.abc import Collection, Sequence
from typing import Any

from keyjax import checkpoint
from keyjax.checkpoint.storage.store import Store
from keyjax.cli.failures import REFUSED, blame
from keyjax.keyring import Identity, Recipient, kept


def public_view(path: str) -> dict[str, Any]:
  """Returns what anybody can read of a checkpoint; nothing of it is proven.

  Raises:
    Failure: the envelope is malformed.
    CheckpointError, FileNotFoundError: there is no sealed checkpoint.
  """
  with blame(REFUSED):
    return checkpoint.inspect(path)


def added_to(
  path: str,
  identities: Sequence[Identity],
  recipients: Sequence[Recipient],
  without: Collection[str] = (),
) -> list[Recipient]:
  """Returns the recipients of a checkpoint and further ones.

  Args:
    path: the checkpoint.
    identities: keys that open it.
    recipients: who is added; who is there already is wrapped for again.
    without: ids that are not kept.

  Raises:
    KeyringError: no key opens it.
  """
  gone = {*without, *(person.id for person in recipients)}
  old = [p for p in kept(Store(path).envelope, identities) if p.id not in gone]
  return [*old, *recipients]
