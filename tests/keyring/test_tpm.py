"""Keys in an emulated TPM: what disables them, and what defeats that."""

import contextlib
import os
import pickle
import re
import shutil
import sys
import time
import traceback

import pytest

from keyjax import Secret, keyring
from keyjax.keyring.recipients import tpm as module
from tests import devices

pytestmark = devices.needs_tpm

HANDLE, PIN, LOCKOUT = 0x81010001, "1234 horses", "owner's own"
BACKUP = Secret(bytes(range(32)))
FOREVER = 2**32 - 1


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  """The state of a TPM with a key, and the key as it passed by encrypted."""
  passed = []
  with pytest.MonkeyPatch.context() as patch, devices.emulator() as tpm:
    tss = pytest.importorskip("tpm2_pytss")
    create = tss.ESAPI.create

    def spy(*args, **kwargs):
      passed.append(create(*args, **kwargs)[:2])
      return *passed[-1], None

    patch.setattr(tss.ESAPI, "create", spy)
    keyring.limit_tries(3, lockout=LOCKOUT, tcti=tpm.tcti)
    keyring.TpmKey.create(HANDLE, PIN, tcti=tpm.tcti)
    tpm.stop()
    state = shutil.copytree(tpm.state, tmp_path_factory.mktemp("tpm") / "state")
    tpm.start()
  return state, passed[0]


@pytest.fixture
def tpm(made):
  with devices.emulator(made[0]) as running:
    yield running


def key(tpm, pin=PIN):
  return keyring.TpmKey(HANDLE, pin, tcti=tpm.tcti)


def sealed(tpm):
  """Return an envelope for the TPM and the owner's backup."""
  recipients = [key(tpm).public, keyring.SymmetricKey(BACKUP)]
  return keyring.seal_envelope(bytes(32), recipients, checkpoint="m/1")


def opens(envelope, identity):
  return keyring.open_envelope(envelope, [identity]).data_key == bytes(32)


def lock(tpm, envelope):
  for left in (2, 1, 0):
    with pytest.raises(keyring.KeyringError, match=f"tries left: {left}$"):
      opens(envelope, key(tpm, "wrong"))


def assert_locked(tpm, envelope):
  with pytest.raises(keyring.KeyringError, match="no PIN is accepted after"):
    opens(envelope, key(tpm))


@contextlib.contextmanager
def direct(tpm):
  """Yield tpm2-pytss and a connection, as an attacker has them."""
  import tpm2_pytss as tss

  with tss.ESAPI(tpm.tcti) as connection:
    yield tss, connection


def test_after_three_wrong_pins_the_right_one_is_refused(tpm):
  envelope = sealed(tpm)
  assert opens(envelope, key(tpm))
  lock(tpm, envelope)
  assert_locked(tpm, envelope)
  tpm.restart()
  assert_locked(tpm, envelope)
  # The owner's backup still opens: any two of three shares.
  first, _, third = keyring.split_secret(BACKUP, 2, 3)
  backup = keyring.combine_shares([third, first])
  assert opens(envelope, keyring.SymmetricKey(backup))


def test_waiting_restores_no_try_unless_the_tpm_forgives(tpm, made):
  """One second instead of 136 years, as makers set minutes or hours."""
  envelope = sealed(tpm)
  with devices.emulator(made[0]) as forgiving:
    with direct(forgiving) as (tss, connection):
      connection.tr_set_auth(tss.ESYS_TR.LOCKOUT, LOCKOUT.encode())
      connection.dictionary_attack_parameters(3, 1, 0)
    lock(forgiving, envelope)
    lock(tpm, envelope)
    time.sleep(1.2)
    assert opens(envelope, key(forgiving))
    assert not key(forgiving).status()["for_good"]
    with pytest.raises(keyring.KeyringError, match="forgives wrong PINs"):
      keyring.TpmKey.create(HANDLE + 1, PIN, tcti=forgiving.tcti)
  assert key(tpm).status()["recovery"] == FOREVER
  assert_locked(tpm, envelope)


def load(tpm, blob):
  """Load a recorded key and put it where it was; return an error or None."""
  with direct(tpm) as (tss, connection):
    try:
      with module._parent(tss, connection) as parent:
        with connection.load(parent, *blob) as loaded:
          connection.evict_control(tss.ESYS_TR.OWNER, loaded, HANDLE)
    except tss.TSS2_Exception as error:
      return error.error
  return None


def test_a_copied_blob_is_refused(tpm, made):
  """By another TPM, and by the same one after wrong PINs."""
  envelope = sealed(tpm)
  with devices.emulator() as other:
    keyring.limit_tries(3, lockout=LOCKOUT, tcti=other.tcti)
    assert load(other, made[1]) == 0x9F  # TPM_RC_INTEGRITY
    with pytest.raises(keyring.KeyringError, match="has no such key"):
      key(other)
    keyring.TpmKey.create(HANDLE, PIN, tcti=other.tcti)
    with pytest.raises(keyring.CannotOpen):
      opens(envelope, key(other))
  lock(tpm, envelope)
  key(tpm).forget()
  assert load(tpm, made[1]) is None
  assert_locked(tpm, envelope)


