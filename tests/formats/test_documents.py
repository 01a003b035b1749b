"""What docs/formats says of labels, key classes and limits; derivation."""

import hashlib
import re
import zlib

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from examples import read_envelope
from examples.read_envelope import Refused
from keyjax import (
  Secret,
  keyring,
  schemes,
  secrets,
)
from keyjax.checkpoint.format import manifest_json, signature, tree_structure
from keyjax.checkpoint.storage import header
from keyjax.errors import KeyringError
from keyjax.keyring import envelope, keyfile, ring
from keyjax.keyring.recipients import broadcast
from keyjax.keys.base import KEY_TYPES
from tests import wycheproof
from tests.conftest import ROOT
from tests.formats.vectors import SECRET, vectors


def stream(label: str, size: int) -> bytes:
  key = read_envelope.derive(SECRET, f"stream/{label}")
  mode = modes.CTR(bytes(16))
  return Cipher(algorithms.AES(key), mode).encryptor().update(bytes(size))


def permutation(label: str, n: int) -> list[int]:
  numbers = stream(label, 16 * n)
  words = [
    int.from_bytes(numbers[i : i + 8], "little") for i in range(0, 16 * n, 8)
  ]
  return sorted(range(n), key=lambda i: (words[n + i], words[i]))


LABEL = re.compile(
  r"""(?:\.(?:derive|child|stream)|permutation|secrets\.bits)\(\s*(?:\w+,\s*)?"""
  r"""f?"([^"]+)\""""
)


def test_every_label_and_key_class_is_documented() -> None:
  documents = "".join(
    p.read_text() for p in sorted((ROOT / "docs/formats").glob("*.md"))
  )
  labels = set()
  for file in sorted((ROOT / "keyjax").rglob("*.py")):
    code = "".join(
      line
      for line in file.read_text().splitlines(keepends=True)
      if ">>>" not in line and "..." not in line
    )
    name = re.search(r'^NAME = "(\w+)"', code, re.M)
    for label in LABEL.findall(code):
      label = label.replace("{NAME}", name[1] if name else "")
      labels.add(label.partition("{")[0])
  assert {"keyring/leaf/", "hpnn/schedule/", "broadcast/"} <= labels
  assert not [
    x for x in labels if f"`{x}" not in documents and x != "fingerprint"
  ]
  schemes.load()
  built_in = [
    (name, cls)
    for name, cls in KEY_TYPES.items()
    if cls.__module__.startswith("keyjax.")
  ]
  assert len(built_in) > 7
  for name, cls in built_in:
    (row,) = re.findall(rf"^\| `{name}` \|.*", documents, re.M)
    assert not [f for f in cls.__dataclass_fields__ if f"`{f}`" not in row], row


LIMITS = {
  "envelopes.md": {
    "bytes | 2^24 |": envelope.MAX_SIZE == 2**24,
    "1,024": envelope.MAX_RECIPIENTS == 1024,
    "14,336": envelope._MAX_ITEMS == 14336,
    "`sealed` | 2^18 |": envelope.MAX_PRIVATE == 2**18,
    "at most 12 fields": envelope._MAX_STANZA_FIELDS == 12,
    "DEPTH at most 30": broadcast.MAX_DEPTH == 30,
  },
  "key_files.md": {
    "65,536 bytes": keyfile.MAX_KEY == 65536,
    "At most 2^26 bytes": ring._MAX_SIZE == 2**26,
  },
  "checkpoints.md": {
    "most 2^25 bytes and 32,768": header.MAX_HEADER_BYTES == 2**25
    and header._MAX_HEADER_ITEMS == 32768,
    "67,174,472": manifest_json.MAX_SEALED_SIZE == 67174472,
    "2^26 bytes and 2^22": manifest_json.MAX_SIZE == 2**26
    and manifest_json._MAX_ITEMS == 2**22,
    "at most 2^20 bytes": manifest_json.MAX_METADATA == 2**20,
    "versions 1 to 3": manifest_json.VERSION_WITH_NAMES == 3,
    "64. Dataclasses": tree_structure.MAX_DEPTH == 64,
    "6,072": signature.SEALED_SIZE == 6072,
  },
}


@pytest.mark.parametrize("name", LIMITS)
def test_limits_are_those_of_the_code(name: str) -> None:
  document = (ROOT / "docs/formats" / name).read_text()
  for text, same in LIMITS[name].items():
    assert same and text in document, text


def test_the_cost_of_a_passphrase_is_limited() -> None:
  document = (ROOT / "docs/formats/envelopes.md").read_text()
  assert "memory from 19,456 to 1,048,576, passes and\nlanes from 1" in document
  for right in ((19456, 1, 1), (2**20, 4, 16), (19456, 16, 1)):
    keyring.Cost(*right).check()
  for wrong in (
    (19455, 1, 1),
    (2**20 + 1, 1, 1),
    (2**20, 5, 1),
    (19456, 1, 17),
  ):
    with pytest.raises(KeyringError, match="Argon2id"):
      keyring.Cost(*wrong).check()


def test_derivations() -> None:
  found = vectors("derivations")
  secret = Secret(bytes.fromhex(found["secret"]))
  for label, size, want in found["derive"]:
    assert secret.derive(label, size).hex() == want
    assert read_envelope.derive(SECRET, label, size).hex() == want
  label, size, want = found["stream"]
  assert secret.stream(label, size).hex() == stream(label, size).hex() == want
  label, size, want = found["permutation"]
  assert secrets.permutation(secret, label, size).tolist() == want
  assert permutation(label, size) == want
  label, size, want = found["bits"]
  assert secrets.bits(secret, label, size).tolist() == want
  data = int.from_bytes(stream(label, 2), "big")
  assert [data >> (15 - i) & 1 for i in range(size)] == want
  name = read_envelope.from_secret(SECRET)[0].removeprefix("aes:")
  assert name == secret.fingerprint() == found["fingerprint"]


@pytest.mark.vectors
@pytest.mark.parametrize("bits", [128, 256])
def test_the_second_reader_opens_sealed_messages(bits: int) -> None:
  name = f"c2sp_chunked_encryption_aes_{bits}_gcm_test.json"
  for case in wycheproof.cases(name):
    message = zlib.decompress(bytes.fromhex(case["ct"]))
    args = (bytes.fromhex(case["key"]), message, bytes.fromhex(case["ctx"]))
    if case["result"] == "valid":
      opened = read_envelope.unseal(*args)
      assert hashlib.sha512(opened).hexdigest() == case["msgSha512"]
    else:
      with pytest.raises(Refused):
        read_envelope.unseal(*args)
