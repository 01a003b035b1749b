"""Approvals: an approver's signature on one request for one release.

A request is a small JSON object that the server has answered and that the
caller passes on. An approver signs all of it, in a JSON web token under their
Ed25519 key, for a limited time. The server compares it with the request that it
knows; a token for another request, caller, checkpoint or server does not count.

References:
  M. Jones, J. Bradley and N. Sakimura, RFC 7519, "JSON Web Token", 2015.
  I. Liusvaara, RFC 8037, "CFRG Elliptic Curve Signatures in JOSE", 2017.
"""

import re
import time
from collections.abc import Mapping

from keyjax.errors import KeyringError
from keyjax.keyring import SigningKey, VerifyKey
from keyjax.keyring.encoding import check_name, field, parse
from keyjax.keyring.signing import ED25519, verify_key_id
from keyjax.release import tokens

_TYPE = "keyjax-approval+jwt"
_ALGORITHM = "EdDSA"
_NAMES = ("caller", "checkpoint", "recipient", "rule", "server")
_DIGITS = {"certificate": 64, "id": 32, "nonce": 64, "stanza": 64}
_MAX_SIZE = 8192

Request = dict[str, str]


def parse_request(data: bytes) -> Request:
  """Read a request that waits for approvals.

  Returns:
    `id` and `nonce`; `server`, `rule`, `caller`, `certificate` (SHA-256 of the
    caller's) and `recipient` (that a release is sealed to); `checkpoint` and
    `stanza` (SHA-256 of the wrapped key).

  Raises:
    KeyringError: If it is not one.
  """
  found = parse(data, "a request", size=_MAX_SIZE, items=32)
  if set(found) != {*_NAMES, *_DIGITS}:
    raise KeyringError("a request has missing or unknown fields")
  for name in _NAMES:
    check_name(field(found, name, str), name)
  for name, size in _DIGITS.items():
    if not is_digits(field(found, name, str), size):
      raise KeyringError(f"a request: {name} is not {size} hexadecimal digits")
  return found


def is_digits(text: str, size: int) -> bool:
  """Return whether a text is so many lower-case hexadecimal digits."""
  return bool(re.fullmatch(r"[0-9a-f]+", text)) and len(text) == size


def approve(request: Request, signer: SigningKey, *, seconds: int) -> str:
  """Approve one release.

  Args:
    request: What `parse_request` returned.
    signer: Ed25519 key of the approver.
    seconds: How long the approval is valid, from now on.

  Returns:
    A token, ASCII.

  Raises:
    KeyringError: If the key is of another kind.
  """
  if signer.kind != ED25519:
    raise KeyringError("approvals are signed with a key of kind ed25519")
  now = int(time.time())
  claims = {
    "aud": request["server"],
    "exp": now + seconds,
    "iat": now,
    "iss": signer.id,
    "jti": request["id"],
    "request": request,
  }
  return tokens.pyjwt().encode(
    claims,
    signer.private,
    algorithm=_ALGORITHM,
    headers={"kid": signer.id, "typ": _TYPE},
  )


def approver_of(
  token: str, request: Request, approvers: Mapping[str, VerifyKey]
) -> str:
  """Return who has approved a request.

  Args:
    token: What `approve` returned; anyone can have made it.
    request: Request that must be approved.
    approvers: Keys by name.

  Raises:
    KeyringError: If it is no valid approval of this request by one of them.
  """
  signer = tokens.key_id(token)
  names = [x for x, key in approvers.items() if verify_key_id(key) == signer]
  if not names:
    raise KeyringError("this approval is of nobody who may approve")
  [name] = names
  found = tokens.open_token(
    token,
    approvers[name],
    algorithms=[_ALGORITHM],
    issuer=signer,
    audience=request["server"],
  )
  if found.header.get("typ") != _TYPE or found.claims.get("request") != request:
    raise KeyringError("this approval is of another request")
  return name
