"""`keyjax revoke` of tiers: new data keys, where the checkpoint is."""

from __future__ import annotations

import argparse

import keyjax
from keyjax.cli.exit_codes import USAGE, Failure, keyring_errors_as
from keyjax.cli.key_reader import KeyReader, read_verify_key, recipient_ids
from keyjax.cli.output import Result
from keyjax.cli.tiers import fields, opens_for, recipients_of


def tier_and_recipients(text: str) -> list[str]:
  """Return the two fields of `--tier NAME:RECIPIENTS`."""
  return fields(text, "NAME:RECIPIENTS")


def revoke(args: argparse.Namespace) -> Result:
  """Encrypt tiers again under new data keys, where they are."""
  if args.target != args.path:
    raise Failure(
      USAGE, "tiers are encrypted again inside PATH: give it as OUT"
    )
  if args.to or args.licensee:
    raise Failure(USAGE, "--to and --licensee are not for tiers")
  reader = KeyReader(args)
  identities = reader.identities(args.identity)
  new = {
    name: reader.recipients(recipients.split(","))
    for name, recipients in args.tier
  }
  revoked = recipient_ids(args.recipient)
  _check(args.path, revoked, new)
  with keyring_errors_as(USAGE):
    signer = reader.signer(args.sign)
    verify_key = read_verify_key(args.verify_key)
  keyjax.tiers.reencrypt(
    args.path,
    identities,
    new,
    revoked=revoked,
    reinstate=args.reinstate,
    signer=None if signer is None else signer.private,
    verify_key=verify_key,
  )
  found = keyjax.tiers.inspect(args.path)
  lines = opens_for(args.path, found)
  lines += [f"{name} was revoked" for name in revoked]
  lines.append(
    "delete copies of these tiers: whoever could open them still can"
  )
  recipients = recipients_of(found)
  document = {"path": args.path, "revoked": revoked, "tiers": recipients}
  return Result(document, lines)


def _check(
  path: str,
  revoked: list[str],
  new: dict[str, list[keyjax.keyring.Recipient]],
) -> None:
  """Raise a `Failure` unless the revoked lose access to these tiers."""
  before = recipients_of(keyjax.tiers.inspect(path))
  known = {one for name in new for one in before.get(name, ())}
  if unknown := [one for one in revoked if one not in known]:
    raise Failure(USAGE, f"{unknown[0]} is no recipient of these tiers")
  after = {one.id for recipients in new.values() for one in recipients}
  if both := [one for one in revoked if one in after]:
    raise Failure(USAGE, f"{both[0]} is both revoked and in --tier")
