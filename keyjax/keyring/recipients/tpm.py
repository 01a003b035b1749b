"""A key in a TPM 2.0, which is disabled for good after some wrong PINs.

`limit_tries` sets, once for each TPM, how many wrong PINs it accepts and that
waiting restores none; `TpmKey.create` makes a key at a persistent handle. Needs
the extra `tpm`: tpm2-pytss, which is compiled against the system's libtss2. The
TPM is `device:/dev/tpmrm0`, or what TPM2TOOLS_TCTI names, as for tpm2-tools.

**Guarantees.** After `tries` wrong PINs the right one is refused too, and only
the lockout password allows more. Nothing on a disk opens the key: it never
leaves the TPM, and no file describes it. PINs cross the bus to the TPM only
encrypted. `create` refuses a TPM that forgives wrong PINs in time, or whose
lockout password is empty: anyone could start the count again.

**Known breaks.** Who restores the TPM's own state starts the count again: with
an emulator, as in virtual machines, that is a copy of a folder; a chip has to
be opened. Who can use the TPM can disable the key without the PIN, with wrong
ones or with `forget`: another recipient must open the envelope. The count is
of the TPM, not of the key: wrong PINs of other programs are counted, right ones
reset nothing, and a loss of power after a use counts as one more. Who reads the
memory of the process that calls `create` has the encrypted key, which this TPM
loads again after `forget`, for the right PIN. Only an emulator was tested.

References:
  Trusted Computing Group, "TPM 2.0 Library", part 1, section 19.8, 2019.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from keyjax.errors import ArgumentError, KeyringError
from keyjax.extras import library
from keyjax.keyring.encoding import encode_secret
from keyjax.keyring.hardware import HardwareKey, Pin
from keyjax.keyring.recipients import Argument, KeyReader, Kind, register
from keyjax.keyring.recipients.passphrase import normalized

_FOREVER = 2**32 - 1  # Seconds until a try returns: 136 years.
_MAX_AUTH = 32
_KEY = "ecc256:ecdh-sha256:null"
_PARENT = "ecc256:aes128cfb"


class TpmKey(HardwareKey):
  """A key at a persistent handle of a TPM: recipient and identity in one."""

  __slots__ = ("_handle", "_tcti")

  def __init__(self, handle: int, pin: Pin, *, tcti: str | None = None):
    """Refer to a key that `create` made.

    Args:
      handle: Its persistent handle, 0x81000000 to 0x817fffff.
      pin: PIN, or a function that asks for it when it is first needed.
      tcti: How to reach the TPM; see the module.

    Raises:
      KeyringError: If there is no such key, or it is one that does not count.
    """
    self._handle, self._tcti = handle, tcti
    name = _name(handle)
    with _opened(name, tcti) as (tss, tpm):
      _, point = _found(tss, tpm, handle)
    super().__init__(name, point, pin)

  @classmethod
  def create(
    cls, handle: int, pin: str, *, tcti: str | None = None
  ) -> "TpmKey":
    """Create a key in the TPM.

    Args:
      handle: A persistent handle that is free, 0x81000000 to 0x817fffff.
      pin: 1 to 32 bytes of UTF-8.
      tcti: How to reach the TPM; see the module.

    Raises:
      KeyringError: If the TPM forgives wrong PINs, the handle is in use, or the
        PIN is empty or too long.
    """
    auth = _auth(pin, "PIN")
    with _opened(_name(handle), tcti) as (tss, tpm):
      if not _lockout(tss, tpm)["for_good"]:
        raise KeyringError(
          f"{_name(handle)}: this TPM forgives wrong PINs; call `limit_tries` "
          "(keyjax hardware limit) first"
        )
      template = tss.TPM2B_PUBLIC.parse(_KEY, objectAttributes=_attributes(tss))
      sensitive = tss.TPMS_SENSITIVE_CREATE(userAuth=auth)
      with _parent(tss, tpm) as parent, _session(tss, tpm, parent) as session:
        private, public, *_ = tpm.create(
          parent,
          tss.TPM2B_SENSITIVE_CREATE(sensitive),
          template,
          session1=session,
        )
        with tpm.load(parent, private, public, session1=session) as key:
          tpm.evict_control(tss.ESYS_TR.OWNER, key, handle)
    return cls(handle, pin, tcti=tcti)

  def _multiply(self, point: bytes, pin: str) -> bytes:
    auth = _auth(pin, "PIN")
    with _opened(self.name, self._tcti) as (tss, tpm):
      key = self._loaded(tss, tpm)
      tpm.tr_set_auth(key, auth)
      given = tss.TPMS_ECC_POINT(x=point[1:33], y=point[33:])
      with _session(tss, tpm, key) as session:
        found = tpm.ecdh_zgen(key, tss.TPM2B_ECC_POINT(given), session1=session)
      return bytes(found.point.x).rjust(32, b"\0")

  def status(self) -> dict[str, Any]:
    """Return how the TPM counts wrong PINs; this needs no PIN.

    Returns:
      `tries`: wrong PINs that it accepts; `left`: of these; `recovery`: seconds
      until a try returns; `lockout_password`: whether there is one; `for_good`:
      whether neither time nor anyone without it restores a try.
    """
    with _opened(self.name, self._tcti) as (tss, tpm):
      return _lockout(tss, tpm)

  def forget(self) -> None:
    """Erase the key from the TPM, permanently; this needs no PIN."""
    with _opened(self.name, self._tcti) as (tss, tpm):
      key = self._loaded(tss, tpm)
      tpm.evict_control(tss.ESYS_TR.OWNER, key, self._handle)

  def _loaded(self, tss: Any, tpm: Any) -> Any:
    key, point = _found(tss, tpm, self._handle)
    if point != self.public.data:
      raise KeyringError(f"{self.name}: the TPM has another key there now")
    return key


def limit_tries(
  tries: int = 3, *, lockout: str | None, tcti: str | None = None
) -> None:
  """Limit the wrong PINs that a TPM accepts; the count starts at zero.

  This concerns all keys of the TPM that have PINs, of other programs too.

  Args:
    tries: Number of wrong PINs after which the right one is refused.
    lockout: Lockout password, 1 to 32 bytes of UTF-8; it is set if the TPM has
      none. Its owner can call this function again. None sets a random one:
      nobody ever restores a try, or clears the TPM but in its firmware.
    tcti: How to reach the TPM; see the module.

  Raises:
    ValueError: If `tries` is less than 1.
    KeyringError: If the TPM has another lockout password; after a wrong one it
      accepts none until it is started again.
  """
  if tries < 1:
    raise ValueError(f"tries is at least 1, got {tries}")
  secret = "lockout password"
  auth = os.urandom(_MAX_AUTH) if lockout is None else _auth(lockout, secret)
  with _opened("the TPM", tcti, secret) as (tss, tpm):
    owner = tss.ESYS_TR.LOCKOUT
    owned = _lockout(tss, tpm)["lockout_password"]
    if owned and lockout is None:
      raise KeyringError("the TPM has a lockout password: give it")
    tpm.tr_set_auth(owner, auth if owned else b"")
    with _parent(tss, tpm) as parent, _session(tss, tpm, parent) as session:
      tpm.dictionary_attack_lock_reset(owner, session1=session)
      tpm.dictionary_attack_parameters(
        tries, _FOREVER, 0, lock_handle=owner, session1=session
      )
      if not owned:
        tpm.hierarchy_change_auth(owner, auth, session1=session)


@contextlib.contextmanager
def _opened(
  name: str, tcti: str | None, secret: str = "PIN"
) -> Iterator[tuple[Any, Any]]:
  """Yield the library and a connection to the TPM; its errors become ours."""
  # Errors are raised: the C library need not print them as well.
  os.environ.setdefault("TSS2_LOG", "all+none")
  tss = library("tpm2_pytss", "tpm")
  tcti = tcti or os.environ.get("TPM2TOOLS_TCTI") or "device:/dev/tpmrm0"
  try:
    connection = tss.ESAPI(tcti)
  except tss.TSS2_Exception as error:
    raise KeyringError(f"{name}: no TPM at {tcti}: {error}") from None
  with connection as tpm:
    try:
      yield tss, tpm
    except tss.TSS2_Exception as error:
      meaning = _meaning(tss, tpm, error.error, secret) or error
      raise KeyringError(f"{name}: {meaning}") from None


def _meaning(tss: Any, tpm: Any, code: int, secret: str) -> str | None:
  """Return what an error of the TPM means here, if that is known."""
  codes = tss.TPM2_RC
  if code == codes.AUTH_FAIL and secret == "PIN":
    return f"the PIN is wrong; tries left: {_lockout(tss, tpm)['left']}"
  return {
    codes.AUTH_FAIL: f"the {secret} is wrong",
    codes.HANDLE: "the TPM has no such key",
    codes.LOCKOUT: f"no {secret} is accepted after wrong ones",
    codes.NV_DEFINED: "the TPM has a key there already",
  }.get(code)


def _found(tss: Any, tpm: Any, handle: int) -> tuple[Any, bytes]:
  """Return a key that `create` made, and its point."""
  key = tpm.tr_from_tpmpublic(handle)
  area = tpm.read_public(key)[0].publicArea
  if area.objectAttributes != _attributes(tss) or area.type != tss.TPM2_ALG.ECC:
    raise KeyringError(
      f"{_name(handle)} is not a key of `keyjax hardware create`"
    )
  x, y = area.unique.ecc.x, area.unique.ecc.y
  return key, b"\x04" + b"".join(bytes(n).rjust(32, b"\0") for n in (x, y))


def _lockout(tss: Any, tpm: Any) -> dict[str, Any]:
  """Return what `TpmKey.status` says."""
  names, kind = tss.TPM2_PT, tss.TPM2_CAP.TPM_PROPERTIES
  _, found = tpm.get_capability(kind, names.PERMANENT, 32)
  values = {x.property: x.value for x in found.data.tpmProperties}
  tries, recovery = values[names.MAX_AUTH_FAIL], values[names.LOCKOUT_INTERVAL]
  owned = bool(values[names.PERMANENT] & tss.TPMA_PERMANENT.LOCKOUTAUTHSET)
  return {
    "tries": tries,
    "left": max(0, tries - values[names.LOCKOUT_COUNTER]),
    "recovery": recovery,
    "lockout_password": owned,
    "for_good": owned and recovery == _FOREVER,
  }


def _attributes(tss: Any) -> Any:
  """Return the attributes of keys; without NODA, wrong PINs are counted."""
  bits = tss.TPMA_OBJECT
  own = bits.FIXEDTPM | bits.FIXEDPARENT | bits.SENSITIVEDATAORIGIN
  return own | bits.USERWITHAUTH | bits.DECRYPT


def _parent(tss: Any, tpm: Any) -> Any:
  """Return the storage key that the TPM derives from its seed."""
  bits = tss.TPMA_OBJECT
  attributes = _attributes(tss) | bits.RESTRICTED | bits.NODA
  template = tss.TPM2B_PUBLIC.parse(_PARENT, objectAttributes=attributes)
  return tpm.create_primary(tss.TPM2B_SENSITIVE_CREATE(), template)[0]


def _session(tss: Any, tpm: Any, key: Any) -> Any:
  """Return a session that encrypts what is secret, under a key of the TPM."""
  cipher = tss.TPMT_SYM_DEF.parse("aes128cfb")
  none, kind, digest = tss.ESYS_TR.NONE, tss.TPM2_SE.HMAC, tss.TPM2_ALG.SHA256
  session = tpm.start_auth_session(key, none, kind, cipher, digest)
  flags = tss.TPMA_SESSION
  both = flags.CONTINUESESSION | flags.DECRYPT | flags.ENCRYPT
  tpm.trsess_set_attributes(session, both)
  return session


def _auth(text: str, what: str) -> bytes:
  """Return a PIN or password for a TPM, which ignores zeros at the end."""
  data = encode_secret(normalized(text), what)
  if not 1 <= len(data) <= _MAX_AUTH or data.endswith(b"\0"):
    raise KeyringError(f"a {what} of a TPM has 1 to {_MAX_AUTH} bytes")
  return data


def _name(handle: int) -> str:
  if not 0x81000000 <= handle <= 0x817FFFFF:
    raise ArgumentError("a key of a TPM is named 0x81000000 to 0x817fffff")
  return f"tpm:{handle:#x}"


def _named(text: str, reader: KeyReader, *, new: bool = False) -> TpmKey:
  """Return the key that `tpm:HANDLE#SOURCE` names, or create it."""
  handle, _, source = text.partition("#")
  number = 0
  with contextlib.suppress(ValueError):
    number = int(handle, 16)
  if new:
    return TpmKey.create(number, reader.pin(source, _name(number), new=True))
  return TpmKey(number, lambda: reader.pin(source, _name(number)))


register(
  Kind(
    name="tpm",
    argument=Argument(
      form="tpm:HANDLE[#SOURCE]",
      help="a key in a TPM, made by `keyjax hardware create`, such as "
      "tpm:0x81010001; its PIN is asked for or read from a SOURCE",
      recipient=lambda text, reader: _named(text, reader).public,
      identity=_named,
      create=lambda text, reader: _named(text, reader, new=True),
    ),
  )
)
