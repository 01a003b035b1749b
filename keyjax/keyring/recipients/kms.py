"""Key management services: keys that never leave them.

A service is anything with two methods (`Kms`). `LocalKms` keeps its keys in
private files, for tests and for teams without a service. A cloud service takes
a dozen lines; this one is for AWS, whose encryption context is authenticated
by the service and shows in its audit log:

    class AwsKms:
      def __init__(self, client):        # boto3.client("kms")
        self._client = client

      def encrypt(self, key_id, plaintext, context):
        answer = self._client.encrypt(
          KeyId=key_id, Plaintext=plaintext,
          EncryptionContext={"keyjax": context.hex()})
        return answer["CiphertextBlob"]

      def decrypt(self, key_id, ciphertext, context):
        try:
          answer = self._client.decrypt(
            KeyId=key_id, CiphertextBlob=ciphertext,
            EncryptionContext={"keyjax": context.hex()})
        except self._client.exceptions.InvalidCiphertextException:
          raise CannotOpen from None
        return answer["Plaintext"]

Google's service takes the context as `additional_authenticated_data` of
`encrypt` and `decrypt`; Vault's transit engine as `associated_data`.

**Known breaks.** The service sees every data key in the clear, and whoever may
call its `decrypt` opens everything: its access policy is the lock.
"""

import os
import pathlib
from typing import Protocol

from keyjax.errors import CannotOpen, KeyringError
from keyjax.keyring.encoding import check_name, encode, field, fingerprint
from keyjax.keyring.recipients.base import Stanza, check_data_key
from keyjax.keys import SECRET_BYTES, Secret
from keyjax.seal import SealError, seal, unseal

_MAX_CIPHERTEXT = 8192


class Kms(Protocol):
  """A service that encrypts under keys which it keeps."""

  def encrypt(self, key_id: str, plaintext: bytes, context: bytes) -> bytes:
    """Returns the ciphertext, bound to the context."""

  def decrypt(self, key_id: str, ciphertext: bytes, context: bytes) -> bytes:
    """Returns the plaintext.

    Raises:
      CannotOpen: the key or the context is wrong, or the bytes are damaged.
    """


class LocalKms:
  """A service in a folder: one private file a key.

  Example:
    >>> import tempfile
    >>> kms = LocalKms(tempfile.mkdtemp())
    >>> kms.create("team-a")
    >>> kms.decrypt("team-a", kms.encrypt("team-a", b"x", b"c"), b"c")
    b'x'
  """

  def __init__(self, folder: str | os.PathLike[str]):
    """Opens a folder, which need not exist yet."""
    self._folder = pathlib.Path(folder)

  def create(self, key_id: str) -> None:
    """Makes a key.

    Raises:
      FileExistsError: there is one of this name.
      KeyringError: the name holds a slash or a strange character.
    """
    Secret.generate().save(self._path(key_id))

  def encrypt(self, key_id: str, plaintext: bytes, context: bytes) -> bytes:
    """Seals bytes under a key, bound to a context."""
    return seal(self._key(key_id), plaintext, context)

  def decrypt(self, key_id: str, ciphertext: bytes, context: bytes) -> bytes:
    """Opens what `encrypt` sealed.

    Raises:
      CannotOpen: the key or the context is wrong, or the bytes are damaged.
    """
    try:
      return unseal(self._key(key_id), ciphertext, context)
    except SealError:
      raise CannotOpen from None

  def _path(self, key_id: str) -> pathlib.Path:
    if "/" in check_name(key_id, "key of a service"):
      raise KeyringError("the name of a local key has no slash")
    return self._folder / f"{key_id}.key"

  def _key(self, key_id: str) -> bytes:
    try:
      return Secret.load(self._path(key_id)).derive("keyring/kms", 32)
    except FileNotFoundError:
      raise KeyringError(f"there is no key {key_id} in this service") from None


class KmsKey:
  """A key of a service: recipient and identity in one.

  The id shows a fingerprint of the key's name, not the name: names of cloud
  keys hold account numbers.

  Example:
    >>> import tempfile
    >>> kms = LocalKms(tempfile.mkdtemp())
    >>> kms.create("team-a")
    >>> key = KmsKey(kms, "team-a")
    >>> stanza = key.wrap(bytes(32), b"context")
    >>> key.unwrap(stanza | {"id": key.id}, b"context") == bytes(32)
    True
  """

  def __init__(self, kms: Kms, key_id: str):
    """Names a key.

    Args:
      kms: the service.
      key_id: what the service calls the key.
    """
    self._kms = kms
    self._key_id = key_id
    self.id = f"kms:{fingerprint(key_id.encode())}"

  def wrap(self, data_key: bytes, context: bytes) -> Stanza:
    """Has the service encrypt a data key."""
    check_data_key(data_key)
    sealed = self._kms.encrypt(self._key_id, data_key, context)
    if len(sealed) > _MAX_CIPHERTEXT:
      raise KeyringError(f"the service returned {len(sealed)} bytes for a key")
    return {"wrapped": encode(sealed)}

  def unwrap(self, stanza: Stanza, context: bytes) -> bytes | None:
    """Has the service decrypt; None when the stanza is another's."""
    if stanza.get("id") != self.id:
      return None
    sealed = field(stanza, "wrapped", bytes)
    if len(sealed) > _MAX_CIPHERTEXT:
      raise CannotOpen
    data_key = self._kms.decrypt(self._key_id, sealed, context)
    if len(data_key) != SECRET_BYTES:
      raise CannotOpen
    return data_key
