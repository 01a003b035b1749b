"""`keyjax public`, and what may be shown of a key."""

import argparse

from keyjax import Secret
from keyjax.cli.failures import USAGE, blame
from keyjax.cli.output import Result
from keyjax.cli.people import People
from keyjax.cli.sources import SOURCES, public_lines
from keyjax.keyring import (
  HpkePrivateKey,
  HpkePublicKey,
  PrivateKey,
  RsaIdentity,
  RsaRecipient,
  SigningKey,
  SymmetricKey,
  format_recipient,
  format_verify_key,
  parse_recipient,
  parse_verify_key,
)
from keyjax.keyring.signing import SIGNING, VerifyKey, kind_of, verify_key_id

Shown = dict[str, str]


def public(args: argparse.Namespace) -> Result:
  """Shows public keys and ids."""
  people, name = People(args), args.file
  if name.startswith(("@", "keyjax-")):
    keys = [_parse(line) for line in public_lines(name)]
  elif name.endswith(".pub"):
    keys = [_parse(line) for line in public_lines(f"@{name}")]
  else:
    source = name if name.partition(":")[0] in SOURCES else f"file:{name}"
    keys = [describe(people.key(source))]
  return Result({"keys": keys}, [line for key in keys for line in lines(key)])


def describe(key: PrivateKey) -> Shown:
  """Returns what may be shown of a private key: `kind`, `id`, and a key."""
  if isinstance(key, SigningKey):
    return _verify_key(key.public)
  if isinstance(key, HpkePrivateKey | RsaIdentity):
    return _recipient(key.public)
  if isinstance(key, Secret):
    return {"id": SymmetricKey(key).id, "kind": "secret"}
  return {"id": key.id, "kind": "device"}


def lines(shown: Shown) -> list[str]:
  """Returns what `describe` did, as `@FILE` reads it: the id is a comment."""
  key = shown.get("recipient") or shown.get("verify_key")
  return [key, f"# {shown['id']}"] if key else [shown["id"]]


def _parse(line: str) -> Shown:
  kind = line.partition(":")[0].removeprefix("keyjax-")
  with blame(USAGE):
    if kind in SIGNING:
      return _verify_key(parse_verify_key(line))
    return _recipient(parse_recipient(line))


def _recipient(key: HpkePublicKey | RsaRecipient) -> Shown:
  return {"id": key.id, "kind": key.kind, "recipient": format_recipient(key)}


def _verify_key(key: VerifyKey) -> Shown:
  return {
    "id": verify_key_id(key),
    "kind": kind_of(key),
    "verify_key": format_verify_key(key),
  }
