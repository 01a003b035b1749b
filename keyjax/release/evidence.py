"""Attestation evidence: which machine asks, and what runs on it.

A rule of the policy may require evidence. The server then answers a request
with a nonce, and the caller sends evidence made for that nonce. Two kinds are
built in: `nitro` (`keyjax.release.nitro`), and `jwt`, which is defined here:
tokens of an attestation service such as Confidential Space (Google). They are
Entity Attestation Tokens, or close to them: JSON web tokens with the nonce in
`eat_nonce`, which the service signs after it has verified the machine's quote.

    [evidence.pods]
    kind = "jwt"
    issuer = "https://confidentialcomputing.googleapis.com"
    audience = "keys.example/team-a"
    jwks = "confidential_space.jwks.json"   # the service's public keys
    [evidence.pods.claims]
    swname = ["CONFIDENTIAL_SPACE"]
    dbgstat = ["disabled-since-boot"]
    "submods.container.image_digest" = ["sha256:..."]

Azure Attestation puts the nonce into another claim, `nonce = "nonce"`, and
names no audience: leave that field out.

Another kind is a function from its table to a `Evidence`, given to `register`
before the policy is read.

**Guarantees.** Evidence is refused unless a key of the JWKS signed it, it names
this issuer and this audience (or none, if the policy has none), it has not
expired, it was made for the nonce of this request, and each claim in the policy
has one of the listed values.

**Known breaks.** The service that signs is trusted, and so is the machine's
vendor. The server does not fetch keys: put a new JWKS in the file when the
service rotates its keys, and delete old ones. The nonce binds evidence to a
request, and the request to a caller; whether only the attested program holds
that caller's keys depends on how they were put there. Without an audience,
evidence can be relayed: an attested machine that makes tokens for anyone's
nonce makes one for this server's.

References:
  L. Lundblade et al., RFC 9711, "The Entity Attestation Token (EAT)", 2025.
  Google, "Confidential Space: attestation token claims", 2025.
  Microsoft, "Azure Attestation: AttestationResult", 2025.
"""

import functools
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from keyjax.errors import KeyringError
from keyjax.release import nitro, tokens

_ALGORITHMS = ("ES256", "ES384", "PS256", "PS384", "RS256")
_MAX_JWKS = 1 << 20
_FIELDS = {"kind", "issuer", "jwks", "claims"}
_OPTIONAL = {"audience", "nonce"}


class Evidence(Protocol):
  """A verifier of evidence."""

  def verify(self, evidence: bytes, *, nonce: str, caller: str) -> None:
    """Accept evidence, or raise an error.

    Args:
      evidence: What the caller sent, at most 16 KiB; anyone can have made it.
      nonce: 64 hexadecimal digits, fresh for this request.
      caller: SHA-256 of the caller's TLS certificate, in hexadecimal.

    Raises:
      KeyringError: If it does not fit; the message goes to the caller and into
        the log.
    """


Maker = Callable[[Mapping[str, Any], pathlib.Path], Evidence]
_MAKERS: dict[str, Maker] = {}


def register(kind: str, make: Maker) -> None:
  """Add a kind of evidence.

  Args:
    kind: Value of `kind` in the policy.
    make: Return the verifier, given the table of the policy and the folder that
      names of files in it are relative to; it raises a KeyringError if the
      table is wrong.

  Raises:
    ValueError: If there is one of this name.
  """
  if kind in _MAKERS:
    raise ValueError(f"there is a kind of evidence {kind!r} already")
  _MAKERS[kind] = make


def read_evidence(table: Mapping[str, Any], folder: pathlib.Path) -> Evidence:
  """Return the verifier that a table of the policy describes.

  Raises:
    KeyringError: If its kind is unknown, or a field is wrong.
  """
  make = _MAKERS.get(str(table.get("kind")))
  if make is None:
    raise KeyringError(
      f"the kind of evidence is unknown: there are {', '.join(_MAKERS)}"
    )
  return make(table, folder)