def test_forget_erases_the_key_without_a_pin(tpm, made):
  envelope = sealed(tpm)
  mine = key(tpm, lambda: pytest.fail("a PIN was asked for"))
  mine.forget()
  for use in (mine.forget, lambda: key(tpm)):
    with pytest.raises(keyring.KeyringError, match="has no such key"):
      use()
  assert opens(envelope, keyring.SymmetricKey(BACKUP))
  # Another key at the handle is neither asked nor erased.
  other = keyring.TpmKey.create(HANDLE, PIN, tcti=tpm.tcti)
  assert other.id != mine.id
  with pytest.raises(keyring.KeyringError, match="another key there now"):
    mine.forget()
  with pytest.raises(keyring.CannotOpen):
    opens(envelope, other)
  # The known break: who recorded the key in the memory of `create`.
  other.forget()
  assert load(tpm, made[1]) is None
  assert opens(envelope, key(tpm))


def test_a_restored_state_starts_the_count_again(tpm, made):
  """The known break of emulators: a copy of a folder."""
  envelope = sealed(tpm)
  lock(tpm, envelope)
  tpm.stop()
  shutil.rmtree(tpm.state)
  shutil.copytree(made[0], tpm.state)
  tpm.start()
  assert opens(envelope, key(tpm))


def test_files_alone_use_up_no_try(tpm):
  """Neither in another TPM nor altered, whoever opens what was altered."""
  envelope, mine = sealed(tpm), key(tpm)
  stanza = mine.wrap(bytes(32), b"c") | {"id": mine.id}
  with devices.emulator() as other:
    keyring.limit_tries(3, lockout=LOCKOUT, tcti=other.tcti)
    keyring.TpmKey.create(HANDLE, PIN, tcti=other.tcti)
    for _ in range(4):
      with pytest.raises(keyring.CannotOpen):
        opens(envelope, key(other, "wrong"))
    assert key(other).status()["left"] == 3
  data = bytearray(keyring.encoding.decode(stanza["wrapped"]))
  for at in (0, 1, 40, 70, 112):
    data[at] ^= 1
    altered = stanza | {"wrapped": keyring.encoding.encode(bytes(data))}
    with pytest.raises(keyring.CannotOpen):
      mine.unwrap(altered, b"c")
    data[at] ^= 1
  with pytest.raises(keyring.CannotOpen):
    mine.unwrap(stanza, b"another context")
  assert mine.unwrap(stanza, b"c") == bytes(32)
  assert mine.status()["left"] == 3


def test_one_object_uses_up_one_try(tpm):
  envelope, wrong = sealed(tpm), key(tpm, "wrong")
  for text in ("tries left: 2$", "not asked again", "not asked again"):
    with pytest.raises(keyring.KeyringError, match=text):
      opens(envelope, wrong)
  assert key(tpm).status()["left"] == 2
  assert opens(envelope, key(tpm))


def test_what_the_count_is(tpm):
  """Right PINs and others' keys do not change it, a loss of power does."""
  envelope = sealed(tpm)
  with pytest.raises(keyring.KeyringError, match="tries left: 2$"):
    opens(envelope, key(tpm, "wrong"))
  second = keyring.TpmKey.create(HANDLE + 1, "another", tcti=tpm.tcti)
  assert opens(envelope, key(tpm))
  assert second.status() == key(tpm).status()
  assert second.status() | {"left": 2} == second.status()
  tpm.restart(orderly=False)
  assert second.status()["left"] == 1
  keyring.limit_tries(5, lockout=LOCKOUT, tcti=tpm.tcti)
  assert second.status() == {
    "tries": 5,
    "left": 5,
    "recovery": FOREVER,
    "lockout_password": True,
    "for_good": True,
  }


def test_only_the_lockout_password_restores_tries(tpm):
  envelope = sealed(tpm)
  lock(tpm, envelope)
  with pytest.raises(keyring.KeyringError, match="has a lockout password"):
    keyring.limit_tries(lockout=None, tcti=tpm.tcti)
  with pytest.raises(keyring.KeyringError, match="lockout password is wrong"):
    keyring.limit_tries(lockout="guess", tcti=tpm.tcti)
  with pytest.raises(keyring.KeyringError, match="no lockout password is acc"):
    keyring.limit_tries(lockout=LOCKOUT, tcti=tpm.tcti)
  assert_locked(tpm, envelope)
  tpm.restart()
  keyring.limit_tries(lockout=LOCKOUT, tcti=tpm.tcti)
  assert opens(envelope, key(tpm))


