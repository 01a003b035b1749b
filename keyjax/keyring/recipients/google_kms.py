"""Keys of Cloud KMS, Google's key management service.

A symmetric key of purpose ENCRYPT_DECRYPT; the context of the envelope is its
additional authenticated data. Requests are those of its REST interface, with
the credentials that `google.auth` finds (Application Default Credentials).

**Known breaks.** Whoever may call `decrypt` on the key opens everything; see
`keyjax.keyring.recipients.kms`.

References:
  Google, "Cloud KMS API: cryptoKeys.encrypt and decrypt",
  cloud.google.com/kms/docs/reference/rest.
"""

import base64
import re
from typing import Any

from keyjax.errors import (
  ArgumentError,
  CannotOpen,
  KeyringError,
  StorageError,
)
from keyjax.extras import library
from keyjax.keyring.encoding import field
from keyjax.keyring.recipients import Argument, Kind, register
from keyjax.keyring.recipients.kms import KmsKey

_SERVICE = "https://cloudkms.googleapis.com/v1"
_SCOPE = "https://www.googleapis.com/auth/cloudkms"
_TIMEOUT = 30.0
_NAME = re.compile(
  r"projects/[^/\s?#]+/locations/[^/\s?#]+/keyRings/[^/\s?#]+"
  r"/cryptoKeys/[^/\s?#]+"
)
_BUSY = (429, 500, 502, 503, 504)
_WRONG = 400  # INVALID_ARGUMENT: another key or context, or damaged.


class GoogleKms:
  """A client of Cloud KMS.

  Example:
    >>> kms = GoogleKms(session=None)  # One of google.auth, by default.
    >>> KmsKey(kms, "projects/p/locations/l/keyRings/r/cryptoKeys/k").id[:4]
    'kms:'
  """

  def __init__(self, session: Any = None, service: str = _SERVICE):
    """Make a client; nothing is sent yet.

    Args:
      session: Object with the `post` of `requests.Session`, which authorises
        requests; made by `google.auth.default` when it is first needed.
      service: Address of the service.
    """
    self._session = session
    self._service = service

  def encrypt(self, key_id: str, plaintext: bytes, context: bytes) -> bytes:
    """Return the ciphertext, bound to the context.

    Raises:
      KeyringError: If the service refuses.
      StorageError: If it cannot answer now.
    """
    answer = self._call(key_id, "encrypt", {"plaintext": plaintext}, context)
    return field(answer, "ciphertext", bytes)

  def decrypt(self, key_id: str, ciphertext: bytes, context: bytes) -> bytes:
    """Return the plaintext.

    Raises:
      CannotOpen: If the key or the context is wrong, or the bytes are damaged.
      KeyringError: If the service refuses.
      StorageError: If it cannot answer now.
    """
    answer = self._call(key_id, "decrypt", {"ciphertext": ciphertext}, context)
    return field(answer, "plaintext", bytes)

  def _call(
    self, key_id: str, method: str, data: dict[str, bytes], context: bytes
  ) -> dict[str, Any]:
    if self._session is None:
      self._session = _authorised()
    fields = data | {"additionalAuthenticatedData": context}
    answer = self._session.post(
      f"{self._service}/{key_id}:{method}",
      json={k: base64.b64encode(v).decode() for k, v in fields.items()},
      timeout=_TIMEOUT,
    )
    if method == "decrypt" and answer.status_code == _WRONG:
      raise CannotOpen
    if answer.status_code in _BUSY:
      raise StorageError(f"Cloud KMS answers {answer.status_code}: try again")
    if answer.status_code != 200:
      raise KeyringError(f"Cloud KMS answers {answer.status_code} to {method}")
    return answer.json()


def _authorised() -> Any:
  auth = library("google.auth", "gcs")
  requests = library("google.auth.transport.requests", "gcs")
  try:
    credentials, _ = auth.default(scopes=[_SCOPE])
  except auth.exceptions.DefaultCredentialsError:
    raise KeyringError("no credentials for Cloud KMS were found") from None
  return requests.AuthorizedSession(credentials)


def _key(name: str) -> KmsKey:
  """Return the key that `google-kms:NAME` names."""
  if not _NAME.fullmatch(name):
    raise ArgumentError(
      "a key of Cloud KMS is named "
      "google-kms:projects/P/locations/L/keyRings/R/cryptoKeys/K"
    )
  return KmsKey(GoogleKms(), name)


register(
  Kind(
    name="google-kms",
    argument=Argument(
      form="google-kms:NAME",
      help="a key of Cloud KMS, projects/.../cryptoKeys/K",
      recipient=lambda name, reader: _key(name),
      identity=lambda name, reader: _key(name),
    ),
  )
)
