"""The keys, recipients and identities that a command's options name."""

from __future__ import annotations

import argparse
import os
import pathlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import keyjax
from keyjax.cli.exit_codes import (
  CANNOT_OPEN,
  FILES,
  REFUSED,
  USAGE,
  Failure,
  keyring_errors_as,
)
from keyjax.cli.inputs import (
  SOURCES,
  ask_new_passphrase,
  ask_passphrase,
  check_source,
  is_public,
  parse_source,
  public_lines,
  read_passphrase,
  refuse_file,
)

if TYPE_CHECKING:
  from cryptography.hazmat.primitives.asymmetric.ec import (
    EllipticCurvePrivateKey,
  )

_DEFAULT_IDENTITY = "KEYJAX_IDENTITY"


class KeyReader:
  """Reader of the keys of one command; it reads each source once."""

  def __init__(self, args: argparse.Namespace):
    """Check the options of a command; nothing is read yet.

    Raises:
      Failure: If `--passphrase` or `--root` is not a source.
    """
    self._passphrase_source = getattr(args, "passphrase", None)
    self._root_source = getattr(args, "root", None)
    self._any_cost = getattr(args, "any_cost", False)
    if self._passphrase_source is not None:
      parse_source(self._passphrase_source, "passphrase")
    if self._root_source is not None:
      parse_source(self._root_source)
    self._passphrase: str | None = None
    self._keys: dict[str, keyjax.keyring.PrivateKey] = {}
    self._rings: dict[str, keyjax.keyring.Keyring] = {}

  def key(self, source: str) -> keyjax.keyring.PrivateKey:
    """Read a private key.

    Raises:
      Failure: If this is not a source, or the file does not exist.
      KeyringError: If it contains no key, or does not open.
    """
    if source not in self._keys:
      check_source(source)
      self._keys[source] = keyjax.keyring.read_key(
        source, lambda: self._passphrase_of(source), max_cost=self.max_cost
      )
    return self._keys[source]

  @property
  def max_cost(self) -> keyjax.keyring.Cost:
    """Largest cost of a passphrase to spend."""
    cost = keyjax.keyring.Cost
    return cost(2**20, 4, 16) if self._any_cost else keyjax.keyring.MAX_COST

  def _passphrase_of(self, source: str) -> str:
    if self._passphrase_source is None:
      return ask_passphrase(f"Passphrase of {source}: ")
    if self._passphrase is None:  # A descriptor can be read only once.
      self._passphrase = read_passphrase(self._passphrase_source)
    return self._passphrase

  def passphrase(self, source: str) -> str:
    """Read a passphrase from a source, or prompt for it without one."""
    return read_passphrase(source) if source else ask_passphrase()

  def new_passphrase(self, source: str) -> str:
    """Read a new passphrase from a source, or prompt for it twice."""
    return read_passphrase(source) if source else ask_new_passphrase()

  def pin(self, source: str, name: str, *, new: bool = False) -> str:
    """Read the PIN of a device from a source, or prompt for it without one."""
    if source:
      return read_passphrase(source)
    instead = "the SOURCE of the PIN"
    pin = ask_passphrase(f"{'New ' * new}PIN of {name}: ", instead)
    if new and ask_passphrase("Again: ", instead) != pin:
      raise Failure(USAGE, "the two PINs differ")
    return pin

  def secret(self, source: str) -> keyjax.Secret:
    """Read a secret: one to split, or the root of keyrings."""
    key = self.key(source)
    if not isinstance(key, keyjax.Secret):
      raise Failure(USAGE, f"{source} holds another kind of key than a secret")
    return key

  def ring(self, path: str) -> keyjax.keyring.Keyring:
    """Open a keyring with the root secret."""
    if path not in self._rings:
      if self._root_source is None:
        raise Failure(USAGE, f"the keyring {path} needs --root SOURCE")
      root = self.secret(self._root_source)
      if not pathlib.Path(path).exists():
        raise Failure(FILES, f"there is no keyring {path}")
      with keyring_errors_as(REFUSED):
        self._rings[path] = keyjax.keyring.Keyring.load(path, root)
    return self._rings[path]

  def identities(self, names: Iterable[str]) -> list[keyjax.keyring.Identity]:
    """Read the keys of `-i`, or the default one of the environment.

    Raises:
      Failure: If no key is given.
    """
    given = list(names) or default_identity()
    if not given:
      raise Failure(
        CANNOT_OPEN,
        f"no key is given: -i SOURCE, or {_DEFAULT_IDENTITY} in the "
        "environment",
      )
    return [identity for name in given for identity in self._identities(name)]

  def _identities(self, name: str) -> list[keyjax.keyring.Identity]:
    kind, _, rest = name.partition(":")
    if kind == "keyring":
      return self.ring(rest).identities()
    argument = _argument(kind)
    if argument is None:
      return [keyjax.keyring.as_identity(self.key(name))]
    if argument.identity is None:
      raise Failure(USAGE, f"{argument.form} is a recipient; it opens nothing")
    return [argument.identity(rest, self)]

  def recipients(self, names: Iterable[str]) -> list[keyjax.keyring.Recipient]:
    """Read the recipients of `--to`.

    Raises:
      Failure: If one of them cannot be read.
    """
    return [one for name in names for one in self._recipients(name)]

  def _recipients(self, name: str) -> list[keyjax.keyring.Recipient]:
    kind, _, rest = name.partition(":")
    if kind == "keyring":
      return [self.ring(rest).recipient()]
    if kind in SOURCES:
      return [_recipient_of(self.key(name))]
    argument = _argument(kind)
    if argument is None:
      return [*map(_parse_recipient, public_lines(name))]
    if argument.recipient is None:
      raise Failure(USAGE, f"{argument.form} is not a recipient")
    return [argument.recipient(rest, self)]

  def licensee(self, name: str | None) -> keyjax.keyring.Licensee | None:
    """Read the licensee of `--licensee`."""
    if name is None:
      return None
    path, mark, licensee = name.rpartition("#")
    if not mark:
      raise Failure(USAGE, "a licensee is named KEYRING#NAME")
    with keyring_errors_as(USAGE):
      return self.ring(path).licensee(licensee)

  def signer(self, source: str | None) -> keyjax.keyring.SigningKey | None:
    """Read the key of `--sign`."""
    if source is None:
      return None
    key = self.key(source)
    if not isinstance(key, keyjax.keyring.SigningKey):
      raise Failure(USAGE, f"{source} holds a key that does not sign")
    return key

  def model_key(self, source: str) -> EllipticCurvePrivateKey:
    """Read the key of `sign --key`, which is PEM of an elliptic curve."""
    check_source(source)
    with keyjax.keyring.read_source(source) as data, keyring_errors_as(USAGE):
      try:
        return keyjax.signatures.read_signing_key(
          bytes(data),
          lambda: self._passphrase_of(source),
          max_cost=self.max_cost,
        )
      except keyjax.keyring.WrongPassphrase:
        name = source.removeprefix("file:")
        raise keyjax.keyring.WrongPassphrase(name) from None


