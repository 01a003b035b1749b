"""Keys on a token: SoftHSM2, what it does not do, and a token that locks."""

import contextlib
import pickle
import shutil
import sys

import pytest

from keyjax import Secret, keyring
from keyjax.keyring.recipients import pkcs11 as module
from tests import devices

BACKUP = Secret(bytes(range(32)))


def use(monkeypatch, path, **environment):
  """Load a module again, which reads its environment then."""
  import pkcs11

  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  monkeypatch.setenv("PKCS11_MODULE_PATH", str(path))
  pkcs11.lib(str(path)).reinitialize()


@pytest.fixture
def token(tmp_path, monkeypatch):
  """A folder with a token that has a key."""
  devices.make_token(tmp_path)
  conf = str(tmp_path / "conf")
  use(monkeypatch, devices.SOFTHSM, SOFTHSM2_CONF=conf)
  keyring.Pkcs11Key.create("alice", "model", "1234")
  return tmp_path


def key(pin="1234", label="model"):
  return keyring.Pkcs11Key("alice", label, pin)


def sealed():
  """Return an envelope for the token and the owner's backup."""
  recipients = [key().public, keyring.SymmetricKey(BACKUP)]
  return keyring.seal_envelope(bytes(32), recipients, checkpoint="m/1")


def opens(envelope, identity):
  return keyring.open_envelope(envelope, [identity]).data_key == bytes(32)


@contextlib.contextmanager
def direct():
  """Yield python-pkcs11 and a session, as an attacker with the PIN has them."""
  import pkcs11

  found = pkcs11.lib(str(devices.SOFTHSM)).get_token(token_label="alice")
  with found.open(rw=True, user_pin="1234") as session:
    yield pkcs11, session


@devices.needs_token
def test_the_key_stays_on_the_token(token):
  envelope = sealed()
  assert opens(envelope, key())
  assert "1234" not in repr(key())
  with pytest.raises(TypeError, match="not pickled or copied"):
    pickle.dumps(key())
  with direct() as (p11, session):
    private = session.get_key(p11.ObjectClass.PRIVATE_KEY, label="model")
    with pytest.raises(p11.AttributeSensitive):
      private[p11.Attribute.VALUE]
    with pytest.raises(p11.AttributeReadOnly):
      private[p11.Attribute.EXTRACTABLE] = True
  with pytest.raises(keyring.KeyringError, match="object of this label"):
    keyring.Pkcs11Key.create("alice", "model", "1234")


@devices.needs_token
def test_a_key_that_could_leave_is_refused(token):
  with direct() as (p11, session):
    curve = session.create_domain_parameters(
      p11.KeyType.EC, {p11.Attribute.EC_PARAMS: module._P256}, local=True
    )
    curve.generate_keypair(
      store=True,
      label="open",
      capabilities=p11.MechanismFlag.DERIVE,
      private_template={p11.Attribute.EXTRACTABLE: True},
    )
  open_key = key(label="open")
  stanza = open_key.wrap(bytes(32), b"c") | {"id": open_key.id}
  with pytest.raises(keyring.KeyringError, match="would export this key"):
    open_key.unwrap(stanza, b"c")


@devices.needs_token
def test_forget_erases_the_key_with_the_pin(token):
  envelope = sealed()
  with pytest.raises(keyring.KeyringError, match="the PIN is wrong"):
    key("4321").forget()
  key().forget()
  with pytest.raises(keyring.KeyringError, match="has no such key"):
    key()
  first, _, third = keyring.split_secret(BACKUP, 2, 3)
  backup = keyring.combine_shares([first, third])
  assert opens(envelope, keyring.SymmetricKey(backup))


@devices.needs_token
def test_a_copied_folder_of_softhsm_opens_after_forget(token, monkeypatch):
  """The known break of a token made of files."""
  envelope = sealed()
  shutil.copytree(token / "tokens", token / "copy")
  key().forget()
  shutil.rmtree(token / "tokens")
  (token / "copy").rename(token / "tokens")
  use(monkeypatch, devices.SOFTHSM)
  assert opens(envelope, key())


