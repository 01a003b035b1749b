"""A second reader, which follows docs/formats/data.md, reads the same."""

import base64
import hashlib
import hmac
import json
import pathlib
from typing import Any

import pytest
from array_record.python import array_record_module

from examples.read_envelope import derive, open_envelope, unseal
from examples.verify_release_log import root
from keyjax import Secret, data, keyring
from tests.data.conftest import write_records

SIGNERS = [None, *map(keyring.SigningKey.generate, ("ed25519", "ml-dsa-65"))]
RAW = bytes(range(32))
# Around the size of a chunk, and none.
RECORDS = [bytes([n % 251]) * n for n in (0, 1, 16383, 16384, 16385, 40000)]
CONTENT = {
  "a.array_record": RECORDS,
  "b/ü.txt": b"x" * 16384,
  "z.array_record": [],
}


def _json(*fields: Any) -> bytes:
  return json.dumps(fields, separators=(",", ":")).encode()


def _canonical(content: bytes) -> dict[str, Any]:
  found = json.loads(content)
  again = json.dumps(found, separators=(",", ":"), sort_keys=True)
  assert again.encode() == content
  return found


class Reader:
  """Opens a set, and checks its signature if there is a key."""

  def __init__(self, path: pathlib.Path, verify_key: Any):
    header = _canonical((path / "keyjax-data.json").read_bytes())
    assert set(header) == {"envelope", "format", "manifest", "version"}
    assert (header["format"], header["version"]) == ("keyjax-data", 1)
    self._path = path
    self._data_key, envelope, _ = open_envelope(
      header["envelope"].encode(), [("secret", RAW)]
    )
    self._id = envelope["checkpoint"]
    stored = header["manifest"]
    message = (path / stored).read_bytes()
    self.manifest = _canonical(self._open("manifest", stored, message))
    assert self.manifest["id"] == self._id
    self._signed = verify_key is not None
    if verify_key is not None:
      self._verify(stored, message, verify_key)

  def _verify(self, stored: str, message: bytes, verify_key: Any) -> None:
    place = self._path / stored.replace(".manifest", ".signature")
    sealed = unseal(
      derive(self._data_key, "keyring/leaf/signature/"),
      place.read_bytes(),
      _json("keyjax/checkpoint/1", "signature", self._id),
    )
    signature = base64.b64decode(json.loads(sealed)["signature"])
    said = _json("keyjax/checkpoint/1", "signed", self._id)
    verify_key.verify(signature, said + b"\0" + message)

  def _open(
    self, kind: str, stored: str, message: bytes, end: bytes = b""
  ) -> bytes:
    key = derive(self._data_key, f"keyring/leaf/data-{kind}/{stored}")
    context = _json("keyjax/data/1", kind, self._id, stored)
    return unseal(key, message, context + end)

  def content(self) -> dict[str, bytes | list[bytes]]:
    return {x["name"]: self._file(x) for x in self.manifest["files"]}

  def _file(self, entry: dict[str, Any]) -> bytes | list[bytes]:
    stored = entry["stored"]
    if "records" in entry:
      return self._records(entry, stored)
    message = (self._path / stored).read_bytes()
    if self._signed:
      assert hashlib.sha256(message).hexdigest() == entry["digest"]
    return self._open("file", stored, message)

  def _records(self, entry: dict[str, Any], stored: str) -> list[bytes]:
    reader = array_record_module.ArrayRecordReader(str(self._path / stored))
    count = reader.num_records()
    assert count == entry["records"]
    messages = reader.read(range(count)) if count else []
    if self._signed:
      place = self._path / entry["digests"]
      digests = self._open("file", place.name, place.read_bytes())
      assert hashlib.sha256(digests).hexdigest() == entry["digest"]
      found = [hashlib.sha256(x).digest() for x in messages]
      assert b"".join(found) == digests
    return [
      self._open("record", stored, x, i.to_bytes(8, "big"))
      for i, x in enumerate(messages)
    ]


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
  place = tmp_path / "source"
  (place / "b").mkdir(parents=True)
  for name, content in CONTENT.items():
    if isinstance(content, bytes):
      (place / name).write_bytes(content)
    else:
      write_records(place / name, content)
  return place


@pytest.mark.parametrize("signer", SIGNERS)
def test_a_second_reader_reads_a_sealed_set(signer, folder, tmp_path):
  owner = keyring.SymmetricKey(Secret(RAW))
  private = signer and signer.private
  public = signer and signer.public
  path = tmp_path / "sealed"
  data.seal_data(folder, path, owner, name="n", signer=private)
  assert Reader(path, public).content() == CONTENT
  (folder / "more").write_bytes(b"more")
  data.append_data(path, folder, owner, signer=private)
  reader = Reader(path, public)
  assert reader.content() == CONTENT | {"more": b"more"}
  assert reader.manifest["revision"] == 2 and reader.manifest["name"] == "n"


@pytest.mark.parametrize("signer", SIGNERS[1:])
def test_a_second_reader_checks_tags(signer, folder, tmp_path):
  made = data.tag_data(folder, Secret(RAW), "n")
  made.write(tmp_path / "tags", signer)
  line, _, found = (tmp_path / "tags").read_bytes().partition(b"\n")
  header = _canonical(line)
  tags = [found[i : i + 32] for i in range(0, len(found), 32)]
  leaves = [hashlib.sha256(b"\0" + x).digest() for x in tags]
  assert base64.b64decode(header["root"]) == root(leaves)
  signature = base64.b64decode(header.pop("signature"))
  rest = json.dumps(header, separators=(",", ":"), sort_keys=True).encode()
  signer.public.verify(signature, b"keyjax/data/tags/1\n" + rest)
  key = derive(RAW, f"data/tags/{header['name']}")
  assert tags == [
    _tag(key, i, name, record)
    for name, count in header["files"]
    for i, record in enumerate(_as_records(CONTENT[name], count))
  ]


def _as_records(content: bytes | list[bytes], count: int) -> list[bytes]:
  records = [content] if isinstance(content, bytes) else content
  assert len(records) == count
  return records


def _tag(key: bytes, index: int, name: str, record: bytes) -> bytes:
  file, label = name.encode(), b""
  parts = (_size(index), _size(len(file)), file, _size(len(label)), label)
  return hmac.digest(key, b"".join(parts) + record, "sha256")


def _size(number: int) -> bytes:
  return number.to_bytes(8, "big")