def default_identity() -> list[str]:
  """Return the source that the environment names, if it names one."""
  name = os.environ.get(_DEFAULT_IDENTITY)
  return [name] if name else []


def _argument(kind: str) -> keyjax.keyring.Argument | None:
  """Return how `--to` and `-i` name a kind, if they do."""
  registered = keyjax.keyring.kinds().get(kind)
  return None if registered is None else registered.argument


def _recipient_of(
  key: keyjax.keyring.PrivateKey,
) -> keyjax.keyring.Recipient:
  """Return the recipient whose envelopes a private key opens."""
  recipient = keyjax.keyring.kind_of(key).recipient
  if recipient is None:
    raise Failure(USAGE, "a recipient is a key that opens, not one that signs")
  return recipient(key)


def _parse_recipient(line: str) -> keyjax.keyring.Recipient:
  with keyring_errors_as(USAGE):
    return keyjax.keyring.parse_recipient(line)


def recipient_ids(names: Iterable[str]) -> list[str]:
  """Return the ids of recipients given as ids or as public keys."""
  ids: list[str] = []
  for name in names:
    if is_public(name):
      ids += [_parse_recipient(line).id for line in public_lines(name)]
    else:
      refuse_file(name)
      ids.append(name)
  return ids


def read_verify_key(name: str | None) -> keyjax.keyring.VerifyKey | None:
  """Read the key of `--verify-key`."""
  if name is None:
    return None
  lines = public_lines(name)
  if len(lines) != 1:
    raise Failure(USAGE, f"{name} holds {len(lines)} keys, and one is needed")
  with keyring_errors_as(USAGE):
    return keyjax.keyring.parse_verify_key(lines[0])
