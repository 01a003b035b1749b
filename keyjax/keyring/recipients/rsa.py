"""RSA recipients, for keys that a key management service already holds.

RSA-OAEP with SHA-256 encrypts a fresh secret, and that secret wraps the data
key (`wrap_key`). OAEP's label could bind the context as well, but cloud
services do not accept one.

**Known breaks.** A large quantum computer breaks RSA; prefer `HpkePublicKey`
wherever there is a choice.

References:
  K. Moriarty et al., RFC 8017, "PKCS #1: RSA Cryptography", 2016.
"""

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import (
  RSAPrivateKey,
  RSAPublicKey,
  generate_private_key,
)

from keyjax.errors import CannotOpen, KeyringError
from keyjax.keyring.encoding import encode, field, fingerprint
from keyjax.keyring.recipients import (
  Kind,
  Private,
  Stanza,
  check_data_key,
  register,
)
from keyjax.keyring.recipients.symmetric import (
  WRAPPED_BYTES,
  unwrap_key,
  wrap_key,
)
from keyjax.secrets import Secret

RSA = "rsa"
_MIN_BITS = 2048
_MAX_BITS = 16384


def _oaep() -> padding.OAEP:
  return padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)


class RsaRecipient:
  """A recipient with an RSA public key of 2048 bits or more.

  Example:
    >>> private = RsaIdentity.generate(2048)
    >>> stanza = private.public.wrap(bytes(32), b"context")
    >>> private.unwrap(stanza | {"id": private.id}, b"context") == bytes(32)
    True
  """

  def __init__(self, data: bytes):
    """Read a public key.

    Args:
      data: SubjectPublicKeyInfo, DER or PEM.

    Raises:
      KeyringError: If it is not an RSA public key, or too short or too long.
    """
    try:
      pem = data.lstrip().startswith(b"-----")
      load = serialization.load_pem_public_key
      key = (load if pem else serialization.load_der_public_key)(data)
    except Exception:  # `cryptography` raises several types here.
      key = None
    if not isinstance(key, RSAPublicKey):
      raise KeyringError("this is not an RSA public key") from None
    if not _MIN_BITS <= key.key_size <= _MAX_BITS:
      raise KeyringError(
        f"an RSA key of {key.key_size} bits: {_MIN_BITS} to {_MAX_BITS} are "
        "accepted"
      )
    self.kind = RSA
    self.data = key.public_bytes(
      serialization.Encoding.DER,
      serialization.PublicFormat.SubjectPublicKeyInfo,
    )
    self._key = key
    self.id = f"{RSA}:{fingerprint(self.data)}"

  def wrap(self, data_key: bytes, context: bytes) -> Stanza:
    """Wrap a data key, bound to a context.

    Raises:
      KeyringError: If the public key is one that no honest owner has.
    """
    check_data_key(data_key)
    secret = Secret.generate()
    try:
      carried = self._key.encrypt(secret._bytes, _oaep())
    except ValueError:  # A modulus that no honest key has.
      raise KeyringError(f"{self.id} is not a usable public key") from None
    return {
      "carried": encode(carried),
      "wrapped": encode(wrap_key(secret, data_key, context)),
    }

  def __repr__(self) -> str:
    return f"<RsaRecipient {self.id}>"


class RsaIdentity(Private):
  """Identity of an `RsaRecipient`, and a recipient itself."""

  __slots__ = ("_key", "id", "kind", "public")

  def __init__(self, key: RSAPrivateKey):
    """Make an identity.

    Args:
      key: Private key of `cryptography`, or an object with its `decrypt` and
        `public_key` methods, such as a handle of a hardware module.

    Raises:
      KeyringError: If the key is too short or too long.
    """
    self.kind = RSA
    self._key = key
    self.public = RsaRecipient(
      key.public_key().public_bytes(
        serialization.Encoding.DER,
        serialization.PublicFormat.SubjectPublicKeyInfo,
      )
    )
    self.id = self.public.id

  @classmethod
  def generate(cls, bits: int = 3072) -> "RsaIdentity":
    """Return a fresh key from the operating system."""
    return cls(generate_private_key(65537, bits))

  def reveal(self) -> bytes:
    """Return the private key as DER PKCS #8, for a key file."""
    return self._key.private_bytes(
      serialization.Encoding.DER,
      serialization.PrivateFormat.PKCS8,
      serialization.NoEncryption(),
    )

  def wrap(self, data_key: bytes, context: bytes) -> Stanza:
    """Wrap a data key for the public key."""
    return self.public.wrap(data_key, context)

  def unwrap(self, stanza: Stanza, context: bytes) -> bytes | None:
    """Return the data key, or None if the stanza is for another identity."""
    if stanza.get("id") != self.id:
      return None
    carried = field(stanza, "carried", bytes)
    wrapped = field(stanza, "wrapped", bytes, WRAPPED_BYTES)
    try:
      secret = Secret(self._key.decrypt(carried, _oaep()))
    except ValueError:
      raise CannotOpen from None
    return unwrap_key(secret, wrapped, context)


def _load(data: bytes) -> RSAPrivateKey:
  try:
    key = serialization.load_der_private_key(data, None)
  except Exception:  # `cryptography` raises several types here.
    raise ValueError("this is not a private key") from None
  if not isinstance(key, RSAPrivateKey):
    raise KeyringError("this is not an RSA key")
  return key


register(
  Kind(
    name=RSA,
    summary="to receive, where a service asks for RSA (3072 bits)",
    read_public=RsaRecipient,
    key_type=RsaIdentity,
    generate=RsaIdentity.generate,
    read=lambda data: RsaIdentity(_load(data)),
    reveal=RsaIdentity.reveal,
    identity=lambda key: key,
    recipient=lambda key: key.public,
    from_openssl=lambda key: (
      RsaIdentity(key) if isinstance(key, RSAPrivateKey) else None
    ),
    to_openssl=lambda key: _load(key.reveal()),
  )
)
