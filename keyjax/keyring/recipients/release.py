"""Keys of a release server, which asks others before it unwraps.

The server (`keyjax serve-keys`) holds an ordinary private key. Envelopes are
sealed for its public key as for any other; this identity has the server unwrap
them. It proves who it is by a TLS certificate, and the server seals the data
key to a key of this caller, so that a stolen certificate alone opens nothing.

`keyjax.keyring.release_settings` describes the file that says how to ask.

If a release needs approvals, `requests/ID.json` is what approvers approve
(`keyjax approve`). Put what they return next to it, as `requests/ID.*.jwt`, and
open the checkpoint again: the same request continues.
"""

import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import secrets
import ssl
import time
import urllib.parse
from collections.abc import Callable
from typing import Any

from keyjax.errors import (
  ApprovalNeeded,
  CannotOpen,
  KeyringError,
  ReleaseRefused,
  ReleaseUnavailable,
)
from keyjax.keyring.encoding import dump, field
from keyjax.keyring.envelope import checkpoint_of
from keyjax.keyring.key_sources import read_key
from keyjax.keyring.keyfile import as_identity
from keyjax.keyring.recipients import (
  Argument,
  Identity,
  Kind,
  Private,
  Stanza,
  register,
)
from keyjax.keyring.release_settings import program, read_settings
from keyjax.keyring.tls import client_context

_MAX_ANSWER = 1 << 20
_TIMEOUT = 30.0
_PAUSE = 0.2

Evidence = Callable[[str], bytes]


def answer_context(request: str) -> bytes:
  """Return what a released key is bound to, given the id of the request."""
  return b"keyjax/release/1/" + request.encode("ascii")


def stanza_digest(stanza: Stanza) -> str:
  """Return the SHA-256 of a stanza, in hexadecimal."""
  return hashlib.sha256(dump(stanza)).hexdigest()


