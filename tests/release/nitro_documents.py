"""Attestation documents of Nitro Enclaves, under a root made for tests.

Their certificates are like those that AWS documents: P-384, a root, a region, a
zone, an instance, and the enclave that signs.
"""

import base64
import datetime
import functools
import pathlib
import tempfile

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509.oid import NameOID

from keyjax.release.nitro import NitroEvidence

NONCE = "5e" * 32
IMAGE, SIGNER, DEBUG = b"\x01" * 48, b"\x08" * 48, bytes(48)
HOUR = datetime.timedelta(hours=1)
FOLDER = tempfile.TemporaryDirectory(prefix="nitro")
PLACES = ("root", "region", "zone", "instance", "enclave")


def head(major, number):
  """Return the first bytes of an item of CBOR."""
  if number < 24:
    return bytes([major << 5 | number])
  for code, width in ((24, 1), (25, 2), (26, 4), (27, 8)):
    if number < 1 << 8 * width:
      return bytes([major << 5 | code]) + number.to_bytes(width)
  raise ValueError(number)


def encode(value):
  """Return a value in CBOR."""
  if value is None:
    return b"\xf6"
  if isinstance(value, int):
    return head(0, value) if value >= 0 else head(1, -1 - value)
  if isinstance(value, bytes):
    return head(2, len(value)) + value
  if isinstance(value, str):
    return head(3, len(value.encode())) + value.encode()
  if isinstance(value, list):
    return head(4, len(value)) + b"".join(map(encode, value))
  pairs = [encode(k) + encode(v) for k, v in value.items()]
  return head(5, len(value)) + b"".join(pairs)


def certify(place, key, issuer, issuer_key, depth, *, begins, ends):
  """Return the certificate of a place in the chain."""
  ca = place != PLACES[-1]
  name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, place)])
  usage = dict.fromkeys(
    (
      *("digital_signature", "content_commitment", "key_encipherment"),
      *("data_encipherment", "key_agreement", "key_cert_sign"),
      *("crl_sign", "encipher_only", "decipher_only"),
    ),
    False,
  )
  usage |= {"key_cert_sign" if ca else "digital_signature": True}
  subject = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
  above = x509.AuthorityKeyIdentifier.from_issuer_public_key(
    issuer_key.public_key()
  )
  made = (
    x509.CertificateBuilder()
    .subject_name(name)
    .issuer_name(name if issuer is None else issuer.subject)
    .public_key(key.public_key())
    .serial_number(x509.random_serial_number())
    .not_valid_before(begins)
    .not_valid_after(ends)
    .add_extension(x509.BasicConstraints(ca, depth if ca else None), True)
    .add_extension(x509.KeyUsage(**usage), critical=True)
  )
  if ca:
    made = made.add_extension(subject, False).add_extension(above, False)
  return made.sign(issuer_key, hashes.SHA384())


def chain(*, begins=-HOUR, ends=HOUR):
  """Return the certificates, the root first, and the key of the last."""
  now = datetime.datetime.now(datetime.UTC)
  found, issuer_key = [], None
  for number, place in enumerate(PLACES):
    key = ec.generate_private_key(ec.SECP384R1())
    issuer = found[-1] if found else None
    times = {"begins": now - HOUR, "ends": now + HOUR}
    if place == PLACES[-1]:
      times = {"begins": now + begins, "ends": now + ends}
    depth = len(PLACES) - 2 - number
    found.append(certify(place, key, issuer, issuer_key or key, depth, **times))
    issuer_key = key
  return found, issuer_key


@functools.cache
def trusted():
  return chain()


def der(certificate):
  return certificate.public_bytes(serialization.Encoding.DER)


def payload(certificates=None, **changed):
  """Return what a document says."""
  *above, leaf = certificates or trusted()[0]
  fields = {
    "module_id": "i-0123456789abcdef0-enc0123456789abcdef",
    "digest": "SHA384",
    "timestamp": 1767225600000,
    "pcrs": {0: IMAGE, 1: b"\x02" * 48, 2: b"\x03" * 48, 8: SIGNER},
    "certificate": der(leaf),
    "cabundle": [der(x) for x in above],
    "public_key": None,
    "user_data": None,
    "nonce": NONCE.encode(),
  } | changed
  return encode({k: v for k, v in fields.items() if v != "missing"})


def sign(data, key=None, algorithm=-35):
  """Return a payload as a signed document, in base64."""
  protected = encode({1: algorithm})
  signed = encode(["Signature1", protected, b"", data])
  signature = (key or trusted()[1]).sign(signed, ec.ECDSA(hashes.SHA384()))
  r, s = utils.decode_dss_signature(signature)
  halves = r.to_bytes(48) + s.to_bytes(48)
  return base64.b64encode(encode([protected, {}, data, halves]))


def document(**changed):
  """Return a document that the verifier accepts, unless it is changed."""
  return sign(payload(**changed))


def write_root(path, certificate):
  path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
  return path


@functools.cache
def verifier():
  """Return a verifier of the enclave's image and of who signed it."""
  root = write_root(pathlib.Path(FOLDER.name, "root.pem"), trusted()[0][0])
  return NitroEvidence(root=root, pcrs={0: [IMAGE.hex()], 8: [SIGNER.hex()]})
