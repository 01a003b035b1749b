"""Keys of a team: recipients, envelopes, hierarchy, rotation and backup."""

from keyjax.keyring.envelope import (
  Opened,
  inspect_envelope,
  open_envelope,
  rewrap,
  seal_envelope,
)
from keyjax.keyring.errors import CannotOpen, KeyringError
from keyjax.keyring.recipients import (
  Expiring,
  Identity,
  Recipient,
  Stanza,
  SymmetricKey,
)

__all__ = [
  "CannotOpen",
  "Expiring",
  "Identity",
  "KeyringError",
  "Opened",
  "Recipient",
  "Stanza",
  "SymmetricKey",
  "inspect_envelope",
  "open_envelope",
  "rewrap",
  "seal_envelope",
]
