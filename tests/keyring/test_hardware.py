"""What all keys in devices have in common, with one that is in no device."""

import os
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from keyjax import extras, keyring
from keyjax.keyring import encoding
from tests import devices
from tests.devices import SoftwareKey
from tests.keyring.test_recipients import CONTEXT, Rfc9180


def stanza_for(key):
  return key.public.wrap(bytes(32), CONTEXT) | {"id": key.id}


@pytest.mark.vectors
def test_stanzas_open_as_rfc_9180_specifies():
  """DHKEM(P-256, HKDF-SHA256).Decap, section 4.1, written from the RFC."""
  key, data_key = SoftwareKey(), os.urandom(32)
  wrapped = encoding.decode(key.wrap(data_key, CONTEXT)["wrapped"])
  enc, suite = wrapped[:65], b"KEM\x00\x10"
  peer = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), enc)
  shared = key.private.exchange(ec.ECDH(), peer)
  prk = Rfc9180.extract(suite, b"", b"eae_prk", shared)
  context = enc + key.public.data
  secret = Rfc9180.expand(suite, prk, b"shared_secret", context, 32)
  theirs = Rfc9180(b"\x00\x10", secret, CONTEXT)
  assert theirs.open(wrapped[65:]) == data_key


def test_the_public_key_has_a_text():
  key = SoftwareKey()
  text = keyring.format_recipient(key.public)
  assert text.startswith("keyjax-p256:")
  assert keyring.parse_recipient(text) == key.public
  assert key.id == key.public.id and key.id.startswith("p256:")
  for wrong in (bytes(65), b"\x04" + bytes(64), b"\x04" + b"\1" * 64):
    with pytest.raises(keyring.KeyringError, match="not a public key of kind"):
      keyring.HpkePublicKey("p256", wrong)


def test_no_private_key_of_this_kind_is_in_a_file():
  assert keyring.kinds()["p256"].generate is None
  with pytest.raises(keyring.KeyringError, match="are x25519 and mlkem768x25"):
    keyring.HpkePrivateKey("p256", bytes(32))
  with pytest.raises(keyring.KeyringError, match="is not a private key"):
    keyring.format_key(SoftwareKey())


def test_the_device_sees_neither_other_stanzas_nor_malformed_ones():
  key = SoftwareKey()
  stanza = stanza_for(key)
  data = encoding.decode(stanza["wrapped"])
  assert key.unwrap(stanza | {"id": "p256:another"}, CONTEXT) is None
  for wrong in (b"", data[:-1], data + b"\0", bytes(113), b"\x02" + data[1:]):
    altered = stanza | {"wrapped": encoding.encode(wrong)}
    with pytest.raises(keyring.KeyringError):
      key.unwrap(altered, CONTEXT)
  assert key.asked == []
  assert key.unwrap(stanza, CONTEXT) == bytes(32) and key.asked == ["1234"]


def test_the_pin_is_asked_for_when_needed_and_once():
  asked = []
  key = SoftwareKey(lambda: asked.append(1) or "1234")
  assert key.unwrap(stanza_for(key) | {"id": "aes:x"}, CONTEXT) is None
  assert asked == []
  for _ in range(3):
    assert key.unwrap(stanza_for(key), CONTEXT) == bytes(32)
  assert asked == [1]


def test_after_a_refusal_the_device_is_not_asked_again():
  key = SoftwareKey("4321")
  for text in ("^the PIN is wrong$", "wrong; it is not asked again$"):
    with pytest.raises(keyring.KeyringError, match=text):
      key.unwrap(stanza_for(key), CONTEXT)
  assert key.asked == ["4321"]


def test_a_missing_library_names_its_extra():
  with pytest.raises(keyring.KeyringError, match=r"install 'keyjax\[tpm\]'"):
    extras.library("no_such_module", "tpm")


@pytest.mark.slow
@devices.needs_tpm
@devices.needs_token
def test_wraps_and_unwraps_a_second(tmp_path, monkeypatch, capsys):
  import pkcs11

  devices.make_token(tmp_path)
  monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "conf"))
  monkeypatch.setenv("PKCS11_MODULE_PATH", str(devices.SOFTHSM))
  pkcs11.lib(str(devices.SOFTHSM)).reinitialize()
  with devices.emulator() as tpm:
    keyring.limit_tries(3, lockout=None, tcti=tpm.tcti)
    for name, key in (
      ("swtpm", keyring.TpmKey.create(0x81010001, "1234", tcti=tpm.tcti)),
      ("SoftHSM2", keyring.Pkcs11Key.create("alice", "model", "1234")),
    ):
      stanza = stanza_for(key)
      rates = [
        _rate(lambda key=key: key.wrap(bytes(32), CONTEXT)),
        _rate(lambda key=key, one=stanza: key.unwrap(one, CONTEXT)),
      ]
      with capsys.disabled():
        print(f"\n{name}: {rates[0]:.0f} wraps and {rates[1]:.0f} unwraps a s")
      assert key.unwrap(stanza, CONTEXT) == bytes(32)


def _rate(call, runs=5, calls=40):
  """Return the median number of calls a second."""
  times = []
  for _ in range(runs):
    begin = time.perf_counter()
    for _ in range(calls):
      call()
    times.append((time.perf_counter() - begin) / calls)
  return 1 / sorted(times)[runs // 2]
