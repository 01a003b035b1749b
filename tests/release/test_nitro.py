"""Attestation documents of Nitro Enclaves: what fits, and what does not."""

import base64
import json
import tomllib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from keyjax.errors import KeyringError
from keyjax.keyring import open_envelope
from keyjax.release import cbor, evidence
from keyjax.release.nitro import NitroEvidence
from tests.release import nitro_documents as made
from tests.release.nitro_documents import HOUR, IMAGE, NONCE, SIGNER

TABLE = f"""
[evidence.enclaves]
kind = "nitro"
root = "root.pem"
[evidence.enclaves.pcrs]
0 = ["{"0a" * 48}", "{IMAGE.hex().upper()}"]
8 = ["{SIGNER.hex()}"]
"""


def verify(document, nonce=NONCE):
  made.verifier().verify(document, nonce=nonce, caller="0" * 64)


def refused(document, message, nonce=NONCE):
  with pytest.raises(KeyringError, match=message) as found:
    verify(document, nonce)
  assert "\n" not in str(found.value)


def test_a_document_is_accepted_for_its_nonce_alone():
  verify(made.document())
  tagged = b"\xd2" + base64.b64decode(made.document())
  verify(base64.b64encode(tagged))
  refused(made.document(), "for another request", nonce="0" * 64)
  for nonce in (None, "missing", NONCE, NONCE.encode()[:-1]):
    refused(made.document(nonce=nonce), "for another request")


@pytest.mark.parametrize(
  ("pcrs", "message"),
  [
    ({0: SIGNER, 8: SIGNER}, "value of PCR 0"),
    ({8: SIGNER}, "value of PCR 0"),
    ({0: IMAGE}, "value of PCR 8"),
    ({0: made.DEBUG, 8: SIGNER}, "value of PCR 0"),
    ({"0": IMAGE, 8: SIGNER}, "value of PCR 0"),
    ({0: IMAGE.hex(), 8: SIGNER}, "no attestation document"),
    ([IMAGE, SIGNER], "no attestation document"),
  ],
)
def test_other_images_are_refused(pcrs, message):
  refused(made.document(pcrs=pcrs), message)


def test_what_was_changed_is_refused():
  for name, value in (("nonce", b"a"), ("pcrs", {0: IMAGE}), ("digest", "a")):
    parts = cbor.decode(base64.b64decode(made.document()))
    parts[2] = made.payload(**{name: value})
    changed = base64.b64encode(made.encode(parts))
    refused(changed, "signature.*wrong|no attestation document")
  parts = cbor.decode(base64.b64decode(made.document()))
  for i in (0, 47, 48, 95):
    halves = bytearray(parts[3])
    halves[i] ^= 1
    changed = made.encode([*parts[:3], bytes(halves)])
    refused(base64.b64encode(changed), "signature of the evidence is wrong")
  for halves in ([1] * 96, [999] * 96, "a" * 96, b"a" * 95, None):
    changed = made.encode([*parts[:3], halves])
    refused(base64.b64encode(changed), "no attestation document")


@pytest.mark.parametrize(
  "fields",
  [
    {"digest": "SHA256"},
    {"digest": "missing"},
    {"certificate": None},
    {"cabundle": b"a"},
    {"cabundle": [1]},
    {"pcrs": "missing"},
  ],
)
def test_other_fields_are_refused(fields):
  refused(made.document(**fields), "no attestation document")


def test_what_is_no_document_is_refused():
  data = made.payload()
  for other in (
    b"",
    b"a",
    b"*" * 100,
    made.document()[:-4],
    made.document() + b"AAAA",
    base64.b64encode(b"\xf6"),
    base64.b64encode(made.encode([b"", {}, data])),
    base64.b64encode(made.encode(["", {}, data, b"a" * 96])),
    made.sign(data, algorithm=-7),
    made.sign(b"\xf6"),
    made.sign(b"\xff"),
    base64.b64encode(bytes(20000)),
  ):
    refused(other, "no attestation document")


