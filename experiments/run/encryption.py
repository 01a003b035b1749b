"""Who can open a run's training checkpoints: `config.encrypt`.

The config names public keys and where a private key lies, never a private key;
`run.json` keeps neither, so both may change while a run goes on.
"""

import getpass
from typing import NamedTuple

from ml_collections import ConfigDict

from keyjax.keyring import (
  Identity,
  KeyringError,
  Recipient,
  as_identity,
  parse_recipient,
  read_key,
)


class People(NamedTuple):
  """Whom checkpoints are sealed for, and who goes on with the run.

  Attributes:
    recipients: who can open checkpoints; None leaves them plain.
    identities: keys that open them here.
  """

  recipients: list[Recipient] | None = None
  identities: tuple[Identity, ...] = ()


NOBODY = People()


def read(config: ConfigDict) -> People:
  """Reads `config.encrypt`.

  Raises:
    ValueError: a recipient or the key cannot be read, or a key is given and
      no recipient.
  """
  names = [name.strip() for name in config.recipients.split(",") if name]
  if not names:
    if config.identity:
      raise ValueError("encrypt.identity is for encrypt.recipients: give both")
    return NOBODY
  try:
    recipients: list[Recipient] = [parse_recipient(name) for name in names]
    if not config.identity:
      return People(recipients)
    ask = lambda: getpass.getpass("Passphrase of encrypt.identity: ")  # noqa: E731
    identity = as_identity(read_key(config.identity, ask))
  except (KeyringError, OSError) as error:
    raise ValueError(f"encrypt: {error}") from None
  return People(recipients, (identity,))
