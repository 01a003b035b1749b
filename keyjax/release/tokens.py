"""Signed JSON web tokens: approvals are some, and most evidence is.

PyJWT reads and writes them; `pip install 'keyjax[release]'` brings it.

References:
  M. Jones, J. Bradley and N. Sakimura, RFC 7519, "JSON Web Token", 2015.
  Y. Sheffer, D. Hardt and M. Jones, RFC 8725, "JSON Web Token Best Current
  Practices", 2020.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from keyjax.errors import KeyringError
from keyjax.extras import library

MAX_TOKEN = 16384
_LEEWAY = 5.0  # Seconds by which two clocks may differ.


class Token(NamedTuple):
  """A token whose signature was verified."""

  header: Mapping[str, Any]
  claims: Mapping[str, Any]


def pyjwt() -> Any:
  """Return PyJWT.

  Raises:
    KeyringError: If it is not installed.
  """
  return library("jwt", "release")


def key_id(token: str) -> str:
  """Return the name of the key that a token says it is signed with.

  Raises:
    KeyringError: If it is not a token, or names none.
  """
  jwt = pyjwt()
  try:
    found = jwt.get_unverified_header(token).get("kid")
  except jwt.PyJWTError:
    found = None
  if len(token) > MAX_TOKEN or not isinstance(found, str):
    raise KeyringError("this is not a signed token that names its key")
  return found


def open_token(
  token: str,
  key: Any,
  *,
  algorithms: Sequence[str],
  issuer: str,
  audience: str | None,
) -> Token:
  """Verify a token's signature, issuer, audience and times.

  Without an audience the token must have none either.

  Raises:
    KeyringError: If one of them does not fit; the message says which.
  """
  jwt = pyjwt()
  try:
    found = jwt.decode_complete(
      token,
      key,
      algorithms=list(algorithms),
      issuer=issuer,
      audience=audience,
      leeway=_LEEWAY,
      options={"require": ["exp", "iat", "iss"] + ["aud"] * bool(audience)},
    )
  except (jwt.PyJWTError, TypeError, ValueError) as error:
    reason = _REASONS.get(type(error).__name__, "it is malformed")
    raise KeyringError(f"the token is refused: {reason}") from None
  return Token(found["header"], found["payload"])


# PyJWT's own messages repeat parts of a token.
_REASONS = {
  "ExpiredSignatureError": "it has expired",
  "ImmatureSignatureError": "it is not valid yet",
  "InvalidAlgorithmError": "its algorithm is not accepted",
  "InvalidAudienceError": "it is meant for someone else",
  "InvalidIssuedAtError": "it is not valid yet",
  "InvalidIssuerError": "its issuer is another",
  "InvalidSignatureError": "its signature is wrong",
  "MissingRequiredClaimError": "a claim is missing",
}
