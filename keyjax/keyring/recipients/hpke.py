"""HPKE recipients: X25519, the hybrid of ML-KEM-768 and X25519, and P-256.

Base mode of RFC 9180 with HKDF-SHA-256 and AES-256-GCM, one message per
encapsulation. The context of the envelope is HPKE's `info`. The hybrid is
secure as long as one of its two parts is: use it for checkpoints that must
stay confidential when a future quantum computer reads data stored today. P-256
is for keys in devices (`keyjax.keyring.hardware`), which compute nothing else.

**Known breaks.** Base mode does not authenticate the sender: anyone who knows a
public key can encrypt to it. A large quantum computer breaks X25519 alone and
P-256, also for data that was recorded earlier.

References:
  R. Barnes et al., RFC 9180, "Hybrid Public Key Encryption", 2022.
  D. Connolly, P. Schwabe and B. Westerbaan, "X-Wing: general-purpose hybrid
  post-quantum KEM", draft-connolly-cfrg-xwing-kem.
  NIST, FIPS 203, 2024.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.mlkem import (
  MLKEM768PrivateKey,
  MLKEM768PublicKey,
)
from cryptography.hazmat.primitives.asymmetric.x25519 import (
  X25519PrivateKey,
  X25519PublicKey,
)
from cryptography.hazmat.primitives.hpke import (
  AEAD,
  KDF,
  KEM,
  MLKEM768X25519PrivateKey,
  MLKEM768X25519PublicKey,
  Suite,
)

from keyjax.arguments import show
from keyjax.errors import CannotOpen, KeyringError
from keyjax.keyring.encoding import encode, field, fingerprint
from keyjax.keyring.recipients import (
  Kind,
  Private,
  Stanza,
  check_data_key,
  register,
)
from keyjax.secrets import SECRET_BYTES

X25519 = "x25519"
HYBRID = "mlkem768x25519"
P256 = "p256"
_SPELLINGS = {"mlkem768-x25519": HYBRID}
_MLKEM_SEED = 64
_MLKEM_PUBLIC = 1184
_TAG = 16


class _Parameters(NamedTuple):
  """HPKE suite of one kind, and sizes in bytes; None: only devices have it."""

  private: int | None
  public: int
  encapsulated: int
  suite: Suite


def _parameters(private: int | None, public: int, kem: KEM) -> _Parameters:
  suite = Suite(kem, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
  return _Parameters(private, public, kem.enc_length(), suite)


_KINDS = {
  X25519: _parameters(32, 32, KEM.X25519),
  HYBRID: _parameters(
    private=_MLKEM_SEED + 32,
    public=_MLKEM_PUBLIC + 32,
    kem=KEM.MLKEM768_X25519,
  ),
  P256: _parameters(None, 65, KEM.P256),
}


def _checked_kind(kind: str, data: bytes, part: str) -> str:
  """Return the canonical name of a kind, after checking the size of a key."""
  kind = _SPELLINGS.get(kind, kind)
  size = getattr(_KINDS.get(kind), part, None)
  if size is None:
    known = [k for k, x in _KINDS.items() if getattr(x, part) is not None]
    raise KeyringError(
      f"unknown kind of key {show(kind)}: there are {' and '.join(known)}"
    )
  if len(data) != size:
    raise KeyringError(f"a key of kind {kind} has {size} bytes here")
  return kind


class HpkePublicKey:
  """A recipient with an HPKE public key.

  Example:
    >>> private = HpkePrivateKey.generate("mlkem768x25519")
    >>> stanza = private.public.wrap(bytes(32), b"context")
    >>> stanza["id"] = private.id
    >>> private.unwrap(stanza, b"context") == bytes(32)
    True
  """

  def __init__(self, kind: str, data: bytes):
    """Read a public key.

    Args:
      kind: "x25519", "mlkem768x25519" or "p256"; "mlkem768-x25519" is read
        as the second.
      data: 32 bytes; or 1184 of ML-KEM-768 and then 32 of X25519; or a point
        of P-256, uncompressed, 65 bytes.

    Raises:
      KeyringError: If the kind is unknown, or the key has another size.
    """
    self.kind = kind = _checked_kind(kind, data, "public")
    self.data = bytes(data)
    self.id = f"{kind}:{fingerprint(self.data)}"
    self._key = _load_public(kind, self.data)

  def wrap(self, data_key: bytes, context: bytes) -> Stanza:
    """Wrap a data key, bound to a context.

    Raises:
      KeyringError: If the public key is one that no honest owner has.
    """
    check_data_key(data_key)
    try:
      sealed = _KINDS[self.kind].suite.encrypt(data_key, self._key, context)
    except ValueError:  # A point of small order: the result is public.
      raise KeyringError(f"{self.id} is not a usable public key") from None
    return {"wrapped": encode(sealed)}

  def __eq__(self, other: object) -> bool:
    if not isinstance(other, HpkePublicKey):
      return NotImplemented
    return (self.kind, self.data) == (other.kind, other.data)

  def __hash__(self) -> int:
    return hash((self.kind, self.data))

  def __repr__(self) -> str:
    return f"<HpkePublicKey {self.id}>"


def _load_public(kind: str, data: bytes) -> Any:
  try:
    if kind == X25519:
      return X25519PublicKey.from_public_bytes(data)
    if kind == P256:
      return load_point(data)
    return MLKEM768X25519PublicKey(
      MLKEM768PublicKey.from_public_bytes(data[:_MLKEM_PUBLIC]),
      X25519PublicKey.from_public_bytes(data[_MLKEM_PUBLIC:]),
    )
  except ValueError:
    raise KeyringError(f"this is not a public key of kind {kind}") from None


class HpkePrivateKey(Private):
  """Identity of an `HpkePublicKey`, and a recipient itself."""

  __slots__ = ("_data", "_key", "id", "kind", "public")

  def __init__(self, kind: str, data: bytes):
    """Read a private key; `generate` makes a fresh one.

    Args:
      kind: "x25519" or "mlkem768x25519"; "mlkem768-x25519" is read as that.
      data: 32 bytes; or an ML-KEM-768 seed of 64 and then 32 of X25519.

    Raises:
      KeyringError: If the kind is unknown, or the key has another size.
    """
    self.kind = kind = _checked_kind(kind, data, "private")
    self._data = bytes(data)
    self._key, public = _load_private(kind, self._data)
    self.public = HpkePublicKey(kind, public)
    self.id = self.public.id

  @classmethod
  def generate(cls, kind: str = HYBRID) -> "HpkePrivateKey":
    """Return a fresh key from the operating system."""
    x25519 = X25519PrivateKey.generate().private_bytes_raw()
    seed = MLKEM768PrivateKey.generate().private_bytes_raw()
    return cls(kind, x25519 if kind == X25519 else seed + x25519)

  def reveal(self) -> bytes:
    """Return the private key itself, for a key file."""
    return self._data

  def wrap(self, data_key: bytes, context: bytes) -> Stanza:
    """Wrap a data key for the public key."""
    return self.public.wrap(data_key, context)

  def unwrap(self, stanza: Stanza, context: bytes) -> bytes | None:
    """Return the data key, or None if the stanza is for another identity."""
    if stanza.get("id") != self.id:
      return None
    return open_stanza(self.kind, stanza, context, lambda _: self._key)


def open_stanza(
  kind: str,
  stanza: Stanza,
  context: bytes,
  key_for: Callable[[bytes], Any],
) -> bytes:
  """Return the data key of a stanza.

  Args:
    kind: Kind of the recipient.
    stanza: What `HpkePublicKey.wrap` returned.
    context: Context that it is bound to.
    key_for: Return the private key, of `cryptography`, given the encapsulated
      key; a ValueError of it means that there is none.

  Raises:
    CannotOpen: If it does not open.
  """
  parameters = _KINDS[kind]
  size = parameters.encapsulated + SECRET_BYTES + _TAG
  sealed = field(stanza, "wrapped", bytes, size)
  try:
    key = key_for(sealed[: parameters.encapsulated])
    return parameters.suite.decrypt(sealed, key, context)
  except (InvalidTag, ValueError):
    raise CannotOpen from None


def load_point(data: bytes) -> ec.EllipticCurvePublicKey:
  """Return a public key of P-256; a ValueError if it is not on the curve."""
  return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), data)


def _load_private(kind: str, data: bytes) -> tuple[Any, bytes]:
  """Return a private key, and the bytes of its public key."""
  x25519 = X25519PrivateKey.from_private_bytes(data[-32:])
  public = x25519.public_key().public_bytes_raw()
  if kind == X25519:
    return x25519, public
  mlkem = MLKEM768PrivateKey.from_seed_bytes(data[:_MLKEM_SEED])
  both = mlkem.public_key().public_bytes_raw() + public
  return MLKEM768X25519PrivateKey(mlkem, x25519), both


def _register(*, name: str, summary: str, **openssl: Any) -> None:
  register(
    Kind(
      name=name,
      summary=summary,
      read_public=lambda data: HpkePublicKey(name, data),
      key_type=HpkePrivateKey,
      generate=lambda: HpkePrivateKey.generate(name),
      read=lambda data: HpkePrivateKey(name, data),
      reveal=HpkePrivateKey.reveal,
      identity=lambda key: key,
      recipient=lambda key: key.public,
      **openssl,
    )
  )


def _from_openssl(key: Any) -> HpkePrivateKey | None:
  if not isinstance(key, X25519PrivateKey):
    return None
  return HpkePrivateKey(X25519, key.private_bytes_raw())


_register(
  name=X25519,
  summary="to receive",
  from_openssl=_from_openssl,
  to_openssl=lambda key: X25519PrivateKey.from_private_bytes(key.reveal()),
)
_register(
  name=HYBRID,
  summary="to receive, also secure against future quantum computers",
)
register(Kind(name=P256, read_public=lambda data: HpkePublicKey(P256, data)))
