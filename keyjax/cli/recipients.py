"""`keyjax rewrap`, `revoke` and `rotate`: who can open a checkpoint."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from typing import Any

import keyjax
from keyjax.cli import revoking, tiers
from keyjax.cli.exit_codes import USAGE, Failure, classify, keyring_errors_as
from keyjax.cli.inspection import public_view
from keyjax.cli.key_reader import KeyReader, read_verify_key, recipient_ids
from keyjax.cli.output import Result, progress_bar
from keyjax.cli.parsers import (
  add_checkpoint,
  add_command,
  add_identities,
  add_licensee,
  add_passphrase,
  add_path,
  add_recipients,
  add_root,
  add_signer,
  add_tier,
  add_verify_key,
)


def add(commands: Any) -> None:
  """Add the commands of this file."""
  _add_rewrap(commands)
  _add_revoke(commands)
  _add_rotate(commands)


def _add_rewrap(commands: Any) -> None:
  parser = add_command(
    commands,
    rewrap,
    "rewrap",
    summary="change the recipients of a checkpoint",
    details="""
The data key stays the same and no tensor is touched: use it to add recipients.
Anyone who could open the checkpoint may have kept the data key: to exclude
them, use `revoke`. --to replaces all recipients; with --keep it adds to them.
Of a checkpoint with tiers, give the --tier; the others are not touched. Without
--keep, a tier no longer opens for the recipients of a higher one.
""",
    examples="""
keyjax keygen x25519 carol.key --pub --plain
keyjax rewrap model-1 -i file:bob.key --keep --to @carol.key.pub
keyjax keygen secret service/team-a.key --plain
keyjax rewrap model-1 -i file:bob.key --keep --to kms:service#team-a
""",
  )
  add_checkpoint(parser)
  add_tier(parser)
  add_identities(parser)
  add_recipients(parser)
  parser.add_argument(
    "--keep", action="store_true", help="keep the present recipients"
  )
  _add_reinstate(parser)
  add_passphrase(parser)
  add_root(parser)


def rewrap(args: argparse.Namespace) -> Result:
  """Change the recipients of a checkpoint, with the same data key."""
  path = tiers.folder(args.path, args.tier)
  before = public_view(path)["envelope"]
  reader = KeyReader(args)
  identities = tiers.with_sub_keys(args.path, reader.identities(args.identity))
  recipients = reader.recipients(args.to)
  # Without --keep too: a key that opens nothing is reported first.
  extended = _extended_recipients(path, identities, recipients)
  with keyring_errors_as(USAGE):
    keyjax.checkpoint.rewrap(
      path,
      identities,
      extended if args.keep else recipients,
      reinstate=args.reinstate,
    )
  after = public_view(path)["envelope"]["recipients"]
  removed = [name for name in before["recipients"] if name not in after]
  reinstated = [name for name in after if name in before["revoked"]]
  lines = [f"{path} opens for {name}" for name in after]
  lines += [
    f"{name} is no longer a recipient; whoever kept the data key or the old "
    "envelope can still open it: see keyjax revoke"
    for name in removed
  ]
  lines += [f"{name} was revoked and is reinstated" for name in reinstated]
  document = {
    "path": path,
    "recipients": after,
    "reinstated": reinstated,
    "removed": removed,
  }
  return Result(document, lines)


def _extended_recipients(
  path: str,
  identities: Sequence[keyjax.keyring.Identity],
  added: Sequence[keyjax.keyring.Recipient],
  without: Collection[str] = (),
) -> list[keyjax.keyring.Recipient]:
  """Return the recipients of a checkpoint and further ones.

  Args:
    path: Checkpoint.
    identities: Keys that open it.
    added: New recipients; for present ones the key is wrapped again.
    without: Ids of recipients to leave out.

  Raises:
    KeyringError: If no key opens it.
  """
  replaced = {*without, *(recipient.id for recipient in added)}
  envelope = keyjax.checkpoint.read_envelope(path)
  present = keyjax.keyring.existing_recipients(envelope, identities)
  return [*(x for x in present if x.id not in replaced), *added]


def _add_revoke(commands: Any) -> None:
  parser = add_command(
    commands,
    revoke,
    "revoke",
    summary="encrypt again under a new data key, without some recipients",
    details="""
