"""`keyjax encrypt` and `decrypt`."""

from __future__ import annotations

import argparse
import pathlib
from typing import Any

import keyjax
from keyjax.cli import tiers
from keyjax.cli.exit_codes import USAGE, Failure, keyring_errors_as
from keyjax.cli.inputs import read_json_object
from keyjax.cli.inspection import public_view
from keyjax.cli.key_reader import KeyReader, read_verify_key
from keyjax.cli.output import Result, progress_bar
from keyjax.cli.parsers import (
  add_command,
  add_expected,
  add_identities,
  add_licensee,
  add_passphrase,
  add_path,
  add_recipients,
  add_root,
  add_signer,
  add_tier,
  add_verify_key,
  byte_count,
  number,
  pattern,
)
from keyjax.errors import ArgumentError

_FORMATS = ("orbax", "safetensors", "msgpack")


def add(commands: Any) -> None:
  """Add the commands of this file."""
  _add_encrypt(commands)
  _add_decrypt(commands)


def _add_encrypt(commands: Any) -> None:
  parser = add_command(
    commands,
    encrypt,
    "encrypt",
    summary="seal weights for recipients",
    details="""
IN is a file whose name ends in .safetensors, .safetensors.index.json (with the
files that it lists) or .msgpack, or a folder with one tree: a plain Orbax
checkpoint, a CheckpointManager, or files from Hugging Face. OUT is a new
folder, written completely or not at all. Names, shapes, dtypes, the step, the
run and the metadata are encrypted too; without a key, only the total size and
the ids of the recipients can be read. IN is not changed: delete it if others
must not read it.

With --tier, some leaves have a data key and recipients of their own, so that a
key opens a part of the model. Headers of safetensors files are not kept then.
""",
    examples="""
keyjax encrypt model.safetensors model-1 --step 1000 --to @alice.key.pub \\
  --to @bob.key.pub --to keyring:team.keyring --root file:root.key \\
  --sign file:owner.key
keyjax encrypt model.safetensors tiered --to @bob.key.pub \\
  --tier "biases:.*bias:@alice.key.pub"
""",
  )
  add_path(parser, "source", metavar="IN", help="weights to read")
  add_path(parser, "target", metavar="OUT", help="checkpoint to write")
  add_recipients(parser, required=False)
  tiers.add_tiers(parser)
  add_licensee(parser)
  add_signer(parser)
  parser.add_argument(
    "--step",
    type=number,
    default=0,
    metavar="N",
    help="training step, stored encrypted; 0 by default",
  )
  parser.add_argument(
    "--name", default="", help="name of the model, stored encrypted"
  )
  parser.add_argument(
    "--run",
    dest="of_run",
    default="",
    metavar="RUN",
    help="id of the training run, stored encrypted",
  )
  add_path(
    parser,
    "--metadata",
    metavar="FILE.json",
    help="a JSON object, stored encrypted",
  )
  add_passphrase(parser)
  add_root(parser)


def encrypt(args: argparse.Namespace) -> Result:
  """Seal weights for recipients."""
  keyjax.checkpoint.check_new(args.target)
  if args.tier:
    return tiers.encrypt(args)
  if args.opens or not args.to:
    raise Failure(USAGE, "who can open it? give --to RECIPIENT, or --tier")
  metadata = read_json_object(args.metadata)
  reader = KeyReader(args)
  recipients = reader.recipients(args.to)
  signer = reader.signer(args.sign)
  licensee = reader.licensee(args.licensee)
  total = keyjax.checkpoint.stored_size(args.source)
  with (
    keyring_errors_as(USAGE),
    progress_bar("sealing", args.json, 2 * total, "both"),
  ):
    marked: dict[str, Any] = {}
    if licensee is not None:
      recipients.append(licensee.recipient())
      marked["salt"] = licensee.salt
    leaves = keyjax.checkpoint.import_weights(
      args.source,
      args.target,
      recipients,
      step=args.step,
      name=args.name,
      run=args.of_run,
      metadata=metadata,
      signer=None if signer is None else signer.private,
      **marked,
    )
  ids = [recipient.id for recipient in recipients]
  document = {
    "leaves": leaves,
    "path": args.target,
    "recipients": ids,
    "signed": signer is not None,
    "step": args.step,
  }
  lines = [f"{args.target} holds {_count(leaves)}, sealed"]
  return Result(document, lines + [f"{args.target} opens for {n}" for n in ids])


