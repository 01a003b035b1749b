"""Bundles and keys of untrusted form; the library is not needed for these."""

import base64
import copy
import json
import os
import pickle
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
  BestAvailableEncryption,
  Encoding,
  NoEncryption,
  PrivateFormat,
  PublicFormat,
)

from keyjax import keyring, signatures
from keyjax.errors import ArgumentError, KeyringError, WrongPassphrase
from keyjax.signatures import Difference, ModelSignatureError, bundle
from keyjax.signatures import public_keys as keys
from tests.signatures.golden import make

GOLDEN = make.HERE
PKCS8, PLAIN = PrivateFormat.PKCS8, NoEncryption()


def document(name="p256"):
  return json.loads((GOLDEN / f"{name}.sig").read_bytes())


def with_statement(change):
  """Return a bundle whose statement was changed."""
  made = document()
  envelope = made["dsseEnvelope"]
  statement = json.loads(base64.b64decode(envelope["payload"]))
  change(statement)
  data = json.dumps(statement).encode()
  envelope["payload"] = base64.b64encode(data).decode()
  return made


def refused(made, match):
  data = made if isinstance(made, bytes) else json.dumps(made).encode()
  with pytest.raises(ModelSignatureError, match=match) as caught:
    bundle.parse(data)
  assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)


def test_what_a_bundle_says():
  found = bundle.read(GOLDEN / "in_folder.sig")
  assert found.name == "model" and found.hash_type == "sha256"
  assert found.shard_bytes is None and not found.certificates
  assert set(found.resources) == set(make.MODEL) - {".gitattributes"}
  assert "model.sig" in found.ignored and ".git" in found.ignored
  assert bundle.read(GOLDEN / "blake2.sig").hash_type == "blake2"
  assert bundle.read(GOLDEN / "shards.sig").shard_bytes == 500
  assert len(bundle.read(GOLDEN / "chain.sig").certificates) == 2


@pytest.mark.parametrize(
  "data",
  [b"", b"\xff\xfe\x00", b"[]", b"null", b"{", b"[" * 100000, b'{"a":' * 9999],
)
def test_garbage_is_refused(data):
  refused(data, "not a JSON object")


def test_a_large_file_is_refused_before_it_is_read(tmp_path):
  large = tmp_path / "large.sig"
  with open(large, "wb") as file:
    file.truncate(1 << 42)  # A hole: no memory holds it.
  with pytest.raises(ModelSignatureError, match=r"large.sig: .* too large"):
    bundle.read(large)


def test_what_has_no_end_is_refused(tmp_path):
  os.mkfifo(tmp_path / "pipe")
  for path in (tmp_path / "pipe", "/dev/zero", tmp_path):
    with pytest.raises(ModelSignatureError, match="not a regular file"):
      bundle.read(path)
  with pytest.raises(FileNotFoundError):
    bundle.read(tmp_path / "none")


CHANGES = {
  "type .*bundle": lambda d: d.update(mediaType="text/plain"),
  "verificationMaterial is missing": lambda d: d.pop("verificationMaterial"),
  "neither one key": lambda d: d.update(verificationMaterial={}),
  "chain of certificates is empty": lambda d: d.update(
    verificationMaterial={"x509CertificateChain": {"certificates": []}}
  ),
  "a certificate is malformed": lambda d: d.update(
    verificationMaterial={
      "x509CertificateChain": {"certificates": [{"rawBytes": "AAAA"}]}
    }
  ),
  "a certificate is missing": lambda d: d.update(
    verificationMaterial={"x509CertificateChain": {"certificates": [3]}}
  ),
  "Sigstore signed": lambda d: d.update(
    verificationMaterial={"certificate": {"rawBytes": "AAAA"}}
  ),
  "needed to check": lambda d: d["verificationMaterial"].update(
    tlogEntries=[{"logIndex": "1"}]
  ),
  "dsseEnvelope is missing": lambda d: d.update(dsseEnvelope=[]),
  "payload is not of type": lambda d: d["dsseEnvelope"].update(
    payloadType="application/vnd.cyclonedx+json"
  ),
  "exactly one signature": lambda d: d["dsseEnvelope"].update(
    signatures=2 * d["dsseEnvelope"]["signatures"]
  ),
  "one signature": lambda d: d["dsseEnvelope"].update(signatures=[]),
  "signature is missing": lambda d: d["dsseEnvelope"].update(signatures=[7]),
  "the payload is missing": lambda d: d["dsseEnvelope"].update(payload="?"),
  "the payload is not a JSON": lambda d: d["dsseEnvelope"].update(payload=""),
}


