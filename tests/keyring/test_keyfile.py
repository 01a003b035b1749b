"""Private keys as text and files; public keys as one line."""

import json
import os
import pathlib
import re
import shutil
import stat
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, x25519

from keyjax import Secret, keyring
from keyjax.keyring import encoding
from tests.keyring.conftest import CHEAP

WORDS = "six random words"
MAKERS = {
  "secret": Secret.generate,
  "x25519": lambda: keyring.HpkePrivateKey.generate("x25519"),
  "mlkem768x25519": keyring.HpkePrivateKey.generate,
  "rsa": lambda: keyring.RsaIdentity.generate(2048),
  "device": lambda: keyring.Broadcast(Secret.generate(), 5).device(3),
  "ed25519": lambda: keyring.SigningKey.generate("ed25519"),
  "ml-dsa-65": lambda: keyring.SigningKey.generate("ml-dsa-65"),
}


@pytest.fixture(params=MAKERS)
def key(request):
  return MAKERS[request.param]()


def same(a, b):
  """Return whether two keys are the same."""
  if isinstance(a, Secret) or isinstance(b, Secret):
    return a == b
  return type(a) is type(b) and a.id == b.id and a.reveal() == b.reveal()


def test_files_in_both_forms(key, tmp_path):
  keyring.write_key(tmp_path / "key", key, WORDS, cost=CHEAP)
  keyring.write_key(tmp_path / "plain", key, plain=True)
  for name in ("key", "plain"):
    path = tmp_path / name
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert same(keyring.read_key(f"file:{path}", WORDS), key)
    with pytest.raises(FileExistsError):
      keyring.write_key(path, key, plain=True)
    path.chmod(0o644)
    with pytest.raises(PermissionError, match="chmod 600"):
      keyring.read_key(f"file:{path}", WORDS)
  assert "KEYJAX-SECRET-" in (tmp_path / "plain").read_text()
  assert "KEYJAX-SECRET-" not in (tmp_path / "key").read_text()


def test_every_kind_with_key_files_is_tested():
  kinds = keyring.kinds().items()
  assert {name for name, kind in kinds if kind.read} == set(MAKERS)
  assert {name for name, kind in kinds if kind.reveal} == set(MAKERS)


