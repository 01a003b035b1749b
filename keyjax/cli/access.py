"""`keyjax rewrap` and `keyjax revoke`."""

import argparse
import contextlib

from keyjax import checkpoint
from keyjax.cli.envelopes import added_to, public_view
from keyjax.cli.failures import USAGE, Failure, blame
from keyjax.cli.output import Result
from keyjax.cli.people import People, ids, verify_key
from keyjax.cli.progress import working
from keyjax.keyring import CannotOpen, Identity, Recipient


def rewrap(args: argparse.Namespace) -> Result:
  """Gives a checkpoint other recipients, with the same data key."""
  before = public_view(args.path)["envelope"]
  people = People(args)
  identities = people.identities(args.identity)
  recipients = people.recipients(args.to)
  together = added_to(args.path, identities, recipients)
  with blame(USAGE):
    checkpoint.rewrap(
      args.path,
      identities,
      together if args.keep else recipients,
      reinstate=args.reinstate,
    )
  after = public_view(args.path)["envelope"]["recipients"]
  gone = [name for name in before["recipients"] if name not in after]
  back = [name for name in after if name in before["revoked"]]
  lines = [f"{args.path} opens for {name}" for name in after]
  lines += [
    f"{name} is no recipient any more; who kept the data key or the old "
    "envelope still opens it: see keyjax revoke"
    for name in gone
  ]
  lines += [f"{name} was revoked and is back" for name in back]
  document = {
    "path": args.path,
    "recipients": after,
    "reinstated": back,
    "removed": gone,
  }
  return Result(document, lines)


def revoke(args: argparse.Namespace) -> Result:
  """Writes a checkpoint again under a new data key, without some."""
  envelope = public_view(args.path)["envelope"]
  before, former = envelope["recipients"], envelope["revoked"]
  revoked = ids(args.recipient)
  if strange := [name for name in revoked if name not in before]:
    raise Failure(USAGE, f"{strange[0]} is no recipient of {args.path}")
  people = People(args)
  identities = people.identities(args.identity)
  recipients = people.recipients(args.to)
  after = [person.id for person in recipients]
  _check_new(after, revoked, [] if args.reinstate else former)
  # First of all: who cannot open it gets that error, and not another.
  total = checkpoint.inspect(args.path, identities)["bytes"]
  with (
    blame(USAGE),
    working("encrypting again", args.json, total, "written"),
  ):
    checkpoint.reencrypt(
      args.path,
      args.out,
      identities,
      recipients,
      signer=getattr(people.signer(args.sign), "private", None),
      verify_key=verify_key(args.verify_key),
    )
    told = [*revoked, *(name for name in former if name not in after)]
    _tell(args.out, identities, recipients, told)
  dropped = [n for n in before if n not in after and n not in revoked]
  lines = [f"{args.out} opens for {name}" for name in after]
  lines += [f"{name} was revoked" for name in revoked]
  lines += [f"{name} was not in --to and has no access" for name in dropped]
  lines.append(
    f"delete {args.path} and its copies: whoever could open them still can"
  )
  document = {
    "dropped": dropped,
    "path": args.out,
    "recipients": after,
    "revoked": revoked,
  }
  return Result(document, lines)


def _check_new(after: list[str], revoked: list[str], former: list[str]) -> None:
  for name in after:
    if name in revoked:
      raise Failure(USAGE, f"{name} is both revoked and in --to")
    if name in former:
      raise Failure(
        USAGE, f"{name} was revoked; only --reinstate gives access again"
      )


def _tell(
  path: str,
  identities: list[Identity],
  recipients: list[Recipient],
  revoked: list[str],
) -> None:
  """Has the envelope tell the revoked why it does not open for them."""
  # Who revokes need not be among the recipients; then it stays untold.
  with contextlib.suppress(CannotOpen):
    checkpoint.rewrap(path, identities, recipients, revoked=revoked)
