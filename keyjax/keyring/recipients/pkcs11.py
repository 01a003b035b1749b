"""A key on a PKCS#11 token: a smart card, a security key, a hardware module.

The private key is an elliptic-curve key (P-256) that the token does not export
and that derives secrets (CKM_ECDH1_DERIVE). Needs the extra `pkcs11`
(python-pkcs11) and the module that came with the token: `module-path` in its
URI, or PKCS11_MODULE_PATH. Keys are named by PKCS#11 URIs (RFC 7512), with the
attributes `token`, `object`, `module-path` and `pin-source`.

**Guarantees.** The key does not leave the token; one that could is refused. If
the token counts wrong PINs, after those the right one is refused too. Without
the token nobody uses up a try. `forget` needs the PIN and erases the key.

**Known breaks.** How many wrong PINs a token accepts, and who can reset the
count (often a PUK or SO PIN), was set when it was initialized; PKCS#11 cannot
say it. SoftHSM2 counts none: any number of wrong PINs is accepted, and a copy
of its folder still opens with the PIN after `forget`. It is for tests. A
key that was made elsewhere and imported has copies.

References:
  J. Pechanec and D. Moffat, RFC 7512, "The PKCS #11 URI Scheme", 2015.
  OASIS, "PKCS #11 Specification Version 3.1", 2023.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote

from keyjax.errors import ArgumentError, KeyringError
from keyjax.extras import library
from keyjax.keyring.hardware import HardwareKey, Pin
from keyjax.keyring.recipients import Argument, KeyReader, Kind, register

_P256 = bytes.fromhex("06082a8648ce3d030107")  # Its object identifier, DER.
_POINT = 65
_PATH = ("token", "object")
_QUERY = ("module-path", "pin-source")


class Pkcs11Key(HardwareKey):
  """A key on a token: recipient and identity in one."""

  __slots__ = ("_label", "_module", "_token")

  def __init__(
    self, token: str, label: str, pin: Pin, *, module: str | None = None
  ):
    """Refer to a key that is on a token.

    Args:
      token: Label of the token.
      label: Label of the key, CKA_LABEL.
      pin: PIN, or a function that asks for it when it is first needed.
      module: File of the token's PKCS#11 module; PKCS11_MODULE_PATH in the
        environment by default.

    Raises:
      KeyringError: If the token has no such public key of P-256.
    """
    self._module, self._token, self._label = module, token, label
    name = _name(token, label)
    with _opened(name, module, token) as (p11, found), found.open() as session:
      key = session.get_key(p11.ObjectClass.PUBLIC_KEY, label=label)
      # In DER, as PKCS#11 says, or raw: the point is at the end.
      point = bytes(key[p11.Attribute.EC_POINT])[-_POINT:]
    super().__init__(name, point, pin)

  @classmethod
  def create(
    cls, token: str, label: str, pin: str, *, module: str | None = None
  ) -> "Pkcs11Key":
    """Create a key on a token.

    Args:
      token: Label of the token, which has been initialized.
      label: Label of the key; no other key of the token has it.
      pin: The token's PIN.
      module: File of the token's PKCS#11 module; see above.

    Raises:
      KeyringError: If the PIN is wrong, there is a key of this label, or the
        token does not derive secrets with elliptic curves.
    """
    name = _name(token, label)
    with _opened(name, module, token) as (p11, found):
      if p11.Mechanism.ECDH1_DERIVE not in found.slot.get_mechanisms():
        raise KeyringError(f"{name}: the token has no CKM_ECDH1_DERIVE")
      with found.open(rw=True, user_pin=pin) as session:
        if next(session.get_objects({p11.Attribute.LABEL: label}), None):
          raise KeyringError(f"{name}: the token has an object of this label")
        curve = session.create_domain_parameters(
          p11.KeyType.EC, {p11.Attribute.EC_PARAMS: _P256}, local=True
        )
        curve.generate_keypair(
          store=True,
          label=label,
          id=os.urandom(8),
          capabilities=p11.MechanismFlag.DERIVE,
          private_template={
            p11.Attribute.SENSITIVE: True,
            p11.Attribute.EXTRACTABLE: False,
          },
        )
    return cls(token, label, pin, module=module)

  def _multiply(self, point: bytes, pin: str) -> bytes:
    with self._private(pin) as (p11, key):
      at = p11.Attribute
      if key[at.EXTRACTABLE] or not key[at.SENSITIVE]:
        raise KeyringError(f"{self.name}: the token would export this key")
      shared = key.derive_key(
        p11.KeyType.GENERIC_SECRET,
        256,
        mechanism=p11.Mechanism.ECDH1_DERIVE,
        mechanism_param=(p11.KDF.NULL, None, point),
        template={at.SENSITIVE: False, at.EXTRACTABLE: True},
      )
      return bytes(shared[at.VALUE])

  def status(self) -> dict[str, Any]:
    """Return the token's flags for wrong PINs.

    Returns:
      `wrong_before`: the last PIN was wrong; `final_try`: one more locks it;
      `locked`: it is locked. A token may set none of them, ever.
    """
    with _opened(self.name, self._module, self._token) as (p11, token):
      flags, names = token.flags, p11.TokenFlag
      return {
        "wrong_before": names.USER_PIN_COUNT_LOW in flags,
        "final_try": names.USER_PIN_FINAL_TRY in flags,
        "locked": names.USER_PIN_LOCKED in flags,
      }

  def forget(self) -> None:
    """Erase the key from the token, permanently; this needs the PIN."""
    with self._private(self._given_pin(), rw=True) as (p11, key):
      session = key.session
      key.destroy()
      session.get_key(p11.ObjectClass.PUBLIC_KEY, label=self._label).destroy()

  @contextlib.contextmanager
  def _private(self, pin: str, rw: bool = False) -> Iterator[tuple[Any, Any]]:
    """Yield the library and the private key, after the PIN was given."""
    with _opened(self.name, self._module, self._token) as (p11, token):
      with token.open(rw=rw, user_pin=pin) as session:
        yield (
          p11,
          session.get_key(p11.ObjectClass.PRIVATE_KEY, label=self._label),
        )


@contextlib.contextmanager
def _opened(
  name: str, module: str | None, token: str
) -> Iterator[tuple[Any, Any]]:
  """Yield the library and a token; errors of the token become ours."""
  p11 = library("pkcs11", "pkcs11")
  path = module or os.environ.get("PKCS11_MODULE_PATH")
  if not path:
    raise KeyringError(
      f"{name}: no module is given: add ?module-path=FILE, or set "
      "PKCS11_MODULE_PATH"
    )
  try:
    yield p11, p11.lib(path).get_token(token_label=token)
  except p11.PKCS11Error as error:
    meaning = {
      p11.PinIncorrect: "the PIN is wrong",
      p11.PinLocked: "no PIN is accepted after wrong ones",
      p11.NoSuchKey: "the token has no such key",
      p11.NoSuchToken: "there is no such token",
    }.get(type(error), f"{type(error).__name__} {error}".strip())
    raise KeyringError(f"{name}: {meaning}") from None


def _name(token: str, label: str) -> str:
  return f"pkcs11:token={quote(token)};object={quote(label)}"


def _parse(uri: str) -> dict[str, str]:
  """Return the attributes of a URI, without its scheme.

  Raises:
    ArgumentError: If it does not name a key, or contains a PIN.
  """
  path, _, query = uri.partition("?")
  found: dict[str, str] = {}
  for names, part in (_PATH, path.split(";")), (_QUERY, query.split("&")):
    for pair in filter(None, part):
      name, _, value = pair.partition("=")
      if name == "pin-value":
        raise ArgumentError(
          "pin-value shows the PIN to other users: give pin-source=SOURCE"
        )
      if name not in names or name in found or not value:
        raise ArgumentError(
          f"a key on a token is named pkcs11:{'=;'.join(_PATH)}=, and then "
          f"?{'=&'.join(_QUERY)}="
        )
      found[name] = unquote(value)
  if not found.keys() >= set(_PATH):
    raise ArgumentError("a key on a token is named by its token= and object=")
  return found


def _named(uri: str, reader: KeyReader, *, new: bool = False) -> Pkcs11Key:
  """Return the key that a URI names, or create it."""
  given = _parse(uri)
  token, label = given["token"], given["object"]
  module, source = given.get("module-path"), given.get("pin-source", "")
  name = _name(token, label)
  if new:
    pin = reader.pin(source, name)
    return Pkcs11Key.create(token, label, pin, module=module)
  return Pkcs11Key(
    token, label, lambda: reader.pin(source, name), module=module
  )


register(
  Kind(
    name="pkcs11",
    argument=Argument(
      form="pkcs11:URI",
      help="a key on a PKCS#11 token, such as pkcs11:token=alice;object=model; "
      "?module-path= names the token's module, pin-source= a SOURCE of the PIN",
      recipient=lambda uri, reader: _named(uri, reader).public,
      identity=_named,
      create=lambda uri, reader: _named(uri, reader, new=True),
    ),
  )
)
