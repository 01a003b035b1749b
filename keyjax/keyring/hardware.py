"""Keys that stay in a device which counts wrong PINs: the source that forgets.

The device has a P-256 key that it never gives out. Anyone wraps a data key for
its public key (HPKE, see `recipients.hpke`); to unwrap, the device multiplies
one point, for whoever knows its PIN. The kinds are `tpm` and `pkcs11`.

**Guarantees.** Who has only files, such as an envelope or a copy of the disk,
can neither open them nor use up a try: every try is a command to the device,
and it gets none for a stanza that is malformed or for another recipient. One
object asks its device no more once that has refused, so that a program that
opens an envelope several times uses up one try.

**Known breaks.** What was opened once stays open: the data key is in the memory
of this process, and who keeps it needs no device. A large quantum computer
breaks P-256. Give every envelope another recipient (`split_secret`), because
the device may also break or be lost.
"""

import abc
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from keyjax.errors import KeyringError
from keyjax.keyring.recipients import Private, Stanza
from keyjax.keyring.recipients.hpke import (
  P256,
  HpkePublicKey,
  load_point,
  open_stanza,
)

Pin = str | Callable[[], str]


class HardwareKey(Private, abc.ABC):
  """A key in a device: recipient and identity in one."""

  __slots__ = ("_pin", "_refusal", "id", "name", "public")

  def __init__(self, name: str, point: bytes, pin: Pin):
    """Refer to a key.

    Args:
      name: How messages name it, such as "tpm:0x81010001".
      point: Its public key, as read from the device: 65 bytes.
      pin: PIN, or a function that asks for it when it is first needed.
    """
    self.name = name
    self.public = HpkePublicKey(P256, point)
    self.id = self.public.id
    self._pin = pin
    self._refusal = ""

  @abc.abstractmethod
  def _multiply(self, point: bytes, pin: str) -> bytes:
    """Return the x-coordinate of a point times the private key: 32 bytes.

    Args:
      point: A point of P-256, uncompressed, 65 bytes.
      pin: PIN to give to the device.

    Raises:
      KeyringError: If the device refuses.
    """

  @abc.abstractmethod
  def status(self) -> dict[str, Any]:
    """Return what the device says about wrong PINs; it needs no PIN."""

  @abc.abstractmethod
  def forget(self) -> None:
    """Erase the key from the device, permanently."""

  def ask_pin(self) -> None:
    """Ask for the PIN now, and not when it is first needed."""
    self._given_pin()

  def wrap(self, data_key: bytes, context: bytes) -> Stanza:
    """Wrap a data key for the public key; the device is not needed."""
    return self.public.wrap(data_key, context)

  def unwrap(self, stanza: Stanza, context: bytes) -> bytes | None:
    """Return the data key, or None if the stanza is for another identity.

    Raises:
      CannotOpen: If the stanza is altered.
      KeyringError: If the device refuses, or has refused this object before.
    """
    if stanza.get("id") != self.id:
      return None
    return open_stanza(P256, stanza, context, self._exchange)

  def _exchange(self, point: bytes) -> "_Exchanged":
    load_point(point)  # Points of an attacker do not reach the device.
    if self._refusal:
      raise KeyringError(f"{self._refusal}; it is not asked again")
    pin = self._given_pin()
    try:
      return _Exchanged(self.public, self._multiply(point, pin))
    except KeyringError as error:
      self._refusal = str(error)
      raise

  def _given_pin(self) -> str:
    if callable(self._pin):
      self._pin = self._pin()
    return self._pin


@ec.EllipticCurvePrivateKey.register
class _Exchanged:
  """A private key of `cryptography` whose one exchange a device has made."""

  curve = ec.SECP256R1()

  def __init__(self, public: HpkePublicKey, shared: bytes):
    self._public = public
    self._shared = shared

  def exchange(self, algorithm: Any, peer: Any) -> bytes:
    return self._shared

  def public_key(self) -> ec.EllipticCurvePublicKey:
    return load_point(self._public.data)
