"""`keyjax encrypt` and `keyjax decrypt`."""

import argparse
import os
from typing import Any

import jax

from keyjax import checkpoint
from keyjax.cli.documents import json_object
from keyjax.cli.envelopes import public_view
from keyjax.cli.failures import USAGE, Failure, blame
from keyjax.cli.output import Result
from keyjax.cli.people import People, verify_key
from keyjax.cli.progress import working
from keyjax.keyring import Identity, VerifyKey


def encrypt(args: argparse.Namespace) -> Result:
  """Seals weights for recipients."""
  checkpoint.check_new(args.out)
  metadata = json_object(args.metadata)
  people = People(args)
  recipients = people.recipients(args.to)
  signer = people.signer(args.sign)
  size = checkpoint.stored_size(args.source)
  with working("reading", args.json, size, "read"):
    tree = _read(args.source)
  total = _size(tree)
  with blame(USAGE), working("sealing", args.json, total, "written"):
    checkpoint.save(
      args.out,
      tree,
      recipients,
      step=args.step,
      metadata=metadata,
      signer=getattr(signer, "private", None),
    )
  ids = [person.id for person in recipients]
  document = {
    "leaves": len(jax.tree.leaves(tree)),
    "path": args.out,
    "recipients": ids,
    "signed": signer is not None,
    "step": args.step,
  }
  lines = [f"{args.out} holds {document['leaves']} leaves, sealed"]
  return Result(document, lines + [f"{args.out} opens for {n}" for n in ids])


def decrypt(args: argparse.Namespace) -> Result:
  """Opens a checkpoint and writes it in the clear."""
  if args.format is None:
    _check_suffix(args.out)
  kind = args.format or checkpoint.weight_format(args.out, "orbax")
  checkpoint.check_new(args.out, kind)
  total = public_view(args.source)["bytes"]
  identities = People(args).identities(args.identity)
  key = verify_key(args.verify_key)
  with working("opening", args.json, total, "read"):
    tree = _restore(args, identities, key)
  total = _size(tree)
  with working("writing", args.json, total, "written"):
    checkpoint.write_weights(args.out, tree, kind)
  count = len(jax.tree.leaves(tree))
  document = {"format": kind, "leaves": count, "path": args.out}
  return Result(document, [f"{args.out} holds {count} leaves in the clear"])


def _check_suffix(out: str) -> None:
  suffix = os.path.splitext(out)[1]
  # A version, as in model-1.2, is no suffix.
  if not suffix or suffix[1:].isdigit():
    return
  try:
    checkpoint.weight_format(out)
  except ValueError:
    raise Failure(
      USAGE,
      f"the suffix {suffix} names no format: there are .safetensors, .msgpack, "
      "and none for a folder of Orbax; or give --format",
    ) from None


def _restore(
  args: argparse.Namespace, identities: list[Identity], key: VerifyKey | None
) -> Any:
  try:
    return checkpoint.restore(
      args.source, identities, leaves=args.leaves, verify_key=key
    )
  except ValueError as error:
    if args.leaves is None:
      raise
    raise Failure(USAGE, f"{error}; `keyjax inspect` shows them") from None


def _read(source: str) -> Any:
  if os.path.isfile(source):
    try:
      checkpoint.weight_format(source)
    except ValueError as error:
      raise Failure(USAGE, str(error)) from None
  return checkpoint.read_weights(source)


def _size(tree: Any) -> int:
  return sum(getattr(x, "nbytes", 0) for x in jax.tree.leaves(tree))
