"""Key files, keyrings and envelopes, opened by KeyJAX and a second reader."""

import hmac
import pathlib
from typing import Any

import pytest

from examples import read_envelope, read_keys
from examples.read_envelope import Refused
from keyjax import (
  Secret,
  keyring,
)
from keyjax.errors import KeyringError
from tests.formats.vectors import SECRET, octets, vectors


@pytest.mark.parametrize(
  "case", vectors("key_files")["keys"], ids=lambda x: x["kind"]
)
def test_key_files(case: dict[str, str]) -> None:
  want = (case["kind"], octets(case["raw"]))
  passphrase = vectors("key_files")["passphrase"]
  assert read_keys.private_key(case["plain"]) == want
  assert read_keys.private_key(case["protected"], passphrase) == want
  key = keyring.parse_key(case["protected"], passphrase)
  assert keyring.format_key(key) == case["plain"]
  if "public" in case:
    kind, data = read_keys.public_key(case["public"])
    assert kind == case["kind"]
    if kind in ("ed25519", "ml-dsa-65"):
      verify_key = keyring.parse_verify_key(case["public"])
      assert verify_key.public_bytes_raw() == data
    else:
      assert keyring.parse_recipient(case["public"]).data == data


@pytest.mark.parametrize(
  "case", vectors("key_files")["refused"], ids=lambda x: x["why"]
)
def test_malformed_key_files_are_refused(case: dict[str, str]) -> None:
  passphrase = vectors("key_files")["passphrase"]
  with pytest.raises(Refused):
    read_keys.private_key(case["text"], passphrase)
  with pytest.raises(KeyringError):
    keyring.parse_key(case["text"], passphrase)


def test_keyrings(tmp_path: pathlib.Path) -> None:
  case = vectors("keyrings")
  data = octets(case["file"])
  ring = read_keys.open_keyring(data, bytes.fromhex(case["root"]))
  assert ring["name"] == case["name"]
  found = [
    [k["id"], k["status"], k["primary"], f"aes:{k['fingerprint']}"]
    for k in ring["keys"]
  ]
  assert found == case["keys"]
  for key in ring["keys"]:
    name, _ = read_envelope.from_secret(octets(key["secret"]))
    assert name == f"aes:{key['fingerprint']}"
  name, fingerprint, salt = case["licensee"]
  licensing = octets(ring["licensing"])
  mine = read_envelope.derive(licensing, f"licensee/{name}")
  key_id, _ = read_envelope.from_secret(read_envelope.derive(mine, "key"))
  assert key_id == f"aes:{fingerprint}"
  mark = read_envelope.derive(mine, "mark")
  fresh, tag = bytes.fromhex(salt)[:12], bytes.fromhex(salt)[12:]
  assert hmac.digest(mark, fresh, "sha256")[:12] == tag
  path = tmp_path / "ring"
  path.write_bytes(data)
  path.chmod(0o600)
  loaded = keyring.Keyring.load(path, Secret(SECRET), case["name"])
  assert [e.recipient_id for e in loaded.entries] == [
    x[3] for x in case["keys"]
  ]
  with pytest.raises(Refused):
    read_keys.open_keyring(data[:-1], SECRET)


def private_keys() -> dict[str, bytes]:
  keys = {x["kind"]: octets(x["raw"]) for x in vectors("key_files")["keys"]}
  kms = vectors("envelopes")["kms"]
  keys["kms"] = bytes.fromhex(kms["secret"]) + kms["name"].encode()
  return keys


@pytest.mark.parametrize(
  "kind", ["secret", "x25519", "mlkem768x25519", "rsa", "device", "kms"]
)
def test_envelopes(kind: str, tmp_path: pathlib.Path) -> None:
  case = vectors("envelopes")
  data = case["envelope"].encode()
  raw = private_keys()[kind]
  data_key, document, private = read_envelope.open_envelope(data, [(kind, raw)])
  assert data_key.hex() == case["data_key"]
  assert private["extra"] == case["metadata"]
  identity: Any
  if kind == "kms":
    (tmp_path / "team-a.key").write_text(case["kms"]["secret"])
    (tmp_path / "team-a.key").chmod(0o600)
    identity = keyring.KmsKey(keyring.LocalKms(tmp_path), "team-a")
  else:
    plain = {x["kind"]: x["plain"] for x in vectors("key_files")["keys"]}
    identity = keyring.as_identity(keyring.parse_key(plain[kind]))
  opened = keyring.open_envelope(data, [identity])
  assert opened.data_key == data_key
  assert opened.created == private["created"]
  assert opened.checkpoint == document["checkpoint"]


def test_an_envelope_under_a_passphrase() -> None:
  case = vectors("envelopes")
  data = case["with_passphrase"].encode()
  key = ("passphrase", case["passphrase"].encode())
  assert read_envelope.open_envelope(data, [key])[0].hex() == case["data_key"]
  own = keyring.Passphrase(case["passphrase"], keyring.Cost(19456, 1, 1))
  assert keyring.open_envelope(data, [own]).data_key.hex() == case["data_key"]


@pytest.mark.parametrize(
  "case", vectors("envelopes")["refused"], ids=lambda x: x["why"]
)
def test_malformed_envelopes_are_refused(case: dict[str, str]) -> None:
  data = case["text"].encode()
  with pytest.raises(Refused):
    read_envelope.open_envelope(data, [("secret", SECRET)])
  with pytest.raises(KeyringError):
    keyring.open_envelope(data, [keyring.as_identity(Secret(SECRET))])
