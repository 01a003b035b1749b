"""Sub-keys of lower tiers, by KeyJAX and by docs/formats alone."""

import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from keyjax.errors import CannotOpen
from keyjax.tiers.records import sub_key
from tests.formats.vectors import octets, vectors

FOUND = vectors("sub_keys")
DATA_KEY = bytes.fromhex(FOUND["data_key"])
by_tier = pytest.mark.parametrize("case", FOUND["cases"], ids=lambda x: x["id"])


def derive(secret: bytes, label: str, length: int = 32) -> bytes:
  info = f"keyjax/1/{label}".encode()
  return HKDF(hashes.SHA256(), length, salt=None, info=info).derive(secret)


@by_tier
def test_a_second_reader_opens_a_lower_tier(case: dict[str, Any]) -> None:
  secret = derive(DATA_KEY, f"keyring/leaf/tier/{case['tier']}")
  digits = derive(secret, "fingerprint", 8).hex()
  groups = [digits[i : i + 4] for i in range(0, 16, 4)]
  assert case["id"] == f"aes:{'-'.join(groups)}"
  context = hashlib.sha256(case["context"].encode()).hexdigest()
  wrapping = derive(secret, f"keyring/aes-kwp/{context}")
  opened = keywrap.aes_key_unwrap_with_padding(
    wrapping, octets(case["wrapped"])
  )
  assert opened.hex() == case["data_key"]


@by_tier
def test_sub_keys(case: dict[str, Any]) -> None:
  key, context = sub_key(DATA_KEY, case["tier"]), case["context"].encode()
  lower = bytes.fromhex(case["data_key"])
  assert key.id == case["id"]
  assert key.wrap(lower, context) == {"wrapped": case["wrapped"]}
  stanza = {"id": case["id"], "wrapped": case["wrapped"]}
  assert key.unwrap(stanza, context) == lower
  assert sub_key(lower, case["tier"]).unwrap(stanza, context) is None
  with pytest.raises(CannotOpen):
    key.unwrap(stanza, context + b"1")