Anyone who could open PATH may have kept its data key, so a new envelope would
not be enough: OUT has a new data key, wrapped only for --to. Delete PATH and
its copies: its recipients can open those forever, and anyone who copied the
weights keeps them. To revoke licensees of a tree, give the tree without them:
--to broadcast:SOURCE#DEPTH-REVOKED.

Of a checkpoint with tiers, OUT is PATH, and --tier NAME:RECIPIENTS takes the
place of --to: these tiers are encrypted again inside PATH, and no other is
touched. Give the lower tiers that one opens with it.

A signature does not carry over: give --sign. Any recipient can have replaced
weights in PATH, so it must then have a signature too: by the same key, or by
--verify-key.
""",
    examples="""
keyjax revoke model-1 model-2 -i file:bob.key --recipient @carol.key.pub \\
  --to @alice.key.pub --to @bob.key.pub --to keyring:team.keyring \\
  --root file:root.key --sign file:owner.key
""",
  )
  add_checkpoint(parser)
  add_path(parser, "target", metavar="OUT", help="the new checkpoint")
  add_identities(parser)
  parser.add_argument(
    "--tier",
    type=revoking.tier_and_recipients,
    action="append",
    default=[],
    metavar="NAME:RECIPIENTS",
    help="encrypt this tier again for these, as in --to, with commas between "
    "them; can be repeated",
  )
  parser.add_argument(
    "--recipient",
    action="append",
    default=[],
    metavar="ID",
    help="who loses access: an id that `inspect` shows, keyjax-KIND:..., or "
    "@FILE; can be repeated",
  )
  add_recipients(parser, required=False)
  add_licensee(parser)
  _add_reinstate(parser)
  add_signer(parser)
  add_verify_key(parser)
  add_passphrase(parser)
  add_root(parser)


def revoke(args: argparse.Namespace) -> Result:
  """Write a checkpoint again under a new data key, without some recipients."""
  if args.tier:
    return revoking.revoke(args)
  if not args.to:
    raise Failure(USAGE, "who keeps access? give --to RECIPIENT, or --tier")
  before = public_view(args.path)["envelope"]["recipients"]
  revoked = recipient_ids(args.recipient)
  if unknown := [name for name in revoked if name not in before]:
    raise Failure(USAGE, f"{unknown[0]} is no recipient of {args.path}")
  reader = KeyReader(args)
  identities = reader.identities(args.identity)
  recipients = reader.recipients(args.to)
  trees = [
    tree
    for tree in recipients
    if isinstance(tree, keyjax.keyring.Broadcast) and tree.revoked
  ]
  if not (revoked or trees):
    raise Failure(
      USAGE,
      "who loses access? give --recipient ID, or a tree without some of its "
      "licensees: --to broadcast:SOURCE#DEPTH-REVOKED",
    )
  licensee = reader.licensee(args.licensee)
  marked: dict[str, Any] = {}
  if licensee is not None:
    with keyring_errors_as(USAGE):
      recipients.append(licensee.recipient())
    marked["salt"] = licensee.salt
  after = [recipient.id for recipient in recipients]
  if both := [name for name in after if name in revoked]:
    raise Failure(USAGE, f"{both[0]} is both revoked and in --to")
  # A key that does not open the checkpoint is reported before anything else.
  total = keyjax.checkpoint.inspect(args.path, identities)["bytes"]
  with keyring_errors_as(USAGE):
    signer = reader.signer(args.sign)
    verify_key = read_verify_key(args.verify_key)
  with (
    keyring_errors_as(USAGE),
    progress_bar("encrypting again", args.json, total, "written"),
  ):
    keyjax.checkpoint.reencrypt(
      args.path,
      args.target,
      identities,
      recipients,
      revoked=revoked,
      reinstate=args.reinstate,
      signer=None if signer is None else signer.private,
      verify_key=verify_key,
      **marked,
    )
  dropped = [n for n in before if n not in after and n not in revoked]
  lines = [f"{args.target} opens for {name}" for name in after]
  lines += [f"{name} was revoked" for name in revoked]
  lines += [
    f"licensee {number} of {tree.id} has no access"
    for tree in trees
    for number in sorted(tree.revoked)
  ]
  lines += [f"{name} was not in --to and has no access" for name in dropped]
  lines.append(
    f"delete {args.path} and its copies: whoever could open them still can"
  )
  document = {
    "dropped": dropped,
    "path": args.target,
    "recipients": after,
    "revoked": revoked,
  }
  return Result(document, lines)


def _add_rotate(commands: Any) -> None:
  parser = add_command(
    commands,
    rotate,
    "rotate",
    summary="add a new primary key to a keyring",
    details="""