def test_what_is_written_to_a_path_is_read_from_it(key, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv("HOME", str(tmp_path / "home"))
  places = {
    "a.key": "a.key",
    str(tmp_path / "b.key"): "b.key",
    tmp_path / "c.key": "c.key",
    "file:d.key": "d.key",
    "keys/new/e:.key": "keys/new/e:.key",
    "~/f.key": "home/f.key",
    "file:~/g.key": "home/g.key",
    pathlib.Path("env:h.key"): "env:h.key",
  }
  for place, name in places.items():
    keyring.write_key(place, key, plain=True)
    assert same(keyring.read_key(place), key)
    assert same(keyring.read_key(f"file:{tmp_path / name}"), key)
  keyring.write_key("i.key", key, WORDS, cost=CHEAP)
  assert same(keyring.read_key("i.key", WORDS), key)
  with pytest.raises(keyring.WrongPassphrase, match="passphrase of i.key is"):
    keyring.read_key("i.key", "other words")


def test_keys_without_files_are_refused_in_one_line(tmp_path):
  secret = Secret.generate()
  signing = keyring.SigningKey.generate()
  cases = [
    (keyring.SymmetricKey(secret), "write the Secret that it was made of"),
    (signing.private, "write the keyring.SigningKey that it is of"),
    (keyring.Passphrase(WORDS), "a Passphrase is not a private key"),
    (signing.public, "is not a private key"),
    (keyring.HpkePrivateKey.generate().public, "is not a private key"),
  ]
  for value, message in cases:
    with pytest.raises(keyring.KeyringError, match=message):
      keyring.write_key(tmp_path / "key", value, plain=True)
  for place in ("env:KEY", "fd:3", "file:"):
    with pytest.raises(keyring.KeyringError, match="is written to a file"):
      keyring.write_key(place, secret, plain=True)
  assert list(tmp_path.iterdir()) == []


def test_passphrases_are_requested_only_when_needed(key):
  text = keyring.protect_key(key, WORDS, CHEAP)
  asked = []
  again = keyring.parse_key(text, lambda: asked.append(1) or WORDS)
  assert same(again, key) and asked == [1]
  plain = keyring.format_key(key)
  assert same(keyring.parse_key(plain, lambda: asked.append(1)), key)
  assert asked == [1]
  with pytest.raises(keyring.KeyringError, match="give its passphrase"):
    keyring.parse_key(text)
  with pytest.raises(keyring.CannotOpen):
    keyring.parse_key(text, WORDS + "x")


def test_a_wrong_passphrase_names_the_key_file(tmp_path, monkeypatch):
  path = tmp_path / "a.key"
  keyring.write_key(path, Secret.generate(), WORDS, cost=CHEAP)
  monkeypatch.setenv("KEYJAX_TEST_KEY", path.read_text())
  wrong = "is wrong, or the file is damaged"
  for source, name in (
    (f"file:{path}", str(path)),
    ("env:KEYJAX_TEST_KEY", "env:KEYJAX_TEST_KEY"),
  ):
    with pytest.raises(keyring.WrongPassphrase) as error:
      keyring.read_key(source, WORDS + "x")
    assert str(error.value) == f"the passphrase of {name} {wrong}"
    assert isinstance(error.value, keyring.CannotOpen)
  with pytest.raises(keyring.WrongPassphrase, match="this private key"):
    keyring.parse_key(path.read_text(), "other words")


def test_a_key_file_needs_a_passphrase_or_plain():
  key = Secret.generate()
  for more in ({}, {"plain": True, "passphrase": WORDS}):
    with pytest.raises(keyring.KeyringError, match="or plain=True for none"):
      keyring.write_key("never", key, **more)
  with pytest.raises(keyring.KeyringError, match="empty passphrase"):
    keyring.write_key("never", key, "")


def test_sources(tmp_path, monkeypatch):
  key = Secret.generate()
  text = keyring.format_key(key)
  monkeypatch.setenv("KEYJAX_TEST_KEY", text)
  assert keyring.read_key("env:KEYJAX_TEST_KEY") == key
  read, write = os.pipe()
  os.write(write, text.encode() + b"\n")
  os.close(write)
  assert keyring.read_key(f"fd:{read}") == key
  with pytest.raises(keyring.KeyringError, match="cannot be read"):
    keyring.read_key(f"fd:{read}")  # The descriptor was closed.


@pytest.mark.parametrize(
  "source, message",
  [
    ("", "a key comes from file:PATH, env:NAME or fd:NUMBER"),
    ("KEYJAX-SECRET-SECRET:AAAA", "a key comes from"),
    ("file:", "a key comes from"),
    ("file:/nowhere/key", "the key file /nowhere/key does not exist"),
    ("env:KEYJAX_NOT_SET", "environment variable of the key is not set"),
    ("fd:1", "a descriptor is 0, or 3 and above"),
    ("fd:-1", "a descriptor is 0"),
    ("fd:x", "a descriptor is 0"),
    ("fd:9999", "descriptor 9999 of the key cannot be read"),
  ],
)
def test_unusable_sources_are_refused(source, message):
  with pytest.raises(keyring.KeyringError, match=message) as error:
    keyring.read_key(source)
  assert "AAAA" not in str(error.value)


def test_endless_sources_are_refused(tmp_path):
  path = tmp_path / "big"
  path.touch(0o600)
  with open(path, "wb") as file:
    file.truncate(2**40)  # sparse
  with pytest.raises(keyring.KeyringError, match="more than 65536 bytes"):
    keyring.read_key(f"file:{path}")


def test_buffers_are_cleared(monkeypatch):
  monkeypatch.setenv("KEYJAX_TEST_KEY", "a secret")
  with keyring.read_source("env:KEYJAX_TEST_KEY") as text:
    kept = text
    assert kept == b"a secret"
  assert kept == bytes(8)
  with pytest.raises(RuntimeError):
    with keyring.read_source("env:KEYJAX_TEST_KEY") as text:
      kept = text
      raise RuntimeError
  assert kept == bytes(8)


def test_other_text_is_not_a_key(key):
  good = keyring.format_key(key)
  head, _, body = good.partition(":")
  flipped = body[:9] + ("A" if body[9] != "A" else "B") + body[10:]
  for text, message in (
    ("", "not a private key"),
    ("hello", "not a private key"),
    ("caf\u00e9", "not a private key"),
    ("KEYJAX-SECRET-P256:AAAA", "not a private key"),
    (f"{head}:?", "not base64"),
    (f"{head}:", "cut or misread"),
    (f"{head}:{flipped}", "cut or misread"),
    (f"{head}:{body[:-8]}", "cut or misread|not base64"),
    ("x" * 70_000, "no private key is that long"),
  ):
    with pytest.raises(keyring.KeyringError, match=message) as error:
      keyring.parse_key(text)
    assert body[:16] not in str(error.value)


@pytest.mark.parametrize("kind", MAKERS)
def test_a_valid_text_around_a_malformed_key(kind):
  """With a valid checksum, or sealed: the key was malformed when written."""
  junk = bytes(31)
  check = encoding.checksum(f"KEYJAX-SECRET-{kind}", junk)
  text = f"KEYJAX-SECRET-{kind.upper()}:{encoding.encode(junk + check)}"
  with pytest.raises(keyring.KeyringError, match="not a private|has|the keys"):
    keyring.parse_key(text)


def test_edited_protected_text_is_refused(key):
  text = keyring.protect_key(key, WORDS, CHEAP)
  document = json.loads(text)
  kinds = [kind for kind in MAKERS if kind != document["kind"]]
  for edit, message in (
    ({"version": 2}, "of another version than 1"),
    ({"kind": "p256"}, "not a private key of KeyJAX"),
    ({"kind": ["x"]}, "'kind' is missing or of another type"),
    ({"keyjax": "ring"}, "not a private key of KeyJAX"),
    ({"memory": 2**30}, "too expensive"),
    ({"memory": 1}, "too cheap"),
    ({"passes": 2}, "or the file is damaged"),
    ({"salt": encoding.encode(bytes(16))}, "or the file is damaged"),
    ({"salt": ""}, "has 0 bytes, not 16"),
    ({"sealed": encoding.encode(bytes(80))}, "or the file is damaged"),
    *(({"kind": kind}, "or the file is damaged") for kind in kinds),
  ):
    with pytest.raises(keyring.KeyringError, match=message):
      keyring.parse_key(encoding.dump(document | edit), WORDS)


def test_pem_of_openssl(tmp_path):
  """A key that OpenSSL made, and one that it reads back."""
  openssl = shutil.which("openssl")
  if openssl is None:
    pytest.skip("openssl is not installed")

  def run(*args):
    return subprocess.run(
      [openssl, *args], check=True, capture_output=True, text=True
    ).stdout

  path = tmp_path / "key.pem"
  long = "0123456789 abcdefghij"
  for algorithm in ("X25519", "RSA"):
    pem = run("genpkey", "-algorithm", algorithm)
    key = keyring.parse_key(pem)
    path.unlink(missing_ok=True)
    path.touch(0o600)
    path.write_text(keyring.export_pem(key, long))
    assert same(keyring.read_key(f"file:{path}", long), key)
    with pytest.raises(keyring.CannotOpen):
      keyring.read_key(f"file:{path}", WORDS)
    with pytest.raises(keyring.KeyringError, match="give its passphrase"):
      keyring.read_key(f"file:{path}")
    there = run("pkey", "-in", str(path), "-passin", f"pass:{long}")
    assert same(keyring.parse_key(there), key)


def test_the_cost_that_pem_states_is_accepted_up_to_a_limit(tmp_path):
  key = keyring.HpkePrivateKey.generate("x25519")
  words = "x" * 20
  path = tmp_path / "key.pem"
  path.write_text(keyring.export_pem(key, words))
  openssl = shutil.which("openssl")
  protect = ["pkcs8", "-topk8", "-in", path, "-passin", f"pass:{words}"]
  costs = [["-iter", "3000"], ["-scrypt"], ["-v1", "PBE-SHA1-3DES"]]
  texts = [path.read_text()]
  for cost in costs if openssl else ():
    out = ["-passout", f"pass:{words}"]
    made = subprocess.run(
      [openssl, *protect, *cost, *out], capture_output=True, text=True
    )
    texts += [made.stdout] if made.returncode == 0 else []
  for text in texts:
    assert keyring.parse_key(text, words).id == key.id
    with pytest.raises(keyring.KeyringError, match="raise max_cost"):
      keyring.parse_key(text, words, max_cost=keyring.Cost(1000, 1, 1))
  for damaged in (texts[0].replace("MI", "II"), texts[0][:90]):
    with pytest.raises(keyring.KeyringError, match="holds no private key"):
      keyring.parse_key(damaged, words)


def test_passphrases_of_pem_are_normalized():
  composed, split = (
    f"caf{e} au lait, six words" for e in ("\u00e9", "e\u0301")
  )
  key = keyring.HpkePrivateKey.generate("x25519")
  for text in (composed, split):
    pem = keyring.export_pem(key, text)
    # OpenSSL opens it with the composed form, which most keyboards make.
    assert serialization.load_pem_private_key(pem.encode(), composed.encode())
    # Other programs, and earlier versions, encrypt under what was typed.
    typed = serialization.BestAvailableEncryption(text.encode())
    theirs = x25519.X25519PrivateKey.from_private_bytes(key.reveal())
    pkcs8 = serialization.PrivateFormat.PKCS8
    other = theirs.private_bytes(serialization.Encoding.PEM, pkcs8, typed)
    for typed in (composed, split):
      assert keyring.parse_key(pem, typed).id == key.id
      assert keyring.parse_key(other, typed).id == key.id
  with pytest.raises(keyring.WrongPassphrase):
    keyring.parse_key(pem, "cafe au lait, six words")


def test_unsuitable_pem_is_refused():
  hybrid = keyring.HpkePrivateKey.generate()
  with pytest.raises(keyring.KeyringError, match="random passphrase of 20"):
    keyring.export_pem(hybrid, WORDS)
  with pytest.raises(keyring.KeyringError, match="no key of kind mlkem768"):
    keyring.export_pem(hybrid, "x" * 20)
  pkcs8 = serialization.PrivateFormat.PKCS8
  clear = serialization.NoEncryption()
  other = ed25519.Ed25519PrivateKey.generate()
  pem = other.private_bytes(serialization.Encoding.PEM, pkcs8, clear)
  with pytest.raises(keyring.KeyringError, match="neither an X25519 nor"):
    keyring.parse_key(pem)
  with pytest.raises(keyring.KeyringError, match="holds no private key"):
    keyring.parse_key("-----BEGIN PRIVATE KEY-----\nAAAA\n")
  mine = x25519.X25519PrivateKey.generate()
  pem = mine.private_bytes(serialization.Encoding.PEM, pkcs8, clear)
  assert keyring.parse_key(pem).reveal() == mine.private_bytes_raw()


def test_every_key_is_an_identity(key):
  if isinstance(key, keyring.SigningKey):
    with pytest.raises(keyring.KeyringError, match="it opens none"):
      keyring.as_identity(key)
    return
  identity = keyring.as_identity(key)
  assert keyring.as_identity(identity) is identity
  if not hasattr(identity, "wrap"):
    assert isinstance(key, keyring.DeviceKeys)
    return
  envelope = keyring.seal_envelope(bytes(32), [identity], checkpoint="a")
  assert keyring.open_envelope(envelope, [identity]).data_key == bytes(32)


def test_an_identity_without_a_key_file_stays_as_it_is(tmp_path):
  service = keyring.LocalKms(tmp_path / "kms")
  root = Secret.generate()
  ring = keyring.Keyring.create(tmp_path / "ring", root, "team")
  for identity in (
    keyring.Passphrase(WORDS, CHEAP),
    keyring.KmsKey(service, "key"),
    *ring.identities(),
  ):
    assert keyring.as_identity(identity) is identity
  for other in (None, "key", keyring.SigningKey.generate().public):
    with pytest.raises(keyring.KeyringError, match="is not a private key"):
      keyring.as_identity(other)


@pytest.mark.parametrize("kind", ["x25519", "mlkem768x25519", "rsa"])
def test_public_keys_as_text(kind):
  public = MAKERS[kind]().public
  text = keyring.format_recipient(public)
  assert re.fullmatch(rf"keyjax-{kind}:[A-Za-z0-9+/]+=*", text)
  again = keyring.parse_recipient(f"  {text}\n")
  assert again.id == public.id and again.data == public.data
  head, _, body = text.partition(":")
  flipped = body[:9] + ("A" if body[9] != "A" else "B") + body[10:]
  for wrong, message in (
    (f"{head}:{flipped}", "cut or misread"),
    (f"{head}:{body[:-8]}", "cut or misread|not base64"),
    (f"{head}:", "cut or misread"),
    (f"{head}:?", "not base64"),
    (f"{head}:{'A' * 9000}", "at most 8192"),
    (body, "looks like keyjax-x25519"),
    (f"keyjax-p384:{body}", "the kinds are x25519, mlkem768x25519, p256"),
    (f"{kind}:{body}", "looks like keyjax-x25519"),
    ("", "looks like keyjax-x25519"),
  ):
    with pytest.raises(keyring.KeyringError, match=message):
      keyring.parse_recipient(wrong)
  # A key of one kind is not read as another.
  other = "rsa" if kind != "rsa" else "x25519"
  with pytest.raises(keyring.KeyringError, match="cut or misread"):
    keyring.parse_recipient(f"keyjax-{other}:{body}")