class JwtEvidence:
  """A verifier of signed attestation tokens."""

  def __init__(
    self,
    *,
    issuer: str,
    audience: str | None = None,
    jwks: pathlib.Path,
    claims: Mapping[str, list[Any]],
    nonce: str = "eat_nonce",
  ):
    """Describe which tokens to accept.

    Args:
      issuer: Value of `iss`.
      audience: Value of `aud`, or one of them; None for tokens without one.
      jwks: File with the issuer's public keys, RFC 7517; it is read for each
        token, so that a changed file counts at once.
      claims: Accepted values of each claim; a name with dots, such as
        `submods.container.image_digest`, is a path. Of a claim that is a list,
        one value must be accepted.
      nonce: Claim that holds the nonce; also a path.

    Raises:
      KeyringError: If there is no claim, or one without accepted values.
    """
    if not claims or not all(
      isinstance(x, list) and x for x in claims.values()
    ):
      raise KeyringError(
        "evidence of kind jwt needs claims, each with a list of accepted values"
      )
    self._issuer = issuer
    self._audience = audience
    self._jwks = jwks
    self._claims = dict(claims)
    self._nonce = nonce

  def verify(self, evidence: bytes, *, nonce: str, caller: str) -> None:
    """Accept a token, or raise a KeyringError; see `Evidence`."""
    token = evidence.decode("ascii", "replace")
    found = tokens.open_token(
      token,
      self._key(tokens.key_id(token)),
      algorithms=_ALGORITHMS,
      issuer=self._issuer,
      audience=self._audience,
    ).claims
    if not _has(_value(found, self._nonce), [nonce]):
      raise KeyringError("the evidence was made for another request")
    for name, accepted in self._claims.items():
      if not _has(_value(found, name), accepted):
        raise KeyringError(f"the evidence has no accepted value of {name}")

  def _key(self, name: str) -> Any:
    """Return the issuer's key of a name."""
    jwt = tokens.pyjwt()
    try:
      with self._jwks.open("rb") as file:
        keys = json.loads(file.read(_MAX_JWKS))["keys"]
      [found] = [x for x in keys if x["kid"] == name]
      return jwt.PyJWK(found)
    except OSError as error:
      raise KeyringError(f"the JWKS cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, jwt.PyJWTError):
      raise KeyringError("no key of the JWKS has signed the evidence") from None


def _value(claims: Mapping[str, Any], path: str) -> Any:
  """Return the claim of a path, or None."""
  found: Any = functools.reduce(_step, path.split("."), claims)
  return found


def _step(value: Any, name: str) -> Any:
  """Return a field of an object, or None."""
  return value.get(name) if isinstance(value, Mapping) else None


def _has(value: Any, accepted: list[Any]) -> bool:
  """Return whether a claim, or one of its values, is accepted."""
  values = value if isinstance(value, list) else [value]
  # Not `in`: True equals 1, and a claim can be either.
  return any(type(x) is type(y) and x == y for x in values for y in accepted)


def _jwt(table: Mapping[str, Any], folder: pathlib.Path) -> JwtEvidence:
  if set(table) - _OPTIONAL != _FIELDS:
    raise KeyringError(
      f"evidence of kind jwt has the fields {', '.join(sorted(_FIELDS))}, and "
      f"may have {' and '.join(sorted(_OPTIONAL))}"
    )
  texts = {name: x for name, x in table.items() if name != "claims"}
  if not all(isinstance(x, str) and x for x in texts.values()):
    raise KeyringError("issuer, audience, jwks and nonce of evidence are texts")
  claims = table["claims"]
  if not isinstance(claims, dict):
    raise KeyringError("the claims of evidence are a table")
  return JwtEvidence(
    issuer=texts["issuer"],
    audience=texts.get("audience"),
    jwks=folder / texts["jwks"],
    claims=claims,
    nonce=texts.get("nonce", "eat_nonce"),
  )


register("jwt", _jwt)
register("nitro", nitro.read_table)