@pytest.mark.parametrize("match", CHANGES)
def test_another_envelope_is_refused(match):
  made = document()
  CHANGES[match](made)
  refused(made, match)


STATEMENTS = {
  "_type is not": lambda s: s.update(_type="https://in-toto.io/Statement/v0.1"),
  "predicateType is not": lambda s: s.update(
    predicateType="https://slsa.dev/provenance/v1"
  ),
  "does not name a model": lambda s: s.update(subject=[]),
  "predicate is missing": lambda s: s.update(predicate=None),
  "serialization is missing": lambda s: s["predicate"].pop("serialization"),
  "unknown kind": lambda s: s["predicate"]["serialization"].update(
    hash_type="md5"
  ),
  "neither files nor shards": lambda s: s["predicate"]["serialization"].update(
    method="tensors"
  ),
  "files nor shards": lambda s: s["predicate"]["serialization"].update(
    method="shards", shard_size=0.5
  ),
  "ignored paths": lambda s: s["predicate"]["serialization"].update(
    ignore_paths=["a", 1]
  ),
  "lists no file": lambda s: s["predicate"].update(resources=[]),
  "no file": lambda s: s["predicate"].update(resources={"name": "a"}),
  "has no name": lambda s: s["predicate"].update(resources=[{"digest": ""}]),
  "no digest": lambda s: s["predicate"].update(resources=[3]),
  "listed twice": lambda s: s["predicate"].update(
    resources=2 * s["predicate"]["resources"][:1]
  ),
}


@pytest.mark.parametrize("match", STATEMENTS)
def test_another_statement_is_refused(match):
  refused(with_statement(STATEMENTS[match]), match)


def leaves(value, at=()):
  """Yield the paths of all values of a document."""
  yield at
  items = value.items() if isinstance(value, dict) else ()
  items = enumerate(value) if isinstance(value, list) else items
  for key, inner in items:
    yield from leaves(inner, (*at, key))


def test_no_odd_value_raises_another_error():
  whole = document("chain")
  tried = 0
  for path in leaves(whole):
    for odd in (None, 0, -1.5, "", "x", [], {}, [[]], {"a": 1}, True, 10**30):
      made = copy.deepcopy(whole)
      if path:
        inner = made
        for key in path[:-1]:
          inner = inner[key]
        inner[path[-1]] = odd
      else:
        made = odd
      tried += 1
      try:
        bundle.parse(json.dumps(made).encode())
      except ModelSignatureError:
        pass
  assert tried > 100


def test_the_error_returns_from_another_process():
  error = ModelSignatureError("what is wrong", [Difference("a", "changed")])
  found = pickle.loads(pickle.dumps(error))
  assert str(found) == "what is wrong"
  assert found.differences == error.differences


# ------------------------------------------------------------------- the keys


@pytest.fixture(scope="module")
def key():
  return ec.generate_private_key(ec.SECP256R1())


def public(key):
  return key.public_key().public_bytes(
    Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
  )


@pytest.mark.parametrize("curve", [ec.SECP256R1, ec.SECP384R1, ec.SECP521R1])
def test_keys_on_the_three_curves_are_read(curve):
  key = ec.generate_private_key(curve())
  assert keys.read_public_key(public(key)) == key.public_key()
  plain = key.private_bytes(Encoding.PEM, PKCS8, PLAIN)
  assert keys.read_signing_key(plain).public_key() == key.public_key()
  old = PrivateFormat.TraditionalOpenSSL  # BEGIN EC PRIVATE KEY.
  data = key.private_bytes(Encoding.PEM, old, PLAIN)
  assert keys.read_signing_key(data).public_key() == key.public_key()


def test_a_key_with_a_passphrase(key):
  secret = BestAvailableEncryption(b"six words")
  data = key.private_bytes(Encoding.PEM, PKCS8, secret)
  found = keys.read_signing_key(data, lambda: "six words")
  assert found.public_key() == key.public_key()
  with pytest.raises(WrongPassphrase):
    keys.read_signing_key(data, lambda: "seven words")
  with pytest.raises(KeyringError, match="needs a passphrase"):
    keys.read_signing_key(data)


