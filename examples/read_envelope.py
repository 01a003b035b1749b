"""Read KeyJAX's building blocks and envelopes: docs/formats/envelopes.md.

It needs the standard library and `cryptography` alone.
"""

import base64
import hashlib
import hmac
import itertools
import json
import re
import struct
import unicodedata
from datetime import UTC, datetime

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hpke, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+@=-]{0,127}")
FIELDS = {"checkpoint", "mac", "recipients", "revoked", "sealed", "version"}


class Refused(ValueError):
  """The data is malformed, was altered, or is not for these keys."""


def need(condition, what):
  """Raise an error unless a condition holds."""
  if not condition:
    raise Refused(what)


def derive(secret, label, length=32):
  """Derive bytes from a secret by label."""
  info = b"keyjax/1/" + label.encode()
  return HKDF(hashes.SHA256(), length, salt=None, info=info).derive(secret)


def grouped(data):
  """Return bytes as groups of four hex digits."""
  return "-".join(data.hex()[i : i + 4] for i in range(0, 2 * len(data), 4))


def unseal(key, message, context):
  """Open a sealed message."""
  aead = {16: b"AEAD_AES_128_GCM", 32: b"AEAD_AES_256_GCM"}.get(len(key))
  need(aead and len(message) >= 72, "a sealed message is too short")
  salt, commitment, chunks = message[:24], message[24:56], message[56:]
  info = b"c2sp.org/chunked-encryption@v1+" + aead + b"\0" + salt + context
  made = HKDFExpand(hashes.SHA512(), len(key) + 44, info).derive(key)
  subkey, rest = made[: len(key)], made[len(key) :]
  need(hmac.compare_digest(rest[12:], commitment), "does not open")
  count = len(chunks) // 16400 + 1  # The last chunk is not full.
  data = []
  for i in range(count):
    nonce = int.from_bytes(rest[:12], "big") ^ i
    chunk = chunks[16400 * i : 16400 * (i + 1)]
    try:
      opened = AESGCM(subkey).decrypt(nonce.to_bytes(12, "big"), chunk, None)
    except InvalidTag:
      raise Refused("does not open") from None
    data.append(opened)
  return b"".join(data)


def canonical(document):
  """Return canonical JSON."""
  return json.dumps(
    document, sort_keys=True, separators=(",", ":"), allow_nan=False
  ).encode("ascii")


def parse(data, size, items):
  """Parse a canonical JSON object of limited size."""
  need(len(data) <= size, "too large")
  need(sum(map(data.count, (b"[", b"{", b","))) <= items, "too many parts")
  try:
    document = json.loads(data)
    same = canonical(document) == data
  except (ValueError, RecursionError):
    raise Refused("not JSON") from None
  need(same and type(document) is dict, "not a canonical JSON object")
  return document


def octets(text, size=None):
  """Decode canonical base64."""
  need(type(text) is str, "a field is not text")
  try:
    data = base64.b64decode(text, validate=True)
  except ValueError:
    raise Refused("not base64") from None
  need(base64.b64encode(data).decode() == text, "not canonical base64")
  need(size in (None, len(data)), "a field of another size")
  return data


def is_name(value):
  """Return whether this is a name."""
  return type(value) is str and bool(NAME.fullmatch(value))


def stretch(passphrase, fields):
  """Derive a secret from a passphrase, at a cost that is checked first."""
  cost = [fields.get(name) for name in ("memory", "passes", "lanes")]
  need(all(type(x) is int for x in cost), "a cost")
  memory, passes, lanes = cost
  need(19456 <= memory <= 2**20 and memory * passes <= 2**22, "a cost")
  need(1 <= passes <= 16 and 1 <= lanes <= 16, "a cost")
  salt = octets(fields.get("salt"), 16)
  text = unicodedata.normalize("NFC", passphrase or "").encode()
  need(text, "needs a passphrase")
  return Argon2id(
    salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory
  ).derive(text)


def unwrap(secret, wrapped, context):
  """Undo AES key wrap with padding."""
  digest = hashlib.sha256(context).hexdigest()
  kek = derive(secret, f"keyring/aes-kwp/{digest}")
  try:
    return keywrap.aes_key_unwrap_with_padding(kek, wrapped)
  except keywrap.InvalidUnwrap:
    raise Refused("does not open") from None


def fingerprint(data):
  """Return the name of public bytes."""
  return grouped(hashlib.sha256(data).digest()[:16])


def from_secret(raw):
  """Return the id of a secret, and what opens its stanzas."""
  return f"aes:{grouped(derive(raw, 'fingerprint', 8))}", (
    lambda stanza, c: unwrap(raw, octets(stanza["wrapped"], 40), c)
  )


