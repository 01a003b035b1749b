"""No object shows its keys: in repr, pickles, copies and tracebacks."""

import copy
import pickle
import traceback

import pytest

from keyjax import Secret, keyring
from keyjax.cli import inputs
from keyjax.cli.exit_codes import Failure
from keyjax.keyring import encoding
from tests.keyring.conftest import CHEAP

MATERIAL = bytes(range(100, 132))
WORDS = "correct horse battery"


def spellings(data):
  return (data.hex()[:12], repr(data)[2:-1][:8], encoding.encode(data)[:8])


@pytest.fixture
def holders(tmp_path):
  """Return an object of every type that contains the material."""
  root = Secret(MATERIAL)
  ring = keyring.Keyring.create(tmp_path / "ring", root, "a")
  symmetric = keyring.SymmetricKey(root)
  envelope = keyring.seal_envelope(MATERIAL, [symmetric], checkpoint="c")
  made = [
    symmetric,
    keyring.Passphrase(WORDS, CHEAP),
    keyring.HpkePrivateKey("x25519", MATERIAL),
    keyring.HpkePrivateKey("mlkem768x25519", MATERIAL * 3),
    keyring.RsaIdentity.generate(2048),
    keyring.Broadcast(root, 4),
    keyring.Broadcast(root, 4).device(1),
    keyring.open_envelope(envelope, [symmetric]),
    ring,
    ring._state,
    ring.entries[0],
    ring.issue("lab"),
  ]
  return made, ring


def test_no_object_is_printed_pickled_or_copied(holders):
  made, ring = holders
  hidden = [MATERIAL, ring.entries[0].secret._bytes, made[6].reveal()[4:36]]
  for holder in made:
    shown = f"{holder} {holder!r} {[holder]} {(holder,)!r}"
    assert type(holder).__name__ in shown
    assert WORDS not in shown
    for data in hidden:
      assert not any(s in shown for s in spellings(data))
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
      with pytest.raises(TypeError, match="not pickled or copied"):
        leak(holder)


def test_tracebacks_contain_no_key(holders, tmp_path):
  made, ring = holders
  good = keyring.seal_envelope(MATERIAL, [made[0]], checkpoint="c")
  text = keyring.protect_key(Secret(MATERIAL), WORDS, CHEAP)
  plain = keyring.format_key(Secret(MATERIAL))
  short = MATERIAL[:-1]
  attempts = [
    lambda: keyring.open_envelope(good, made[1:4]),
    lambda: keyring.open_envelope(good[:-2], made[:1]),
    lambda: keyring.seal_envelope(short, made[:1], checkpoint="c"),
    lambda: keyring.seal_envelope(MATERIAL, made[:1], checkpoint="a b"),
    lambda: keyring.seal_envelope(
      MATERIAL, made[:1], checkpoint="c", metadata={"a": {1, 2}}
    ),
    lambda: keyring.leaf_key(short, "weights", "a"),
    lambda: keyring.HpkePrivateKey("x25519", short),
    lambda: keyring.parse_key(text, "wrong words"),
    lambda: keyring.parse_key(plain[:-4]),
    lambda: keyring.parse_key(plain.replace("SECRET:", "RSA:")),
    lambda: keyring.DeviceKeys.read(MATERIAL * 3),
    lambda: keyring.Keyring.load(ring.path, Secret.generate()),
    lambda: keyring.combine_shares([MATERIAL.hex()]),
    lambda: ring.destroy("a/1"),
  ]
  body = plain.partition(":")[2]
  for attempt in attempts:
    try:
      attempt()
    except (keyring.KeyringError, ValueError):
      shown = traceback.format_exc()
    else:
      raise AssertionError("it was not refused")
    for spelling in (*spellings(MATERIAL), WORDS, body[:12]):
      assert spelling not in shown.replace("MATERIAL", "")


def test_no_error_of_an_encoding_contains_a_passphrase(monkeypatch, tmp_path):
  """`UnicodeError.object` is the whole text; Python reads bytes this way."""
  words = WORDS + "\udcff"
  monkeypatch.setenv("KEYJAX_TEST", words)
  (tmp_path / "words").write_bytes(WORDS.encode() + b"\xff")
  (tmp_path / "words").chmod(0o600)
  rsa = keyring.RsaIdentity.generate(2048)
  protected = keyring.protect_key(Secret.generate(), WORDS, CHEAP)
  pem = keyring.export_pem(rsa, WORDS)
  for attempt in (
    lambda: keyring.protect_key(Secret.generate(), words, CHEAP),
    lambda: keyring.parse_key(protected, words),
    lambda: keyring.parse_key(pem, words),
    lambda: keyring.parse_key(words),
    lambda: keyring.export_pem(rsa, words),
    lambda: keyring.Passphrase(words, CHEAP).wrap(bytes(32), b""),
    lambda: keyring.read_key("env:KEYJAX_TEST"),
    lambda: inputs.read_passphrase("env:KEYJAX_TEST"),
    lambda: inputs.read_passphrase(f"file:{tmp_path / 'words'}"),
  ):
    with pytest.raises((keyring.KeyringError, Failure)) as error:
      attempt()
    assert str(error.value).endswith("is not UTF-8 text")
    context = error.value
    while context := context.__cause__ or context.__context__:
      assert not isinstance(context, UnicodeError)


def test_no_error_of_json_contains_the_document():
  with pytest.raises(keyring.KeyringError, match="is not JSON") as error:
    encoding.parse(b'{"key": "' + WORDS.encode(), "it", size=99, items=9)
  assert error.value.__context__ is None


def test_errors_hide_their_causes():
  """Errors of other libraries are dropped: some of them quote their input."""
  text = keyring.protect_key(Secret.generate(), WORDS, CHEAP)
  for attempt in (
    lambda: keyring.parse_key(text, "wrong words"),
    lambda: keyring.parse_key("-----BEGIN PRIVATE KEY-----\nAAAA\n"),
    lambda: keyring.inspect_envelope(b"{"),
    lambda: keyring.RsaRecipient(b"x"),
    lambda: encoding.decode("?"),
    lambda: encoding.dump({"a": object()}),
  ):
    with pytest.raises(keyring.KeyringError) as error:
      attempt()
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__ or error.value.__context__ is None
