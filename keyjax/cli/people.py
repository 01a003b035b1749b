"""Recipients and identities, as the command line names them."""

import argparse
import os
import pathlib
from collections.abc import Iterable

from keyjax import Secret
from keyjax.cli.failures import (
  CANNOT_OPEN,
  FILES,
  REFUSED,
  USAGE,
  Failure,
  blame,
)
from keyjax.cli.passphrases import ask, ask_twice, read_passphrase
from keyjax.cli.sources import (
  SOURCES,
  check_grammar,
  check_source,
  public_lines,
  refuse_file,
)
from keyjax.keyring import (
  Identity,
  Keyring,
  Passphrase,
  PrivateKey,
  Recipient,
  SigningKey,
  SymmetricKey,
  VerifyKey,
  as_identity,
  parse_recipient,
  parse_verify_key,
  read_key,
)

_DEFAULT = "KEYJAX_IDENTITY"


class People:
  """Reads keys for one command; each source once."""

  def __init__(self, args: argparse.Namespace):
    """Takes the options of a command; nothing is read yet.

    Raises:
      Failure: one of them is no source, but perhaps a passphrase.
    """
    self._passphrase = args.passphrase
    self._root = getattr(args, "root", None)
    if self._passphrase is not None:
      check_grammar(self._passphrase, "passphrase")
    if self._root is not None:
      check_grammar(self._root)
    self._known: str | None = None
    self._keys: dict[str, PrivateKey] = {}
    self._rings: dict[str, Keyring] = {}

  def key(self, source: str) -> PrivateKey:
    """Reads a private key.

    Raises:
      Failure: it is not a source, or there is no such file.
      KeyringError: it does not hold a key, or it does not open.
    """
    if source not in self._keys:
      check_source(source)
      self._keys[source] = read_key(source, lambda: self._unlock(source))
    return self._keys[source]

  def _unlock(self, source: str) -> str:
    if self._passphrase is None:
      return ask(f"Passphrase of {source}: ")
    if self._known is None:  # A descriptor is read once.
      self._known = read_passphrase(self._passphrase)
    return self._known

  def secret(self, source: str) -> Secret:
    """Reads a secret: what is split, or the root of keyrings."""
    key = self.key(source)
    if not isinstance(key, Secret):
      raise Failure(USAGE, f"{source} holds another kind of key than a secret")
    return key

  def ring(self, path: str) -> Keyring:
    """Opens a keyring with the root."""
    if path not in self._rings:
      if self._root is None:
        raise Failure(USAGE, f"the keyring {path} needs --root SOURCE")
      root = self.secret(self._root)
      if not pathlib.Path(path).exists():
        raise Failure(FILES, f"there is no keyring {path}")
      with blame(REFUSED):
        self._rings[path] = Keyring.load(path, root)
    return self._rings[path]

  def identities(self, sources: Iterable[str]) -> list[Identity]:
    """Reads the keys of `-i`, or of the environment's default.

    Raises:
      Failure: there is none.
    """
    given = list(sources) or self.default()
    if not given:
      raise Failure(
        CANNOT_OPEN,
        f"no key is given: -i SOURCE, or {_DEFAULT} in the environment",
      )
    return [identity for name in given for identity in self._identity(name)]

  @staticmethod
  def default() -> list[str]:
    """Returns the source that the environment names, if it does."""
    return [name] if (name := os.environ.get(_DEFAULT)) else []

  def _identity(self, name: str) -> list[Identity]:
    kind, _, rest = name.partition(":")
    if kind == "keyring":
      return self.ring(rest).identities()
    if kind == "passphrase":
      text = read_passphrase(rest) if rest else ask("Passphrase: ")
      return [Passphrase(text)]
    return [as_identity(self.key(name))]

  def recipients(self, names: Iterable[str]) -> list[Recipient]:
    """Reads those of `--to`.

    Raises:
      Failure: one of them cannot be read.
    """
    return [one for name in names for one in self._recipients(name)]

  def _recipients(self, name: str) -> list[Recipient]:
    kind, _, rest = name.partition(":")
    if kind == "keyring":
      return [self.ring(rest).recipient()]
    if kind == "passphrase":
      return [Passphrase(read_passphrase(rest) if rest else ask_twice())]
    if kind in SOURCES:
      return [_recipient_of(self.key(name))]
    return [*map(_parse_recipient, public_lines(name))]

  def signer(self, source: str | None) -> SigningKey | None:
    """Reads the key of `--sign`."""
    if source is None:
      return None
    key = self.key(source)
    if not isinstance(key, SigningKey):
      raise Failure(USAGE, f"{source} holds a key that does not sign")
    return key


def _recipient_of(key: PrivateKey) -> Recipient:
  """Returns whom a private key opens for."""
  if isinstance(key, Secret):
    return SymmetricKey(key)
  public = getattr(key, "public", None)
  if isinstance(key, SigningKey) or public is None:
    raise Failure(USAGE, "a recipient is a key that opens, not one that signs")
  return public


def _parse_recipient(line: str) -> Recipient:
  with blame(USAGE):
    return parse_recipient(line)


def ids(names: Iterable[str]) -> list[str]:
  """Returns the ids of recipients that are given as ids or as public keys."""
  out = []
  for name in names:
    if name.startswith(("@", "keyjax-")):
      out += [_parse_recipient(line).id for line in public_lines(name)]
    else:
      refuse_file(name)
      out.append(name)
  return out


def verify_key(name: str | None) -> VerifyKey | None:
  """Reads the key of `--verify-key`."""
  if name is None:
    return None
  lines = public_lines(name)
  if len(lines) != 1:
    raise Failure(USAGE, f"{name} holds {len(lines)} keys, and one is needed")
  with blame(USAGE):
    return parse_verify_key(lines[0])