class ReleaseIdentity(Private):
  """The identity of a release server's key, for one caller.

  One thread at a time can use it.
  """

  def __init__(
    self,
    server: str,
    *,
    recipient: str,
    identity: Identity,
    tls: ssl.SSLContext,
    requests: str | os.PathLike[str],
    receipts: str | os.PathLike[str] | None = None,
    evidence: Evidence | None = None,
    patience: float = 10.0,
  ):
    """Describe a server; nothing is sent yet.

    Args:
      server: Its address, `https://HOST:PORT`.
      recipient: Id of its key, as envelopes name it.
      identity: Key of the caller that the server seals to.
      tls: Client context with the caller's certificate; see `client_context`.
      requests: Folder of requests that wait for approvals.
      receipts: File to which a receipt of each release is appended, or None.
      evidence: Return attestation evidence for a nonce, or None.
      patience: Seconds for which a server that does not answer is tried again.

    Raises:
      KeyringError: If the address cannot be used.
    """
    parts = urllib.parse.urlsplit(server)
    if parts.scheme != "https" or not parts.hostname or parts.path.strip("/"):
      raise KeyringError("a release server looks like https://HOST:PORT")
    self.id = recipient
    self._address = (parts.hostname, parts.port or 443)
    self._identity = identity
    self._tls = tls
    self._requests = pathlib.Path(requests)
    self._receipts = None if receipts is None else pathlib.Path(receipts)
    self._evidence = evidence
    self._patience = patience
    self._connection: http.client.HTTPSConnection | None = None

  @classmethod
  def load(
    cls,
    path: str | os.PathLike[str],
    read: Callable[[str], Any] = read_key,
  ) -> "ReleaseIdentity":
    """Read the file that says how to ask.

    Args:
      path: TOML file; see `keyjax.keyring.release_settings`.
      read: Return the private key of a source, such as `file:PATH`.

    Raises:
      KeyringError: If it is not such a file, or a key cannot be used.
      OSError: If it cannot be read.
    """
    path = pathlib.Path(path)
    found = read_settings(path)
    folder = path.absolute().parent
    source = found["identity"]
    if source.startswith("file:"):
      source = f"file:{folder / pathlib.Path(source[5:]).expanduser()}"
    receipts = found.get("receipts")
    command = found.get("evidence")
    return cls(
      found["server"],
      recipient=found["recipient"],
      identity=as_identity(read(source)),
      tls=client_context(
        ca=folder / found["ca"],
        certificate=folder / found["certificate"],
        key=folder / found["certificate_key"],
      ),
      requests=folder / found.get("requests", "requests"),
      receipts=None if receipts is None else folder / receipts,
      evidence=None if command is None else program(command),
    )

  def unwrap(self, stanza: Stanza, context: bytes) -> bytes | None:
    """Return the data key, or None if the stanza is for another identity.

    Raises:
      ApprovalNeeded: If others must approve first.
      ReleaseRefused: If the server refuses.
      ReleaseUnavailable: If it cannot be reached, or not now.
      CannotOpen: If the answer does not open with the caller's key.
    """
    if stanza.get("id") != self.id:
      return None
    checkpoint = checkpoint_of(context)
    digest = stanza_digest(stanza)
    request = self._waiting(checkpoint, digest) or secrets.token_hex(16)
    ask = {
      "approvals": self._approvals(request),
      "checkpoint": checkpoint,
      "evidence": "",
      "id": request,
      "stanza": stanza,
    }
    status, answer = self._post(ask)
    if status == 202 and answer.get("evidence") and self._evidence is not None:
      nonce = field(field(answer, "request", dict), "nonce", str)
      evidence = self._evidence(nonce).decode("ascii", "replace").strip()
      status, answer = self._post(ask | {"evidence": evidence})
    if status == 202:
      raise self._pending(request, answer)
    if status == 409:  # It cannot continue: the next try makes another one.
      self._forget(request)
    if status != 200:
      raise _refusal(status, answer)
    return self._opened(request, answer)

  def close(self) -> None:
    """Close the connection; the next use opens another one."""
    if self._connection is not None:
      self._connection.close()
      self._connection = None

  def _waiting(self, checkpoint: str, digest: str) -> str | None:
    """Return the id of a request that waits for approvals, or None."""
    for path in sorted(self._requests.glob("*.json")):
      with contextlib.suppress(ValueError, TypeError, KeyError):
        found = json.loads(path.read_bytes())
        if (found["checkpoint"], found["stanza"]) == (checkpoint, digest):
          return str(found["id"])
    return None

  def _forget(self, request: str) -> None:
    for path in self._requests.glob(f"{request}.*"):
      path.unlink()

  def _approvals(self, request: str) -> list[str]:
    paths = sorted(self._requests.glob(f"{request}.*.jwt"))
    return [path.read_text("ascii", "replace").strip() for path in paths]

  def _pending(self, request: str, answer: dict[str, Any]) -> ApprovalNeeded:
    """Store a request that waits, and return the error that says so."""
    path = self._requests / f"{request}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(dump(field(answer, "request", dict)))
    needed = field(answer, "approvals", int)
    approved = field(answer, "approved", list)
    if len(approved) >= needed:
      return ApprovalNeeded("the release server needs evidence of this machine")
    return ApprovalNeeded(
      f"{path} has {len(approved)} of {needed} approvals: see keyjax approve"
    )

  def _opened(self, request: str, answer: dict[str, Any]) -> bytes:
    sealed = field(answer, "wrapped", dict) | {"id": self._identity.id}
    data_key = self._identity.unwrap(sealed, answer_context(request))
    if data_key is None:
      raise CannotOpen
    if self._receipts is not None:
      receipt = {x: answer.get(x) for x in ("entry", "note")}
      with self._receipts.open("ab") as file:
        file.write(dump(receipt | {"request": request}) + b"\n")
    self._forget(request)
    return data_key

  def _post(self, ask: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Send a request, again if no answer comes: its id makes it the same."""
    body = dump(ask)
    end = time.monotonic() + self._patience
    while True:
      try:
        return self._post_once(body)
      except (OSError, http.client.HTTPException) as error:
        self.close()
        failure = self._failure(error)
        if not isinstance(failure, ReleaseUnavailable):
          raise failure from None
        if time.monotonic() > end:
          raise failure from None
        time.sleep(_PAUSE)

  def _failure(self, error: Exception) -> KeyringError:
    """Return what a failure of the connection means."""
    where = ":".join(map(str, self._address))
    if isinstance(error, ssl.SSLCertVerificationError):
      return ReleaseRefused(f"{where} is not trusted: {error.verify_message}")
    if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
      return ReleaseRefused(f"{where} refuses this certificate: {error.reason}")
    return ReleaseUnavailable(
      f"the release server {where} does not answer: {type(error).__name__}"
    )

  def _post_once(self, body: bytes) -> tuple[int, dict[str, Any]]:
    if self._connection is None:
      self._connection = http.client.HTTPSConnection(
        *self._address, context=self._tls, timeout=_TIMEOUT
      )
    self._connection.request("POST", "/unwrap", body)
    response = self._connection.getresponse()
    data = response.read(_MAX_ANSWER)
    try:
      answer = json.loads(data)
    except ValueError:
      answer = None
    if not isinstance(answer, dict):
      raise http.client.HTTPException("this is no answer of a release server")
    return response.status, answer


def _refusal(status: int, answer: dict[str, Any]) -> KeyringError:
  reason = str(answer.get("error", status))
  reason = "".join(x if x.isprintable() else "?" for x in reason[:300])
  kind = ReleaseUnavailable if status >= 500 else ReleaseRefused
  return kind(f"the release server refuses: {reason}")


register(
  Kind(
    name="release",
    argument=Argument(
      form="release:FILE",
      help="a key of a release server, which may ask others first; FILE says "
      "how to reach it, see `keyjax serve-keys --help`",
      identity=lambda path, reader: ReleaseIdentity.load(path, reader.key),
    ),
  )
)
