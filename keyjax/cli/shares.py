"""`keyjax split` and `keyjax combine`."""

import argparse
import pathlib
import re
from typing import Any

import keyjax
from keyjax import private_files
from keyjax.cli.exit_codes import REFUSED, USAGE, Failure, keyring_errors_as
from keyjax.cli.key_reader import KeyReader
from keyjax.cli.keys import write_new_key
from keyjax.cli.output import Result
from keyjax.cli.parsers import (
  add_command,
  add_passphrase,
  add_path,
  add_plain,
  number,
)

_FINGERPRINT = re.compile(r"^# .* secret ([0-9a-f-]{19})$", re.MULTILINE)
_MAX_SHARE = 4096


def add(commands: Any) -> None:
  """Add `split` and `combine`."""
  _add_split(commands)
  _add_combine(commands)


def _add_split(commands: Any) -> None:
  parser = add_command(
    commands,
    split,
    "split",
    summary="split a secret into shares, some of which restore it",
    details="""
Each share is a SLIP-39 mnemonic of 33 words in a file with mode 600; give each
to another person or keep it in another place. Fewer than K shares reveal
nothing about the secret.
""",
    examples="""
keyjax split file:root.key --threshold 2 --shares 3 --out shares
""",
  )
  parser.add_argument("source", metavar="SOURCE", help="the secret")
  parser.add_argument(
    "--threshold",
    type=number,
    required=True,
    metavar="K",
    help="number of shares that restore it, 2 or more",
  )
  parser.add_argument(
    "--shares",
    type=number,
    required=True,
    metavar="N",
    help="number of shares, at most 16",
  )
  output = parser.add_mutually_exclusive_group(required=True)
  add_path(output, "--out", metavar="DIR", help="folder for share-1.txt ...")
  output.add_argument(
    "--print", action="store_true", help="print the shares instead"
  )
  add_passphrase(parser)


def split(args: argparse.Namespace) -> Result:
  """Write the shares of a secret, or print them."""
  secret = KeyReader(args).secret(args.source)
  with keyring_errors_as(USAGE):
    shares = keyjax.keyring.split_secret(secret, args.threshold, args.shares)
  document = {
    "fingerprint": secret.fingerprint(),
    "shares": args.shares,
    "threshold": args.threshold,
  }
  if args.print:
    return Result(document | {"words": shares}, shares)
  head = (
    f"of {args.shares}, any {args.threshold} of them restore the secret "
    f"{secret.fingerprint()}"
  )
  files = _write_shares(pathlib.Path(args.out), shares, head)
  return Result(document | {"files": files}, files)


def _write_shares(
  folder: pathlib.Path, shares: list[str], head: str
) -> list[str]:
  """Write one file for each share, all of them or none."""
  files = [folder / f"share-{i}.txt" for i, _ in enumerate(shares, 1)]
  with keyring_errors_as(USAGE):
    private_files.refuse_checkpoint_folder(files[0])
  written: list[pathlib.Path] = []
  try:
    for i, (file, words) in enumerate(zip(files, shares, strict=True), 1):
      text = f"# KeyJAX share {i} {head}\n{words}\n"
      private_files.create(file, text.encode("ascii"), "key")
      written.append(file)
  except BaseException:
    for file in written:
      file.unlink(missing_ok=True)
    raise
  return [str(file) for file in files]


def _add_combine(commands: Any) -> None:
  parser = add_command(
    commands,
    combine,
    "combine",
    summary="restore a secret from shares",
    details="""
The restored secret must match the fingerprint in the files; otherwise nothing
is written.
""",
    examples="""
keyjax combine shares/share-1.txt shares/share-3.txt --out again.key --plain
""",
  )
  add_path(parser, "files", nargs="+", metavar="FILE", help="the shares")
  add_path(
    parser, "--out", required=True, metavar="FILE", help="the new key file"
  )
  add_plain(parser)
  add_passphrase(parser)


def combine(args: argparse.Namespace) -> Result:
  """Restore a secret from files with shares."""
  texts = [_read_share(path) for path in args.files]
  named = {name for text in texts for name in _FINGERPRINT.findall(text)}
  if len(named) > 1:
    raise Failure(REFUSED, "these shares are of different secrets")
  words = [
    " ".join(s for s in text.splitlines() if not s.startswith("#"))
    for text in texts
  ]
  with keyring_errors_as(REFUSED):
    secret = keyjax.keyring.combine_shares(
      words,
      fingerprint=next(iter(named), None),
      max_cost=KeyReader(args).max_cost,
    )
  write_new_key(args.out, secret, args)
  name = keyjax.keyring.SymmetricKey(secret).id
  return Result({"file": args.out, "id": name, "kind": "secret"}, [name])


def _read_share(path: str) -> str:
  data = private_files.as_utf8(private_files.read(path))
  if len(data) > _MAX_SHARE or not data.isascii():
    raise Failure(REFUSED, f"{path} is not a share")
  return data.decode("ascii")
