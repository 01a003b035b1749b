"""Every kind of recipient: round trips, wrong keys, other implementations."""

import hashlib
import json
import os

import pytest
from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, rsa
from cryptography.hazmat.primitives.asymmetric.x25519 import (
  X25519PrivateKey,
  X25519PublicKey,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from keyjax import Secret, keyring
from keyjax.keyring import encoding
from keyjax.keyring.recipients import symmetric
from tests import wycheproof
from tests.keyring.conftest import KINDS

CONTEXT = b"keyjax/envelope/1/model-a"


def stanza_for(recipient, data_key, context=CONTEXT):
  return recipient.wrap(data_key, context) | {"id": recipient.id}


def test_round_trip_and_binding(kind, make_pair):
  recipient, identity = make_pair(kind)
  assert recipient.id == identity.id and recipient.id.isascii()
  data_key = os.urandom(32)
  stanza = stanza_for(recipient, data_key)
  assert identity.unwrap(stanza, CONTEXT) == data_key
  with pytest.raises(keyring.CannotOpen):
    identity.unwrap(stanza, CONTEXT + b"x")
  assert identity.unwrap(stanza | {"id": "aes:another"}, CONTEXT) is None
  with pytest.raises(keyring.CannotOpen):
    _, other = make_pair(kind)
    if kind == "passphrase":
      other = keyring.Passphrase("six random word")
    if kind == "broadcast":
      other = keyring.DeviceKeys(
        identity.id, identity.leaf, [Secret.generate() for _ in range(9)]
      )
    other.unwrap(stanza | {"id": other.id}, CONTEXT)


# A device reads only its own part of a broadcast stanza; the MAC of the
# envelope covers the others.
@pytest.mark.parametrize("kind", [k for k in KINDS if k != "broadcast"])
def test_every_field_of_a_stanza_matters(kind, make_pair):
  recipient, identity = make_pair(kind)
  stanza = stanza_for(recipient, os.urandom(32))
  for name, value in stanza.items():
    if name == "id":
      continue
    for other in _altered(value):
      with pytest.raises(keyring.KeyringError):
        identity.unwrap(stanza | {name: other}, CONTEXT)
    rest = {k: v for k, v in stanza.items() if k != name}
    with pytest.raises(keyring.KeyringError, match="missing"):
      identity.unwrap(rest, CONTEXT)


def _altered(value):
  if isinstance(value, int):
    return [value + 1, -value, 2**40, str(value), True]
  data = bytearray(encoding.decode(value))
  flips = []
  for at in (0, len(data) // 2, len(data) - 1):
    data[at] ^= 1
    flips.append(encoding.encode(bytes(data)))
    data[at] ^= 1
  cut, more = bytes(data[:-1]), bytes(data) + b"\0"
  return [*flips, encoding.encode(cut), encoding.encode(more), "", "*", 7]


def test_data_keys_of_another_size_are_refused(kind, make_pair):
  recipient, _ = make_pair(kind)
  for wrong in (b"", bytes(31), bytes(33), "x" * 32, bytearray(32)):
    with pytest.raises(ValueError, match="a data key is 32 bytes"):
      recipient.wrap(wrong, CONTEXT)


@pytest.mark.vectors
def test_key_wrap_with_padding_against_wycheproof(monkeypatch):
  """Through KeyJAX functions, with the key of the vector as the derived one."""
  done = {"valid": 0, "invalid": 0}
  for case in wycheproof.cases("aes_kwp_test.json"):
    key, msg, ct = (bytes.fromhex(case[x]) for x in ("key", "msg", "ct"))
    if len(key) != 32 or (case["result"] == "valid" and len(msg) != 32):
      continue
    monkeypatch.setattr(symmetric, "_kek", lambda *_, key=key: key)
    if case["result"] == "valid":
      assert symmetric.wrap_key(Secret.generate(), msg, b"") == ct
      assert symmetric.unwrap_key(Secret.generate(), ct, b"") == msg
    else:  # "acceptable" means short keys, which are not data keys here.
      with pytest.raises(keyring.CannotOpen):
        symmetric.unwrap_key(Secret.generate(), ct, b"")
    done["valid" if case["result"] == "valid" else "invalid"] += 1
  assert done["valid"] > 0 and done["invalid"] > 20


class Rfc9180:
  """HPKE base mode with HKDF-SHA-256 and AES-256-GCM, written from the RFC."""

  def __init__(self, kem_id, shared_secret, info):
    suite = b"HPKE" + kem_id + b"\x00\x01\x00\x02"
    self._suite, self._secret = suite, shared_secret
    psk = self.extract(suite, b"", b"psk_id_hash", b"")
    context = b"\0" + psk + self.extract(suite, b"", b"info_hash", info)
    secret = self.extract(suite, shared_secret, b"secret", b"")
    self.key = self.expand(suite, secret, b"key", context, 32)
    self.nonce = self.expand(suite, secret, b"base_nonce", context, 12)

  @staticmethod
  def extract(suite, salt, label, data):
    mac = hmac.HMAC(salt or bytes(32), hashes.SHA256())
    mac.update(b"HPKE-v1" + suite + label + data)
    return mac.finalize()

  @staticmethod
  def expand(suite, key, label, info, length):
    info = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return HKDFExpand(hashes.SHA256(), length, info).derive(key)

  def open(self, ciphertext, aad=b""):
    return AESGCM(self.key).decrypt(self.nonce, ciphertext, aad)


def dhkem(private: bytes, enc: bytes) -> bytes:
  """DHKEM(X25519, HKDF-SHA256).Decap of RFC 9180, section 4.1."""
  key = X25519PrivateKey.from_private_bytes(private)
  shared = key.exchange(X25519PublicKey.from_public_bytes(enc))
  suite = b"KEM\x00\x20"
  prk = Rfc9180.extract(suite, b"", b"eae_prk", shared)
  context = enc + key.public_key().public_bytes_raw()
  return Rfc9180.expand(suite, prk, b"shared_secret", context, 32)


@pytest.mark.vectors
def test_x25519_stanzas_open_as_rfc_9180_specifies():
  vectors = pytest.importorskip("cryptography_vectors")
  path = os.path.join("HPKE", "test-vectors.json")
  with vectors.open_vector_file(path, "r") as file:
    cases = json.load(file)
  wanted = {"mode": 0, "kem_id": 32, "kdf_id": 1, "aead_id": 2}
  (case,) = (c for c in cases if wanted.items() <= c.items())
  unhex = bytes.fromhex
  shared = dhkem(unhex(case["skRm"]), unhex(case["enc"]))
  assert shared == unhex(case["shared_secret"])
  theirs = Rfc9180(b"\x00\x20", shared, unhex(case["info"]))
  assert theirs.key == unhex(case["key"])
  first = case["encryptions"][0]
  plain = theirs.open(unhex(first["ct"]), unhex(first["aad"]))
  assert plain == unhex(first["pt"])

  private, data_key = keyring.HpkePrivateKey.generate("x25519"), os.urandom(32)
  wrapped = encoding.decode(private.wrap(data_key, CONTEXT)["wrapped"])
  shared = dhkem(private.reveal(), wrapped[:32])
  assert Rfc9180(b"\x00\x20", shared, CONTEXT).open(wrapped[32:]) == data_key


def test_hybrid_stanzas_open_as_x_wing_specifies():
  private, data_key = keyring.HpkePrivateKey.generate(), os.urandom(32)
  wrapped = encoding.decode(private.wrap(data_key, CONTEXT)["wrapped"])
  first, second, sealed = wrapped[:1088], wrapped[1088:1120], wrapped[1120:]
  seed, scalar = private.reveal()[:64], private.reveal()[64:]
  a = mlkem.MLKEM768PrivateKey.from_seed_bytes(seed).decapsulate(first)
  x25519 = X25519PrivateKey.from_private_bytes(scalar)
  b = x25519.exchange(X25519PublicKey.from_public_bytes(second))
  public = private.public.data[-32:]
  shared = hashlib.sha3_256(a + b + second + public + rb"\.//^\ "[:6]).digest()
  assert Rfc9180(b"\x64\x7a", shared, CONTEXT).open(sealed) == data_key


def test_invalid_public_keys_are_refused():
  for point in (bytes(32), b"\x01" + bytes(31)):  # of small order
    with pytest.raises(keyring.KeyringError, match="not a usable public key"):
      keyring.HpkePublicKey("x25519", point).wrap(bytes(32), b"")
  with pytest.raises(keyring.KeyringError, match="not a public key of kind"):
    keyring.HpkePublicKey("mlkem768x25519", b"\xff" * 1216)
  with pytest.raises(keyring.KeyringError, match="has 32 bytes here"):
    keyring.HpkePublicKey("x25519", bytes(31))
  with pytest.raises(keyring.KeyringError, match="unknown kind of key 'p256'"):
    keyring.HpkePrivateKey("p256", bytes(32))


def test_the_hybrid_has_two_names_and_shows_one():
  key = keyring.HpkePrivateKey.generate("mlkem768-x25519")
  public = keyring.HpkePublicKey("mlkem768-x25519", key.public.data)
  assert public == key.public and public.kind == "mlkem768x25519"
  again = keyring.HpkePrivateKey("mlkem768-x25519", key.reveal())
  assert again.kind == "mlkem768x25519" and again.id == key.id


def test_unsuitable_rsa_keys_are_refused():
  spki = serialization.PublicFormat.SubjectPublicKeyInfo
  short = rsa.generate_private_key(65537, 1024)
  with pytest.raises(keyring.KeyringError, match="1024 bits: 2048 to 16384"):
    keyring.RsaIdentity(short)
  curve = ec.generate_private_key(ec.SECP256R1()).public_key()
  pem = curve.public_bytes(serialization.Encoding.PEM, spki)
  for wrong in (b"", b"x" * 100, pem):
    with pytest.raises(keyring.KeyringError, match="not an RSA public key"):
      keyring.RsaRecipient(wrong)
  key = keyring.RsaIdentity.generate(2048)
  public = serialization.load_der_public_key(key.public.data)
  pem = public.public_bytes(serialization.Encoding.PEM, spki)
  assert keyring.RsaRecipient(pem).id == key.id


@pytest.mark.parametrize(
  "cost, word",
  [
    ((2**20 + 1, 1, 1), "too expensive"),
    ((2**40, 1, 1), "too expensive"),
    ((2**20, 16, 1), "too expensive"),
    ((65536, 17, 4), "too expensive"),
    ((65536, 3, 17), "too expensive"),
    ((19455, 3, 4), "too cheap"),
    ((65536, 0, 4), "too cheap"),
    ((65536, 3, 0), "too cheap"),
    ((-1, -1, -1), "too cheap"),
  ],
)
def test_costs_are_checked_before_memory_is_used(cost, word, monkeypatch):
  """Nothing is derived: an attacker can write any cost into a stanza."""

  def never(*args, **kwargs):
    raise AssertionError("Argon2id was started")

  key = keyring.Passphrase("six random words", keyring.Cost(19456, 1, 1))
  stanza = stanza_for(key, bytes(32))
  monkeypatch.setattr("keyjax.keyring.recipients.passphrase.Argon2id", never)
  fields = dict(zip(keyring.Cost._fields, cost, strict=True))
  with pytest.raises(keyring.KeyringError, match=word):
    key.unwrap(stanza | fields, CONTEXT)
  with pytest.raises(keyring.KeyringError, match=word):
    keyring.Passphrase("six random words", keyring.Cost(*cost))


def test_passphrases_are_normalized_text():
  cheap = keyring.Cost(19456, 1, 1)
  composed, split = "caf\u00e9 au lait", "cafe\u0301 au lait"
  stanza = stanza_for(keyring.Passphrase(composed, cheap), bytes(32))
  assert keyring.Passphrase(split).unwrap(stanza, CONTEXT) == bytes(32)
  again = stanza_for(keyring.Passphrase(composed, cheap), bytes(32))
  assert again["salt"] != stanza["salt"]
  assert again["wrapped"] != stanza["wrapped"]
  with pytest.raises(keyring.KeyringError, match="empty passphrase"):
    keyring.Passphrase("")
  # The second choice of RFC 9106, section 4.
  assert keyring.Cost() == (64 * 1024, 3, 4)


def test_local_services(tmp_path):
  kms = keyring.LocalKms(tmp_path)
  kms.create("a")
  with pytest.raises(FileExistsError):
    kms.create("a")
  with pytest.raises(keyring.KeyringError, match="no key b in this service"):
    keyring.KmsKey(kms, "b").wrap(bytes(32), CONTEXT)
  for name in ("../a", "a/b", "", "a b"):
    with pytest.raises(keyring.KeyringError, match="name"):
      kms.create(name)
  assert (tmp_path / "a.key").stat().st_mode & 0o777 == 0o600
  assert "a" not in keyring.KmsKey(kms, "arn:aws:12345").id.split("-")
  assert "12345" not in keyring.KmsKey(kms, "arn:aws:12345").id
  (tmp_path / "_METADATA").touch()
  with pytest.raises(keyring.KeyringError, match="is inside the checkpoint"):
    keyring.KmsKey(kms, "a").wrap(bytes(32), CONTEXT)


def test_misbehaving_services_are_refused(tmp_path):
  class Bad:
    def __init__(self, answer):
      self.answer = answer

    def encrypt(self, key_id, plaintext, context):
      return self.answer

    def decrypt(self, key_id, ciphertext, context):
      return self.answer

  with pytest.raises(keyring.KeyringError, match="returned 9000 bytes"):
    keyring.KmsKey(Bad(bytes(9000)), "a").wrap(bytes(32), CONTEXT)
  key = keyring.KmsKey(Bad(bytes(31)), "a")
  with pytest.raises(keyring.CannotOpen):
    key.unwrap(stanza_for(key, bytes(32)), CONTEXT)


def test_keys_of_leaves_differ():
  data_key = keyring.new_data_key()
  made = {
    keyring.leaf_key(key, purpose, path)
    for key in (data_key, keyring.new_data_key())
    for purpose in ("weights", "names")
    for path in ("a", "b", "a/b", "")
  }
  assert len(made) == 16 and {len(key) for key in made} == {32}
  for wrong in ("", "a/b", "Weights", "a" * 65):
    with pytest.raises(keyring.KeyringError, match="purpose"):
      keyring.leaf_key(data_key, wrong, "a")
  # Pinned: a change here would make every sealed leaf unreadable.
  assert keyring.leaf_key(bytes(32), "weights", "a").hex() == GOLDEN


GOLDEN = "6b0472fddf21a5c9d54b577eef82a419a888bb3634dcaa1841b9c22a5292bc2d"


def test_a_cost_that_others_chose_is_accepted_up_to_a_limit(monkeypatch):
  """Below the limits of what can be computed, above what is worth it."""
  derived = []

  class Cheap:
    def __init__(self, **cost):
      derived.append(cost["memory_cost"])

    def derive(self, data):
      return bytes(32)

  module = "keyjax.keyring.recipients.passphrase.Argon2id"
  monkeypatch.setattr(module, Cheap)
  words = "six random words"
  for cost in (keyring.Cost(2**18 + 1, 1, 1), keyring.Cost(65536, 13, 4)):
    owner = keyring.Passphrase(words, cost)
    stanza = stanza_for(owner, bytes(32))
    text = keyring.protect_key(Secret(b"s" * 32), words, cost)
    derived.clear()
    with pytest.raises(keyring.KeyringError, match="raise max_cost"):
      keyring.Passphrase(words).unwrap(stanza, CONTEXT)
    with pytest.raises(keyring.KeyringError, match="raise max_cost"):
      keyring.parse_key(text, words)
    assert derived == []
    most = keyring.Cost(2**20, 4, 16)
    for accepting in (owner, keyring.Passphrase(words, max_cost=most)):
      assert accepting.unwrap(stanza, CONTEXT) == bytes(32)
    assert keyring.parse_key(text, words, max_cost=most) == Secret(b"s" * 32)
    assert set(derived) == {cost.memory}