def from_hpke(raw):
  """Return the id of an X25519 or hybrid key, and what opens its stanzas."""
  key = X25519PrivateKey.from_private_bytes(raw[-32:])
  public = key.public_key().public_bytes_raw()
  kind, kem, size = "x25519", hpke.KEM.X25519, 80
  if len(raw) == 96:
    mlkem = MLKEM768PrivateKey.from_seed_bytes(raw[:64])
    public = mlkem.public_key().public_bytes_raw() + public
    kind, kem, size = "mlkem768x25519", hpke.KEM.MLKEM768_X25519, 1168
    key = hpke.MLKEM768X25519PrivateKey(mlkem, key)
  suite = hpke.Suite(kem, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
  return f"{kind}:{fingerprint(public)}", (
    lambda stanza, c: suite.decrypt(octets(stanza["wrapped"], size), key, c)
  )


def from_rsa(raw):
  """Return the id of an RSA key, and what opens its stanzas."""
  key = serialization.load_der_private_key(raw, None)
  public = key.public_key().public_bytes(
    serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
  )
  oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)

  def opens(stanza, context):
    secret = key.decrypt(octets(stanza["carried"]), oaep)
    return unwrap(secret, octets(stanza["wrapped"], 40), context)

  return f"rsa:{fingerprint(public)}", opens


def from_device(raw):
  """Return the id of a licensee's tree, and what opens its stanzas."""
  leaf = int.from_bytes(raw[:4], "big")
  end = 4 + 32 * leaf.bit_length()
  secrets = [raw[i : i + 32] for i in range(4, end, 32)]

  def opens(stanza, context):
    nodes, wrapped = octets(stanza["nodes"]), octets(stanza["wrapped"])
    need(len(wrapped) == 10 * len(nodes), "a stanza")
    for i, (node,) in enumerate(struct.iter_unpack(">I", nodes)):
      for up, secret in enumerate(secrets):
        if node == leaf >> up:
          return unwrap(secret, wrapped[40 * i : 40 * i + 40], context)
    raise Refused("this licensee was revoked")

  return raw[end:].decode(), opens


def from_passphrase(raw):
  """Return the id of a passphrase, and what opens its stanzas."""
  return "passphrase", lambda stanza, c: unwrap(
    stretch(raw.decode(), stanza), octets(stanza["wrapped"], 40), c
  )


def from_kms(raw):
  """Return the id of a local service's key, and what opens its stanzas.

  `raw` is the secret, then the name of the key.
  """
  key = derive(raw[:32], "keyring/kms")
  return f"kms:{fingerprint(raw[32:])}", (
    lambda stanza, c: unseal(key, octets(stanza["wrapped"]), c)
  )


KINDS = {
  "secret": from_secret,
  "x25519": from_hpke,
  "mlkem768x25519": from_hpke,
  "rsa": from_rsa,
  "device": from_device,
  "passphrase": from_passphrase,
  "kms": from_kms,
  "ed25519": None,
  "ml-dsa-65": None,
}


def open_envelope(data, keys):
  """Return the data key of an envelope, its document and its private part.

  `keys` are pairs of a kind and its bytes, as `private_key` returns them, or of
  `passphrase` and its text in UTF-8, or of `kms` (see `from_kms`).
  """
  document = parse(data, 2**24, 14336)
  version = document.get("version")
  need(type(version) is int and version == 1, "an unknown version")
  need(set(document) == FIELDS, "other fields")
  stanzas = document["recipients"]
  need(type(stanzas) is list and 1 <= len(stanzas) <= 1024, "recipients")
  for stanza in stanzas:
    need(type(stanza) is dict and len(stanza) <= 12, "a recipient")
    need(all(type(x) in (str, int) for x in stanza.values()), "a recipient")
  ids = [stanza.get("id") for stanza in stanzas]
  need(all(map(is_name, ids)) and len(set(ids)) == len(ids), "ids")
  need("passphrase" not in ids or len(ids) == 1, "others than a passphrase")
  need(type(document["revoked"]) is list, "revoked")
  need(all(map(is_name, document["revoked"])), "revoked")
  need(is_name(document["checkpoint"]), "a checkpoint")
  context = b"keyjax/envelope/1/" + document["checkpoint"].encode()
  openers = [KINDS[kind](raw) for kind, raw in keys]
  data_key, used = first_opened(stanzas, openers, context)
  mac = octets(document.pop("mac"), 32)
  key = derive(data_key, "keyring/envelope/mac")
  want = hmac.digest(key, canonical(document), "sha256")
  need(hmac.compare_digest(mac, want), "does not open")
  key = derive(data_key, "keyring/envelope/private")
  sealed = unseal(key, octets(document["sealed"]), context)
  private = parse(sealed, 2**18, 2**18)
  until = private["expires"].get(used)
  now = datetime.now(UTC)
  need(until is None or datetime.fromisoformat(until) > now, "expired")
  return data_key, document, private


def first_opened(stanzas, openers, context):
  """Return the first data key that unwraps, and its recipient's id."""
  for stanza, (owner, opens) in itertools.product(stanzas, openers):
    if stanza["id"] == owner:
      try:
        data_key = opens(stanza, context)
      except (InvalidTag, ValueError, KeyError):
        continue
      need(len(data_key) == 32, "does not open")
      return data_key, owner
  raise Refused("no key opens it")
