"""Encryption of a run's training checkpoints: `config.encrypt`.

The config names public keys and the place of a private key, never a private
key. `run.json` records neither, so both may change between resumptions.
"""

import getpass
from typing import NamedTuple

from ml_collections import ConfigDict

from keyjax.errors import KeyringError
from keyjax.keyring import (
  Identity,
  Recipient,
  as_identity,
  parse_recipient,
  read_key,
)


class Encryption(NamedTuple):
  """Keys of encrypted training checkpoints.

  Attributes:
    recipients: Public keys that checkpoints are encrypted for; None leaves
      them unencrypted.
    identities: Private keys that decrypt them on resumption.
    run: Id of the run that they are of; empty for that of its folder.
  """

  recipients: list[Recipient] | None = None
  identities: tuple[Identity, ...] = ()
  run: str = ""


UNENCRYPTED = Encryption()


def read(config: ConfigDict) -> Encryption:
  """Read `config.encrypt`.

  Raises:
    ValueError: If a recipient or the key cannot be read, or if there is a key
      or the id of a run, but no recipient.
  """
  names = [name.strip() for name in config.recipients.split(",") if name]
  if not names:
    for name in ("identity", "run"):
      if config[name]:
        raise ValueError(f"encrypt.{name} needs encrypt.recipients: set both")
    return UNENCRYPTED
  try:
    recipients: list[Recipient] = [parse_recipient(name) for name in names]
    if not config.identity:
      return Encryption(recipients, run=config.run)
    ask = lambda: getpass.getpass("Passphrase of encrypt.identity: ")  # noqa: E731
    identity = as_identity(read_key(config.identity, ask))
  except (KeyringError, OSError) as error:
    raise ValueError(f"encrypt: {error}") from None
  return Encryption(recipients, (identity,), config.run)