def test_clearing_the_tpm_restores_the_tries_and_erases_the_key(tpm):
  """What its firmware offers to whoever is at the machine."""
  lock(tpm, sealed(tpm))
  with direct(tpm) as (tss, connection):
    connection.clear(tss.ESYS_TR.PLATFORM)
  with pytest.raises(keyring.KeyringError, match="has no such key"):
    key(tpm)


def test_without_a_lockout_password_the_count_is_worth_nothing():
  with devices.emulator() as tpm:
    with direct(tpm) as (tss, connection):
      connection.dictionary_attack_parameters(3, FOREVER, 0)
    with pytest.raises(keyring.KeyringError, match="forgives wrong PINs"):
      keyring.TpmKey.create(HANDLE, PIN, tcti=tpm.tcti)
    keyring.limit_tries(2, lockout=None, tcti=tpm.tcti)
    made = keyring.TpmKey.create(HANDLE, PIN, tcti=tpm.tcti)
    assert made.status()["for_good"] and made.status()["left"] == 2
    # A random password, which nobody knows: not even an empty one works.
    with direct(tpm) as (tss, connection):
      with pytest.raises(tss.TSS2_Exception, match="authorization"):
        connection.dictionary_attack_lock_reset()


def test_pins_are_not_shown(tpm, capfd):
  """In no text, and on the bus only encrypted, as is what the TPM computes."""
  words = "horses"
  fresh = keyring.TpmKey.create(HANDLE + 1, f"56 {words}", tcti=tpm.tcti)
  wrong = key(tpm, f"78 {words}")
  stanza = wrong.wrap(bytes(32), b"c") | {"id": wrong.id}
  shown = [repr(fresh), str(wrong)]
  try:
    wrong.unwrap(stanza, b"c")
  except keyring.KeyringError:
    shown.append(traceback.format_exc())
  with pytest.raises(TypeError, match="not pickled or copied"):
    pickle.dumps(fresh)
  shown += capfd.readouterr()
  assert len(shown) == 5 and not any(words in text for text in shown)
  point = keyring.encoding.decode(stanza["wrapped"])[:65]
  shared = key(tpm)._multiply(point, PIN)
  assert fresh.public.data[1:33] in bus(tpm)
  assert words.encode() not in bus(tpm) and shared not in bus(tpm)
  # A client without an encrypted session would have shown it there.
  with direct(tpm) as (tss, connection):
    handle = connection.tr_from_tpmpublic(HANDLE)
    connection.tr_set_auth(handle, words.encode())
    with pytest.raises(tss.TSS2_Exception):
      connection.ecdh_zgen(handle, tss.TPM2B_ECC_POINT())
  assert words.encode() in bus(tpm)


def bus(tpm):
  """Return every byte that went to the TPM and came from it."""
  log = tpm.log.read_text()
  lines = re.findall(r"^(?: [0-9A-F]{2})+ $", log, re.MULTILINE)
  return bytes.fromhex("".join(lines))


def test_what_is_no_key_of_ours_is_refused(tpm):
  with direct(tpm) as (tss, connection):
    with module._parent(tss, connection) as parent:
      connection.evict_control(tss.ESYS_TR.OWNER, parent, HANDLE + 1)
  with pytest.raises(keyring.KeyringError, match="is not a key of `keyjax"):
    keyring.TpmKey(HANDLE + 1, PIN, tcti=tpm.tcti)
  with pytest.raises(keyring.KeyringError, match="has a key there already"):
    keyring.TpmKey.create(HANDLE, PIN, tcti=tpm.tcti)
  for wrong in ("", "x" * 33, "\0", "\u00e4" * 17):
    with pytest.raises(keyring.KeyringError, match="has 1 to 32 bytes"):
      keyring.TpmKey.create(HANDLE + 2, wrong, tcti=tpm.tcti)
  with pytest.raises(keyring.KeyringError, match="password of a TPM has 1 to"):
    keyring.limit_tries(lockout="", tcti=tpm.tcti)


def test_wrong_arguments(monkeypatch):
  with pytest.raises(ValueError, match="named 0x81000000 to 0x817fffff"):
    keyring.TpmKey(0x81800000, PIN)
  with pytest.raises(ValueError, match="tries is at least 1, got 0"):
    keyring.limit_tries(0, lockout=None)
  monkeypatch.setenv("TPM2TOOLS_TCTI", f"device:/nowhere/{os.getpid()}")
  with pytest.raises(keyring.KeyringError, match="no TPM at device:/nowhere"):
    keyring.TpmKey(HANDLE, PIN)
  monkeypatch.setitem(sys.modules, "tpm2_pytss", None)
  with pytest.raises(keyring.KeyringError, match=r"pip install 'keyjax\[tpm\]"):
    keyring.TpmKey(HANDLE, PIN)