def _add_decrypt(commands: Any) -> None:
  parser = add_command(
    commands,
    decrypt,
    "decrypt",
    summary="open weights and write them unencrypted",
    details="""
OUT is new. Its suffix determines the format: .safetensors, .msgpack, or none
for a plain Orbax checkpoint, which is a folder. What was encrypted from a
safetensors file becomes the same bytes; from several files with an index, such
a folder again with --format safetensors. With --max-shard-size, OUT is a folder
of safetensors files and their index, as Hugging Face writes them. Only you can
read it (mode 600, or 700 for a folder), whatever the umask: use chmod to share
it. With --leaves, only the chunks that hold these leaves are read and opened.
Of a checkpoint with tiers, those that open are written, or those of --tier.
""",
    examples="""
keyjax decrypt model-1 opened.safetensors -i file:bob.key
keyjax decrypt model-1 kernels.safetensors -i file:bob.key \\
  --leaves ".*kernel"
keyjax decrypt model-1 shards -i file:bob.key --max-shard-size 5GB
""",
  )
  add_path(parser, "source", metavar="IN", help="checkpoint to read")
  add_path(parser, "target", metavar="OUT", help="weights to write")
  add_tier(parser)
  parser.add_argument(
    "--leaves",
    type=pattern,
    metavar="REGEX",
    help="only leaves whose whole path matches; `inspect` shows the paths",
  )
  parser.add_argument(
    "--format", choices=_FORMATS, help="format, whatever the suffix"
  )
  parser.add_argument(
    "--max-shard-size",
    type=byte_count,
    metavar="SIZE",
    help="largest size of each safetensors file, such as 5GB or 512MiB",
  )
  add_path(
    parser,
    "--metadata",
    metavar="FILE.json",
    help='metadata of safetensors files, such as {"format": "pt"}, instead of '
    "that of the file that was encrypted",
  )
  add_identities(parser)
  add_verify_key(parser)
  add_expected(parser)
  add_passphrase(parser)
  add_root(parser)


def decrypt(args: argparse.Namespace) -> Result:
  """Open a checkpoint and write it unencrypted."""
  kind = _kind(args)
  keyjax.checkpoint.check_new(args.target, kind)
  if keyjax.tiers.is_tiered(args.source):
    return tiers.decrypt(args, kind)
  tiers.folder(args.source, args.tier)
  metadata = None if args.metadata is None else read_json_object(args.metadata)
  total = public_view(args.source)["bytes"]
  identities = KeyReader(args).identities(args.identity)
  key = read_verify_key(args.verify_key)
  try:
    with progress_bar("opening", args.json, 2 * total, "both"):
      leaves = keyjax.checkpoint.export_weights(
        args.source,
        args.target,
        identities,
        kind=kind,
        leaves=args.leaves,
        step=args.step,
        name=args.name,
        run=args.of_run,
        verify_key=key,
        metadata=metadata,
        shard_bytes=args.max_shard_size,
      )
  except ArgumentError as error:  # No leaf matches; the message has a few.
    raise Failure(USAGE, f"{error}; `keyjax inspect` shows them") from None
  document = {"format": kind, "leaves": leaves, "path": args.target}
  line = f"{args.target} holds {_count(leaves)}, unencrypted"
  return Result(document, [line])


def _count(leaves: int) -> str:
  return "1 leaf" if leaves == 1 else f"{leaves} leaves"


def _kind(args: argparse.Namespace) -> str:
  """Return the format to write.

  Raises:
    Failure: If other options do not fit it.
  """
  sharded = args.max_shard_size is not None
  if sharded and pathlib.PurePath(args.target).suffix == ".safetensors":
    raise Failure(
      USAGE,
      f"{args.target} names one file: with --max-shard-size, name a folder",
    )
  kind = args.format or ("safetensors" if sharded else _format_of(args.target))
  for option in ("max_shard_size", "metadata"):
    if kind != "safetensors" and getattr(args, option) is not None:
      name = f"--{option.replace('_', '-')}"
      raise Failure(USAGE, f"{name} is for safetensors, not for {kind}")
  return kind


def _format_of(path: str) -> str:
  """Return the format of a new file; a version, as in model-1.2, is no suffix.

  Raises:
    Failure: If it has another suffix that names no format.
  """
  suffix = pathlib.PurePath(path).suffix
  is_folder = not suffix or suffix[1:].isdigit()
  try:
    return keyjax.checkpoint.weight_format(path, "orbax" if is_folder else None)
  except ArgumentError:
    raise Failure(
      USAGE,
      f"the suffix {suffix} names no format: use .safetensors, .msgpack, or no "
      "suffix for an Orbax folder; or give --format",
    ) from None
