"""External vectors of the primitives that recipients and signing keys use.

Those of HPKE, key wrapping and shares are in `test_recipients` and
`test_shares`. Large files are read as far as they are needed.
"""

import itertools
import os
from collections.abc import Iterator

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import (
  RSAPrivateNumbers,
  RSAPublicNumbers,
)
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from keyjax import keyring
from keyjax.keyring.recipients import rsa

pytestmark = pytest.mark.vectors
unhex = bytes.fromhex


def lines(*path: str) -> Iterator[str]:
  vectors = pytest.importorskip("cryptography_vectors")
  name = os.path.join("asymmetric", *path)
  with vectors.open_vector_file(name, "r") as file:
    yield from (line.strip() for line in file)


def cases(first: str, *path: str) -> Iterator[dict[str, str]]:
  """Yield the cases of a file of `name = value`, each begins with `first`."""
  case: dict[str, str] = {}
  for line in lines(*path):
    name, equals, value = line.partition(" = ")
    if not equals:
      continue
    if name == first and case:
      yield case
      case = {}
    case[name] = value
  yield case


def test_x25519_of_rfc_7748() -> None:
  done = 0
  for case in cases("COUNT", "X25519", "rfc7748.txt"):
    key = keyring.HpkePrivateKey("x25519", unhex(case["INPUT_SCALAR"]))
    theirs = X25519PublicKey.from_public_bytes(unhex(case["INPUT_U"]))
    assert key._key.exchange(theirs).hex() == case["OUTPUT_U"]
    done += 1
  assert done == 3


def test_ml_kem_768_of_the_hybrid() -> None:
  found = cases("count", "MLKEM", "kat_MLKEM_768.rsp")
  for case in itertools.islice(found, 10):
    key = keyring.HpkePrivateKey(
      "mlkem768x25519", unhex(case["d"]) + unhex(case["z"]) + bytes(32)
    )
    assert key.public.data[:-32].hex() == case["pk"]
    mlkem = MLKEM768PrivateKey.from_seed_bytes(key.reveal()[:64])
    assert mlkem.decapsulate(unhex(case["ct"])).hex() == case["ss"]


def test_ed25519_of_the_authors_of_ed25519() -> None:
  for line in itertools.islice(lines("Ed25519", "sign.input"), 100):
    seed, public, message, signed, _ = line.split(":")
    key = keyring.SigningKey("ed25519", unhex(seed)[:32])
    assert key.public.public_bytes_raw().hex() == public
    signature = key.private.sign(unhex(message))
    assert signature.hex() + message == signed
    key.public.verify(signature, unhex(message))
    with pytest.raises(InvalidSignature):
      key.public.verify(signature, unhex(message) + b"\0")


def test_ml_dsa_65_of_known_answers() -> None:
  found = cases("count", "MLDSA", "kat_MLDSA_65_det_pure.rsp")
  for case in itertools.islice(found, 10):
    key = keyring.SigningKey("ml-dsa-65", unhex(case["xi"]))
    assert key.public.public_bytes_raw().hex() == case["pk"]
    message, context = unhex(case["msg"]), unhex(case["ctx"])
    signature = unhex(case["sm"])[: -len(message)]
    key.public.verify(signature, message, context)
    with pytest.raises(InvalidSignature):
      key.public.verify(signature, message)


def test_rsa_oaep_with_sha256() -> None:
  """The numbers of a key, then its examples, in the order of the file."""
  found = list(lines("RSA", "oaep-custom", "oaep-sha256-sha256.txt"))
  names = (
    "Modulus",
    "Public exponent",
    "Exponent",
    "Prime 1",
    "Prime 2",
    "Prime exponent 1",
    "Prime exponent 2",
    "Coefficient",
  )
  values: dict[str, str] = {}
  key, done = None, 0
  for name, value in itertools.pairwise(found):
    name = name.removeprefix("# ").removesuffix(":")
    if name in (*names, "Message", "Encryption"):
      values[name] = value
    if name == "Coefficient":
      n, e, d, p, q, dmp1, dmq1, iqmp = (int(values[x], 16) for x in names)
      numbers = RSAPrivateNumbers(
        p=p,
        q=q,
        d=d,
        dmp1=dmp1,
        dmq1=dmq1,
        iqmp=iqmp,
        public_numbers=RSAPublicNumbers(e, n),
      )
      key = numbers.private_key()
    if name == "Encryption":
      assert key is not None
      opened = key.decrypt(unhex(value), rsa._oaep())
      assert opened.hex() == values["Message"]
      done += 1
  assert done >= 6
