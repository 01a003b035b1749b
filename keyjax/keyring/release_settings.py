"""The file that says how to ask a release server.

It is TOML and holds no secret; paths in it are relative to it:

    server = "https://keys.example:8443"
    ca = "server-ca.pem"
    certificate = "trainer.pem"        # and its chain
    certificate_key = "trainer.tls.key"
    identity = "file:trainer.key"      # the caller's key, see keyjax keygen
    recipient = "x25519:..."           # id of the server's key
    requests = "requests"              # folder of requests and approvals
    receipts = "receipts.jsonl"        # optional: proof of what was logged
    evidence = ["get-evidence"]        # optional: program that prints evidence
                                       # for the nonce in its last argument
"""

import pathlib
import subprocess
import tomllib
from collections.abc import Callable
from typing import Any

from keyjax.errors import KeyringError

_TIMEOUT = 60.0
_REQUIRED = {
  "server",
  "ca",
  "certificate",
  "certificate_key",
  "identity",
  "recipient",
}
_OPTIONAL = {"requests", "receipts", "evidence"}


def read_settings(path: pathlib.Path) -> dict[str, Any]:
  """Return the fields of a file.

  Raises:
    KeyringError: If one is missing, unknown or of another type.
    OSError: If it cannot be read.
  """
  try:
    found = tomllib.loads(path.read_text("utf-8"))
  except ValueError as error:
    raise KeyringError(f"{path} is not TOML: {error}") from None
  if missing := sorted(_REQUIRED - set(found)):
    raise KeyringError(f"{path} has no field {missing[0]!r}")
  if unknown := sorted(set(found) - _REQUIRED - _OPTIONAL):
    raise KeyringError(f"{path} has an unknown field {unknown[0]!r}")
  for name, value in found.items():
    kind = list if name == "evidence" else str
    if type(value) is not kind or not value:
      raise KeyringError(f"{path}: {name} is a {kind.__name__}, not empty")
  return found


def program(command: list[str]) -> Callable[[str], bytes]:
  """Return the evidence that a program prints for a nonce."""

  def run(nonce: str) -> bytes:
    try:
      done = subprocess.run(
        [*command, nonce], capture_output=True, timeout=_TIMEOUT, check=True
      )
    except (OSError, subprocess.SubprocessError) as error:
      raise KeyringError(
        f"the program that gets evidence failed: {type(error).__name__}"
      ) from None
    return done.stdout

  return run
