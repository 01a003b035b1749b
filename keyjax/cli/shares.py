"""`keyjax split` and `keyjax combine`."""

import argparse
import pathlib
import re

from keyjax import private_files
from keyjax.cli.failures import REFUSED, USAGE, Failure, blame
from keyjax.cli.keygen import write_new
from keyjax.cli.output import Result
from keyjax.cli.people import People
from keyjax.keyring import SymmetricKey, refuse_checkpoint_folder
from keyjax.keyring import restore as restore_shares
from keyjax.keyring import split as split_secret

_FINGERPRINT = re.compile(r"^# .* secret ([0-9a-f-]{19})$", re.MULTILINE)
_MAX_SHARE = 4096


def split(args: argparse.Namespace) -> Result:
  """Writes the shares of a secret, or prints them."""
  secret = People(args).secret(args.source)
  with blame(USAGE):
    shares = split_secret(secret, args.threshold, args.shares)
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
  files = _write(pathlib.Path(args.out), shares, head)
  return Result(document | {"files": files}, files)


def _write(folder: pathlib.Path, shares: list[str], head: str) -> list[str]:
  """Writes a file a share, all of them or none."""
  files = [folder / f"share-{i}.txt" for i, _ in enumerate(shares, 1)]
  with blame(USAGE):
    refuse_checkpoint_folder(files[0])
  done: list[pathlib.Path] = []
  try:
    for i, (file, words) in enumerate(zip(files, shares, strict=True), 1):
      text = f"# KeyJAX share {i} {head}\n{words}\n"
      private_files.create(file, text.encode("ascii"), "key")
      done.append(file)
  except BaseException:
    for file in done:
      file.unlink(missing_ok=True)
    raise
  return [str(file) for file in files]


def combine(args: argparse.Namespace) -> Result:
  """Restores a secret from files of shares."""
  texts = [_read(path) for path in args.files]
  named = {name for text in texts for name in _FINGERPRINT.findall(text)}
  if len(named) > 1:
    raise Failure(REFUSED, "these shares are of different secrets")
  words = [
    " ".join(s for s in text.splitlines() if not s.startswith("#"))
    for text in texts
  ]
  with blame(REFUSED):
    secret = restore_shares(words, fingerprint=next(iter(named), None))
  write_new(args, args.out, secret)
  name = SymmetricKey(secret).id
  return Result({"file": args.out, "id": name, "kind": "secret"}, [name])


def _read(path: str) -> str:
  data = private_files.read(path)
  try:
    if len(data) > _MAX_SHARE:
      raise ValueError
    return data.decode("ascii")
  except ValueError:
    raise Failure(REFUSED, f"{path} is not a share") from None