Checkpoints that are given, and that an older key of the keyring opens, are
wrapped for the new key instead; other recipients stay. No tensor is touched.
The older keys still open all other checkpoints. Rotation does not exclude
someone who has an old key: see `revoke`.
""",
    examples="""
keyjax rotate team.keyring --root file:root.key --checkpoint model-1 model-2
""",
  )
  add_path(parser, "keyring", metavar="KEYRING", help="file of the keyring")
  add_path(
    parser,
    "--checkpoint",
    nargs="+",
    action="extend",
    default=[],
    metavar="PATH",
    help="sealed checkpoints",
  )
  add_passphrase(parser)
  add_root(parser)


def rotate(args: argparse.Namespace) -> Result:
  """Add a new primary key to a keyring, and rewrap checkpoints for it.

  A checkpoint that cannot be rewrapped is reported, and the older keys still
  open it; the others are rewrapped.
  """
  ring = KeyReader(args).ring(args.keyring)
  # Read the envelopes first: nothing changes if one is not a checkpoint.
  found = {
    path: public_view(path)["envelope"]["recipients"]
    for given in args.checkpoint
    for path in tiers.folders(given)
  }
  primary = ring.rotate()
  older = {e.recipient_id: e.id for e in ring.entries if not e.primary}
  rewrapped: dict[str, list[str]] = {}
  failed: dict[str, Failure] = {}
  for path, names in found.items():
    used = [older[name] for name in names if name in older]
    if not used:
      continue
    try:
      _rewrap_for_primary(path, ring, older)
      rewrapped[path] = used
    except Exception as error:
      failure = classify(error)
      if failure is None:
        raise
      failed[path] = failure
  document = {
    "failed": {path: str(failure) for path, failure in failed.items()},
    "primary": primary,
    "rewrapped": rewrapped,
    "untouched": [p for p in found if p not in rewrapped and p not in failed],
  }
  code = max((failure.code for failure in failed.values()), default=0)
  return Result(document, _rotation_lines(document), code, _problem(failed))


def _rewrap_for_primary(
  path: str, ring: keyjax.keyring.Keyring, older: Collection[str]
) -> None:
  identities = ring.identities()
  recipients = _extended_recipients(
    path, identities, [ring.recipient()], without=older
  )
  keyjax.checkpoint.rewrap(path, identities, recipients)


def _problem(failed: dict[str, Failure]) -> str:
  if not failed:
    return ""
  path, failure = next(iter(failed.items()))
  return f"{len(failed)} not rewrapped, such as {path}: {failure}"


def _rotation_lines(document: dict[str, Any]) -> list[str]:
  lines = [f"{document['primary']} is primary"]
  for path, used in document["rewrapped"].items():
    lines.append(f"{path} was wrapped for {', '.join(used)}: rewrapped")
  for path in document["untouched"]:
    lines.append(f"{path} uses no older key of this keyring")
  for path, reason in document["failed"].items():
    lines.append(f"{path} still uses an older key: {reason}")
  return lines


def _add_reinstate(parser: Any) -> None:
  parser.add_argument(
    "--reinstate",
    action="store_true",
    help="allow recipients in --to that were revoked before",
  )