def test_other_keys_are_named(key):
  ed, big = ed25519.Ed25519PrivateKey.generate(), rsa.generate_private_key
  other = ec.generate_private_key(ec.SECP256K1())
  ours = keyring.SigningKey.generate()
  private = key.private_bytes(Encoding.PEM, PKCS8, PLAIN)
  line = keyring.format_verify_key(ours.public).encode()
  secret = keyring.format_key(ours).encode()
  for data, match in (
    (public(ed), "another kind of public key: .* EC key on P-256"),
    (public(big(65537, 2048)), "another kind of public key"),
    (public(other), "on the curve secp256k1"),
    (private, "private key: give its public key"),
    (secret, "private key: give its public key"),
    (line, "public key of KeyJAX"),
    ((GOLDEN / "root.pem").read_bytes(), "certificate, not a public key"),
    (b"", "holds no public key"),
    (
      b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
      "no public",
    ),
  ):
    with pytest.raises(KeyringError, match=match) as caught:
      keys.read_public_key(data)
    assert private.decode().split("\n")[1] not in str(caught.value)
  for data, match in (
    (ed.private_bytes(Encoding.PEM, PKCS8, PLAIN), "another kind of private"),
    (other.private_bytes(Encoding.PEM, PKCS8, PLAIN), "curve secp256k1"),
    (public(key), "no private key"),
    ((GOLDEN / "root.pem").read_bytes(), "no private key"),
    (secret, "private key of KeyJAX"),
    (b"hello", "no private key"),
  ):
    with pytest.raises(KeyringError, match=match):
      keys.read_signing_key(data)


def test_certificates(key):
  assert len(keys.read_certificates((GOLDEN / "root.pem").read_bytes())) == 1
  private = key.private_bytes(Encoding.PEM, PKCS8, PLAIN)
  for data, match in (
    (private, "a private key is among"),
    (b"", "no certificate"),
    (public(key), "no certificate"),
  ):
    with pytest.raises(KeyringError, match=match):
      keys.read_certificates(data)


# -------------------------------------------------------------------- the rest


def test_what_the_functions_refuse_before_the_library(key, model, tmp_path):
  other = ed25519.Ed25519PrivateKey.generate()
  with pytest.raises(KeyringError, match="another kind of public key"):
    signatures.sign(model, tmp_path / "a.sig", other)
  with pytest.raises(KeyringError, match="another kind of public key"):
    signatures.verify(model, GOLDEN / "p256.sig", key=other.public_key())
  for both in ({}, {"key": key.public_key(), "roots": [1]}):
    with pytest.raises(ArgumentError, match="either key or roots"):
      signatures.verify(model, GOLDEN / "p256.sig", **both)
  with pytest.raises(ModelSignatureError, match="with a certificate"):
    signatures.verify(model, GOLDEN / "chain.sig", key=key.public_key())
  roots = keys.read_certificates((GOLDEN / "root.pem").read_bytes())
  with pytest.raises(ModelSignatureError, match="with a key: give `key`"):
    signatures.verify(model, GOLDEN / "p256.sig", roots=roots)
  with pytest.raises(ModelSignatureError, match="names another key"):
    signatures.verify(model, GOLDEN / "p256.sig", key=key.public_key())
  with pytest.raises(KeyringError, match="not that of this private key"):
    signatures.sign(model, tmp_path / "a.sig", key, roots)
  (tmp_path / "there.sig").touch()
  with pytest.raises(FileExistsError, match="never overwritten"):
    signatures.sign(model, tmp_path / "there.sig", key)
  with pytest.raises(FileNotFoundError, match="there is no folder"):
    signatures.sign(model, tmp_path / "none" / "a.sig", key)
  assert not (tmp_path / "a.sig").exists()


def test_models_that_are_none(key, model, tmp_path):
  (tmp_path / "empty").mkdir()
  (tmp_path / "link").symlink_to(model)
  (tmp_path / "dead").symlink_to(tmp_path / "nowhere")
  os.mkfifo(tmp_path / "pipe")
  for name, error, match in (
    ("empty", ModelSignatureError, "holds no file"),
    ("link", ModelSignatureError, "link is a symbolic link"),
    ("dead", ModelSignatureError, "dead is a symbolic link"),
    ("pipe", ModelSignatureError, "pipe is not a regular file"),
    ("none", FileNotFoundError, "there is no model"),
  ):
    with pytest.raises(error, match=match):
      signatures.sign(tmp_path / name, tmp_path / "a.sig", key)
  with pytest.raises(ArgumentError, match="not on a disk"):
    signatures.sign("gs://bucket/model", tmp_path / "a.sig", key)
  (model / "onnx" / "more").symlink_to(model)
  with pytest.raises(ModelSignatureError, match="onnx/more is a symbolic link"):
    signatures.sign(model, tmp_path / "a.sig", key)


def test_without_the_library_the_extra_is_named(
  key, model, tmp_path, monkeypatch
):
  for name in ("hashing", "signing", "verifying"):
    monkeypatch.setitem(sys.modules, f"model_signing.{name}", None)
  with pytest.raises(KeyringError, match=r"pip install 'keyjax\[signing\]'"):
    signatures.sign(model, tmp_path / "a.sig", key)
