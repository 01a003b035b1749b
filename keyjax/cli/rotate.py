"""`keyjax rotate`."""

import argparse

from keyjax import checkpoint
from keyjax.cli.envelopes import added_to, public_view
from keyjax.cli.failures import Failure, classify
from keyjax.cli.output import Result
from keyjax.cli.people import People
from keyjax.keyring import Keyring


def rotate(args: argparse.Namespace) -> Result:
  """Makes a key primary, and wraps checkpoints for it.

  What cannot be wrapped again is reported, and the others are: the older keys
  still open it.
  """
  ring = People(args).ring(args.keyring)
  # Before anything changes: are they checkpoints, and whose?
  found = {
    path: public_view(path)["envelope"]["recipients"]
    for path in args.checkpoint
  }
  primary = ring.rotate()
  older = {e.recipient_id: e.id for e in ring.entries if not e.primary}
  rewrapped: dict[str, list[str]] = {}
  failed: dict[str, Failure] = {}
  for path, ids in found.items():
    used = [older[name] for name in ids if name in older]
    if not used:
      continue
    try:
      _rewrap(path, ring, set(older))
      rewrapped[path] = used
    except Exception as error:
      failed[path] = _known(error)
  document = {
    "failed": {path: str(failure) for path, failure in failed.items()},
    "primary": primary,
    "rewrapped": rewrapped,
    "untouched": [p for p in found if p not in rewrapped and p not in failed],
  }
  code = max((failure.code for failure in failed.values()), default=0)
  return Result(document, _lines(document), code, _problem(failed))


def _rewrap(path: str, ring: Keyring, older: set[str]) -> None:
  identities = ring.identities()
  recipients = added_to(path, identities, [ring.recipient()], without=older)
  checkpoint.rewrap(path, identities, recipients)


def _known(error: Exception) -> Failure:
  failure = classify(error)
  if failure is None:
    raise error
  return failure


def _problem(failed: dict[str, Failure]) -> str:
  if not failed:
    return ""
  path, failure = next(iter(failed.items()))
  return f"{len(failed)} not wrapped again, as {path}: {failure}"


def _lines(document: dict) -> list[str]:
  lines = [f"{document['primary']} is primary"]
  for path, used in document["rewrapped"].items():
    lines.append(f"{path} was wrapped for {', '.join(used)}: wrapped again")
  for path in document["untouched"]:
    lines.append(f"{path} uses no older key of this keyring")
  for path, why in document["failed"].items():
    lines.append(f"{path} still uses an older key: {why}")
  return lines
