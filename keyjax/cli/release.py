"""`keyjax serve-keys` and `approve`."""

from __future__ import annotations

import argparse
import contextlib
import pathlib
from collections.abc import Callable
from typing import Any

import keyjax
from keyjax.cli.exit_codes import REFUSED, USAGE, keyring_errors_as
from keyjax.cli.inputs import refuse_existing
from keyjax.cli.key_reader import KeyReader
from keyjax.cli.output import Result, show
from keyjax.cli.parsers import (
  add_command,
  add_identities,
  add_passphrase,
  add_path,
  add_root,
  number,
)

_SERVE = """\
keyjax serve-keys --policy policy.toml --state state -i file:server.key \\
  --sign file:log.key --cert server.pem --cert-key server.tls.key \\
  --client-ca clients.pem --listen 127.0.0.1:8443"""
_APPROVE = """\
keyjax approve request.json
keyjax approve request.json --sign file:owner.key"""


def add(commands: Any) -> None:
  """Add the commands of this file."""
  _add_serve(commands)
  _add_approve(commands)


def _add_serve(commands: Any) -> None:
  parser = add_command(
    commands,
    serve,
    "serve-keys",
    summary="release data keys to callers whom a policy names",
    details="""
Whoever has a certificate that --client-ca certifies, and that the policy names,
can have a data key unwrapped that is wrapped for -i: within the policy's uses,
rates and dates, after approvals and evidence where it wants them. The policy
(TOML) is described in keyjax.release.policy, the file of callers
(-i release:FILE) in keyjax.keyring.recipients.release. Changes of the policy
count at once. Every release is logged in --state before it is answered.

It needs pip install 'keyjax[release]', and runs until SIGTERM or SIGINT.
""",
    examples=_SERVE,
  )
  add_path(
    parser, "--policy", required=True, metavar="FILE.toml", help="the policy"
  )
  add_path(
    parser,
    "--state",
    complete="directory",
    required=True,
    metavar="DIR",
    help="folder of counters and the log, which is created",
  )
  add_identities(parser)
  parser.add_argument(
    "--sign", required=True, metavar="SOURCE", help="ed25519 key of the log"
  )
  for name, text in (
    ("--cert", "certificate of the server and its chain"),
    ("--cert-key", "its private key, mode 600, without a passphrase"),
    ("--client-ca", "certificates of those who certify callers"),
  ):
    add_path(parser, name, required=True, metavar="FILE.pem", help=text)
  parser.add_argument(
    "--listen",
    type=_address,
    default=("127.0.0.1", 8443),
    metavar="HOST:PORT",
    help="address to listen on; 127.0.0.1:8443 by default, port 0 is any",
  )
  add_passphrase(parser)
  add_root(parser)


def _address(text: str) -> tuple[str, int]:
  host, colon, port = text.rpartition(":")
  if not (host and colon and port.isdigit() and int(port) < 1 << 16):
    raise argparse.ArgumentTypeError("not an address such as 127.0.0.1:8443")
  return host.strip("[]"), int(port)


def serve(args: argparse.Namespace) -> Result:
  """Serve until a signal ends it."""
  import asyncio  # Of these imports, no other command needs any.
  import logging
  import resource

  reader = KeyReader(args)
  identities = reader.identities(args.identity)
  signer = reader.signer(args.sign)
  assert signer is not None  # It is required.
  with keyring_errors_as(USAGE):
    policy = keyjax.release.PolicyFile(args.policy)
    tls = keyjax.keyring.tls.server_context(
      client_ca=args.client_ca, certificate=args.cert, key=args.cert_key
    )
  for identity in identities:
    if isinstance(identity, keyjax.keyring.HardwareKey):
      identity.ask_pin()  # Later there may be no terminal.
  resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # It would hold the keys.
  logging.basicConfig(format="keyjax: %(message)s")
  name = policy.current().name
  with keyjax.release.open_state(args.state, name, signer) as state:
    releaser = keyjax.release.Releaser(policy, identities, state)
    with contextlib.closing(releaser):
      asyncio.run(_serve(releaser, tls, args.listen, _announce(name, args)))
  return Result({"served": name}, [f"{name} is no longer served"])


def _announce(name: str, args: argparse.Namespace) -> Callable[[str], None]:
  def announce(url: str) -> None:
    show(
      Result({"name": name, "url": url}, [f"{url} serves {name}"]), args.json
    )

  return announce


async def _serve(
  releaser: keyjax.release.Releaser,
  tls: Any,
  address: tuple[str, int],
  announce: Callable[[str], None],
) -> None:
  import asyncio
  import signal

  ended = asyncio.Event()
  loop = asyncio.get_running_loop()
  for name in (signal.SIGINT, signal.SIGTERM):
    loop.add_signal_handler(name, ended.set)
  host, port = address
  async with keyjax.release.serving(releaser, tls, host=host, port=port) as url:
    announce(url)
    await ended.wait()


def _add_approve(commands: Any) -> None:
  parser = add_command(
    commands,
    approve,
    "approve",
    summary="show a request for a release, and approve it",
    details="""
REQUEST is the file that a caller was told to have approved. Without --sign it
is only shown: compare the caller, the checkpoint and the server with what you
were asked for, in another way than by this file. An approval is for this
request alone, and for one release. Send the new file to the caller, who puts it
next to the request.
""",
    examples=_APPROVE,
  )
  add_path(parser, "request", metavar="REQUEST", help="the request")
  parser.add_argument(
    "--sign", metavar="SOURCE", help="ed25519 key of the approver"
  )
  parser.add_argument(
    "--seconds",
    type=number,
    default=3600,
    metavar="N",
    help="how long the approval is valid; an hour by default",
  )
  add_path(
    parser,
    "--out",
    metavar="FILE",
    help="the approval; next to the request by default",
  )
  add_passphrase(parser)


def approve(args: argparse.Namespace) -> Result:
  """Show a request, and approve it if a key is given."""
  path = pathlib.Path(args.request)
  with keyring_errors_as(REFUSED):
    request = keyjax.release.approvals.parse_request(path.read_bytes())
  document: dict[str, Any] = {"request": request}
  lines = [f"{key:11} {value}" for key, value in request.items()]
  signer = KeyReader(args).signer(args.sign)
  if signer is None:
    return Result(document, lines)
  label = signer.id.partition(":")[2]
  target = args.out or str(path.with_suffix(f".{label}.jwt"))
  refuse_existing(target)
  with keyring_errors_as(USAGE):
    token = keyjax.release.approvals.approve(
      request, signer, seconds=args.seconds
    )
  with open(target, "x", encoding="ascii") as file:
    file.write(f"{token}\n")
  lines.append(f"{target} approves it for {args.seconds} seconds")
  return Result(document | {"approval": target}, lines)