def test_certificates_of_others_are_refused():
  certificates, key = made.chain()
  root, leaf = made.trusted()[0][0], made.trusted()[0][-1]
  message = "not of this root, or not valid now"
  other = made.payload(certificates)
  refused(made.sign(other, key), message)  # A root of their own.
  mixed = made.payload([root, *certificates[1:]])
  refused(made.sign(mixed, key), message)
  short = made.payload([root, leaf])  # No chain.
  refused(made.sign(short), message)
  stranger = ec.generate_private_key(ec.SECP384R1())
  refused(made.sign(made.payload(), stranger), "signature of the evidence")
  for fields in ({"certificate": b"a"}, {"cabundle": [b"a"]}):
    refused(made.document(**fields), message)


@pytest.mark.parametrize(
  "times",
  [
    {"begins": -3 * HOUR, "ends": -2 * HOUR},
    {"begins": HOUR, "ends": 2 * HOUR},
  ],
)
def test_a_document_is_valid_as_long_as_its_certificate(tmp_path, times):
  for options, fits in (({}, True), (times, False)):
    certificates, key = made.chain(**options)
    root = made.write_root(tmp_path / "root.pem", certificates[0])
    verifier = NitroEvidence(root=root, pcrs={0: [IMAGE.hex()]})
    document = made.sign(made.payload(certificates), key)
    if fits:
      verifier.verify(document, nonce=NONCE, caller="")
      continue
    with pytest.raises(KeyringError, match="not valid now"):
      verifier.verify(document, nonce=NONCE, caller="")


def test_a_root_that_cannot_be_read(tmp_path):
  verifier = NitroEvidence(root=tmp_path / "a", pcrs={0: [IMAGE.hex()]})
  for text, message in ((None, "cannot be read"), ("a", "is no certificate")):
    if text:
      (tmp_path / "a").write_text(text)
    with pytest.raises(KeyringError, match=message):
      verifier.verify(made.document(), nonce=NONCE, caller="")


@pytest.mark.parametrize(
  ("name", "value", "message"),
  [
    ("root", "", "root of evidence is a text"),
    ("pcrs", [], "pcrs are a table"),
    ("pcrs", {}, "needs the values"),
    ("pcrs", {"a": [IMAGE.hex()]}, "named by its number"),
    ("pcrs", {"32": [IMAGE.hex()]}, "number below 32"),
    ("pcrs", {"0": IMAGE.hex()}, "list of values"),
    ("pcrs", {"0": []}, "list of values"),
    ("pcrs", {"0": ["0" * 96]}, "not all 0"),
    ("pcrs", {"0": [IMAGE.hex()[2:]]}, "has 96 hexadecimal digits"),
    ("pcrs", {"0": ["g" * 96]}, "has 96 hexadecimal digits"),
    ("more", 1, "has the fields"),
  ],
)
def test_a_wrong_table_is_refused(tmp_path, name, value, message):
  right = tomllib.loads(TABLE)["evidence"]["enclaves"]
  assert evidence.read_evidence(right, tmp_path)
  with pytest.raises(KeyringError, match=message):
    evidence.read_evidence(right | {name: value}, tmp_path)


def test_a_release_needs_a_document_made_for_it(world):
  made.write_root(world.folder / "root.pem", made.trusted()[0][0])
  world.write_policy(extra=TABLE, evidence="enclaves")
  with world.served() as url:
    attested = world.identity(
      url, evidence=lambda nonce: made.document(nonce=nonce.encode())
    )
    assert open_envelope(world.envelope(), [attested])
    replayed = world.identity(url, evidence=lambda nonce: made.document())
    with pytest.raises(KeyringError, match="for another request"):
      open_envelope(world.envelope(), [replayed])
  events = [json.loads(x)["event"] for x in world.entries()]
  assert events.count("release") == 1 and events[-1] == "refusal"