@devices.needs_token
def test_softhsm_counts_no_wrong_pins(token):
  """The known break: guesses are free."""
  envelope = sealed()
  assert key().status() == {
    "wrong_before": False,
    "final_try": False,
    "locked": False,
  }
  for _ in range(12):
    with pytest.raises(keyring.KeyringError, match="the PIN is wrong"):
      opens(envelope, key("4321"))
  status = key().status()
  assert status["wrong_before"] and not status["locked"]
  assert opens(envelope, key())


@devices.needs_token
def test_files_alone_use_up_no_try(token):
  mine = key()
  stanza = mine.wrap(bytes(32), b"c") | {"id": mine.id}
  data = bytearray(keyring.encoding.decode(stanza["wrapped"]))
  for at in (0, 1, 40, 70, 112):
    data[at] ^= 1
    altered = stanza | {"wrapped": keyring.encoding.encode(bytes(data))}
    with pytest.raises(keyring.CannotOpen):
      mine.unwrap(altered, b"c")
    data[at] ^= 1
  other = keyring.Pkcs11Key.create("alice", "other", "1234")
  assert other.unwrap(stanza, b"c") is None
  with pytest.raises(keyring.CannotOpen):
    other.unwrap(stanza | {"id": other.id}, b"c")
  assert not mine.status()["wrong_before"]
  assert mine.unwrap(stanza, b"c") == bytes(32)


@devices.needs_locking_token
def test_a_token_that_counts_refuses_the_right_pin(tmp_path, monkeypatch):
  with devices.emulator() as tpm:
    devices.make_locking_token(tmp_path, tpm)
    environment = devices.locking_token(tmp_path, tpm)
    use(monkeypatch, devices.TPM_MODULE, **environment)
    stanza = key().wrap(bytes(32), b"c") | {"id": key().id}
    # This module makes no secrets with elliptic curves: `create` says so.
    with pytest.raises(keyring.KeyringError, match="no CKM_ECDH1_DERIVE"):
      keyring.Pkcs11Key.create("alice", "another", "1234")
    with pytest.raises(keyring.KeyringError, match="FunctionNotSupported"):
      key().unwrap(stanza, b"c")
    for _ in range(3):
      with pytest.raises(keyring.KeyringError, match="the PIN is wrong"):
        key("4321").unwrap(stanza, b"c")
    for _ in range(2):
      with pytest.raises(keyring.KeyringError, match="no PIN is accepted"):
        key().unwrap(stanza, b"c")
    with pytest.raises(keyring.KeyringError, match="no PIN is accepted"):
      key().forget()
    sys.modules["pkcs11"].lib(str(devices.TPM_MODULE)).finalize()


@pytest.mark.parametrize(
  "uri",
  [
    "",
    "token=alice",
    "object=model",
    "token=;object=model",
    "token=alice;object=a;object=b",
    "token=alice;object=model;module-path=x",
    "token=alice;object=model?slot=7",
    "alice",
    "token=alice;object=model?pin-value=hunter2",
  ],
)
def test_a_uri_that_names_no_key_is_refused(uri):
  with pytest.raises(ValueError) as refused:
    module._parse(uri)
  assert "hunter2" not in str(refused.value)


def test_the_attributes_of_a_uri_are_decoded():
  found = module._parse(
    "token=My%20token;object=a%3Bb?module-path=/x.so&pin-source=file:pin"
  )
  assert found == {
    "token": "My token",
    "object": "a;b",
    "module-path": "/x.so",
    "pin-source": "file:pin",
  }
  assert (
    module._name("My token", "a;b") == "pkcs11:token=My%20token;object=a%3Bb"
  )


@devices.needs_token
def test_missing_tokens_and_libraries(token, monkeypatch):
  for given, text in (
    (("bob", "model"), "no such token"),
    (("alice", "other"), "no such key"),
  ):
    with pytest.raises(keyring.KeyringError, match=text):
      keyring.Pkcs11Key(*given, "1234")
  with pytest.raises(keyring.KeyringError, match="/nowhere.so"):
    keyring.Pkcs11Key("alice", "model", "1234", module="/nowhere.so")
  monkeypatch.delenv("PKCS11_MODULE_PATH")
  with pytest.raises(keyring.KeyringError, match="no module is given"):
    key()
  monkeypatch.setitem(sys.modules, "pkcs11", None)
  with pytest.raises(keyring.KeyringError, match=r"install 'keyjax\[pkcs11\]"):
    key()
