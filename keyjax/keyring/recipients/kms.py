"""Key management services: keys that never leave the service.

A service is any object with the two methods of `Kms`. `LocalKms` stores its
keys in private files, for tests and for teams without a service. A client of a
cloud service takes a dozen lines. This one is for AWS, which authenticates the
encryption context and writes it to its audit log:

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

**Known breaks.** The service sees every data key unencrypted, and anyone who
may call its `decrypt` opens everything: its access policy is the only
protection.
"""

import os
import pathlib
import re
from typing import Protocol

from keyjax import private_files
from keyjax.errors import ArgumentError, CannotOpen, KeyringError
from keyjax.keyring.encoding import check_name, encode, field, fingerprint
from keyjax.keyring.keyfile import parse_key
from keyjax.keyring.recipients import (
  Argument,
  KeyReader,
  Kind,
  Stanza,
  check_data_key,
  register,
)
from keyjax.seal import SealError, seal, unseal
from keyjax.secrets import SECRET_BYTES, Secret

_MAX_CIPHERTEXT = 8192
_LOCAL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+@=-]{0,127}")


class Kms(Protocol):
  """A service that encrypts under keys which it does not reveal."""

  def encrypt(self, key_id: str, plaintext: bytes, context: bytes) -> bytes:
    """Return the ciphertext, bound to the context."""

  def decrypt(self, key_id: str, ciphertext: bytes, context: bytes) -> bytes:
    """Return the plaintext.

    Raises:
      CannotOpen: If the key or the context is wrong, or the bytes are damaged.
    """


class LocalKms:
  """A service in a folder, with one private file per key.

  A key file is what `create`, or `keyjax keygen secret FOLDER/KEY.key --plain`,
  writes.

  Example:
    >>> import tempfile
    >>> kms = LocalKms(tempfile.mkdtemp())
    >>> kms.create("team-a")
    >>> kms.decrypt("team-a", kms.encrypt("team-a", b"x", b"c"), b"c")
    b'x'
  """

  def __init__(self, folder: str | os.PathLike[str]):
    """Use a folder, which need not exist yet."""
    self._folder = pathlib.Path(folder)

  def create(self, key_id: str) -> None:
    """Create a key.

    Raises:
      FileExistsError: If there is one of this name.
      KeyringError: If the name has a slash or another unusable character.
    """
    Secret.generate().save(self._path(key_id))

  def encrypt(self, key_id: str, plaintext: bytes, context: bytes) -> bytes:
    """Encrypt and authenticate bytes under a key, bound to a context.

    Raises:
      KeyringError: If there is no such key, or the folder is in a checkpoint.
    """
    return seal(self._key(key_id), plaintext, context)

  def decrypt(self, key_id: str, ciphertext: bytes, context: bytes) -> bytes:
    """Decrypt what `encrypt` returned.

    Raises:
      CannotOpen: If the key or the context is wrong, or the bytes are damaged.
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
    path = self._path(key_id)
    private_files.refuse_checkpoint_folder(path)
    try:
      secret = parse_key(private_files.read(path))
    except FileNotFoundError:
      raise KeyringError(f"there is no key {key_id} in this service") from None
    if not isinstance(secret, Secret):
      raise KeyringError(f"key {key_id} of this service is not a secret")
    return secret.derive("keyring/kms", 32)


class KmsKey:
  """A key of a service: recipient and identity in one.

  The id contains a fingerprint of the key's name, not the name itself, because
  names of cloud keys contain account numbers.

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
    """Refer to a key.

    Args:
      kms: Client of the service.
      key_id: Name of the key in the service.
    """
    self._kms = kms
    self._key_id = key_id
    self.id = f"kms:{fingerprint(key_id.encode())}"

  def wrap(self, data_key: bytes, context: bytes) -> Stanza:
    """Encrypt a data key with the service."""
    check_data_key(data_key)
    sealed = self._kms.encrypt(self._key_id, data_key, context)
    if len(sealed) > _MAX_CIPHERTEXT:
      raise KeyringError(f"the service returned {len(sealed)} bytes for a key")
    return {"wrapped": encode(sealed)}

  def unwrap(self, stanza: Stanza, context: bytes) -> bytes | None:
    """Decrypt with the service; None if the stanza is for another identity."""
    if stanza.get("id") != self.id:
      return None
    sealed = field(stanza, "wrapped", bytes)
    if len(sealed) > _MAX_CIPHERTEXT:
      raise CannotOpen
    data_key = self._kms.decrypt(self._key_id, sealed, context)
    if len(data_key) != SECRET_BYTES:
      raise CannotOpen
    return data_key


def _local_key(text: str, reader: KeyReader) -> KmsKey:
  """Return the key that `kms:FOLDER#KEY` names."""
  folder, _, key_id = text.rpartition("#")
  if not folder or not _LOCAL_NAME.fullmatch(key_id):
    raise ArgumentError("a key of a local service is named kms:FOLDER#KEY")
  return KmsKey(LocalKms(pathlib.Path(folder).expanduser()), key_id)


register(
  Kind(
    name="kms",
    argument=Argument(
      form="kms:FOLDER#KEY",
      help="a key of a local service: FOLDER/KEY.key, made by "
      "`keyjax keygen secret --plain`",
      recipient=_local_key,
      identity=_local_key,
    ),
  )
)
