"""Sealed data sets: what comes back, and what is refused."""

import errno
import os
import pathlib
import pickle
import re
import shutil
from collections.abc import Callable

import grain
import numpy as np
import pytest

from keyjax import Secret, data, keyring
from keyjax.data import format as layout
from keyjax.data.record_files import RecordFile
from keyjax.errors import ArgumentError, ContentError, StorageError
from tests.data.conftest import (
  LABELS,
  MORE,
  SIGNER,
  TEST,
  TRAIN,
  write_records,
)

OTHER_SIGNER = keyring.SigningKey.generate("ml-dsa-65")


def train(path, who, **options) -> data.Records:
  return data.open_data(path, who, **options).records("a-train.*")


def stored(path: pathlib.Path, who, name: str) -> pathlib.Path:
  """Return the stored file of a file of the set."""
  return path / data.open_data(path, who).files[name].stored


def test_records_come_back_in_any_order(sealed, owner):
  records = train(sealed, owner, verify_key=SIGNER.public, name="animals")
  assert len(records) == 30
  assert [records[i] for i in range(30)] == TRAIN
  order = [29, 0, 20, 19, 0]
  assert records.__getitems__(order) == [TRAIN[i] for i in order]
  assert records[np.int64(21)] == TRAIN[21]
  for wrong in (slice(0, 2), "1", 1.0, None):
    with pytest.raises(TypeError, match="as an integer"):
      records[wrong]
  opened = data.open_data(sealed, owner)
  assert opened.records("*test*").__getitems__(range(10)) == TEST
  assert len(opened.records()) == 40
  assert opened.read("labels/names.txt").decode() == LABELS
  for index in (30, -1):
    with pytest.raises(IndexError, match=f"record {index} of 30"):
      records[index]


def test_grain_reads_them_shuffled_and_by_several_hosts(sealed, owner):
  records = train(sealed, owner)
  hosts = [
    grain.MapDataset.source(records).shuffle(seed=3)[host::2]
    for host in range(2)
  ]
  found = [sorted(x for x in host) for host in hosts]
  assert sorted(found[0] + found[1]) == sorted(TRAIN)
  options = grain.ReadOptions(num_threads=4, prefetch_buffer_size=8)
  threads = grain.MapDataset.source(records).to_iter_dataset(options)
  assert list(threads) == TRAIN


def test_nothing_is_plain_on_the_disk(sealed, owner):
  for path in sealed.rglob("*"):
    content = path.read_bytes() + path.name.encode()
    for inside in (b"image", b"other", b"cat", b"train", b"animals"):
      assert inside not in content


def test_only_recipients_open_a_set(sealed, source, owner, tmp_path):
  stranger = keyring.SymmetricKey(Secret.generate())
  with pytest.raises(keyring.CannotOpen):
    data.open_data(sealed, stranger)
  data.rewrap_data(sealed, owner, [owner, stranger])
  assert train(sealed, stranger)[29] == TRAIN[29]
  data.rewrap_data(sealed, owner, stranger, revoked=[owner.id])
  with pytest.raises(keyring.KeyringError, match="was revoked"):
    data.open_data(sealed, owner)
  found = data.inspect_data(sealed)
  assert found["envelope"]["recipients"] == [stranger.id]
  assert set(found) == {"bytes", "envelope", "format", "version"}


def test_keys_are_in_no_repr_and_no_pickle(sealed, owner):
  opened = data.open_data(sealed, owner)
  for holder in (opened, opened.records(), opened.records()._files[0]):
    assert re.fullmatch(r"<[^']*>", repr(holder)), repr(holder)
    with pytest.raises(TypeError, match="not pickled or copied"):
      pickle.dumps(holder)


def test_inspect_shows_the_files_to_a_recipient(sealed, owner):
  found = data.inspect_data(sealed, owner)
  assert found["name"] == "animals" and found["revision"] == 1
  assert found["signed"]
  first = found["files"][0]
  assert first["records"] == 10 and first["bytes"] == sum(map(len, TEST))
  assert found["files"][-1]["records"] is None


Messages = list[bytes]


def _swap(x: Messages, other: Messages) -> None:
  x[3], x[4] = x[4], x[3]


def _repeat(x: Messages, other: Messages) -> None:
  x[4] = x[3]


def _foreign(x: Messages, other: Messages) -> None:
  x[4] = other[4]


def _change(x: Messages, other: Messages) -> None:
  x[4] = x[4][:-1] + bytes([x[4][-1] ^ 1])


def _cut(x: Messages, other: Messages) -> None:
  x[4] = x[4][:-17]


def _empty(x: Messages, other: Messages) -> None:
  x[4] = b""


@pytest.mark.parametrize(
  "attack", [_swap, _repeat, _foreign, _change, _cut, _empty]
)
def test_a_record_that_is_not_the_sealed_one_is_refused_with_its_index(
  attack: Callable, sealed, source, owner, tmp_path
):
  name = "a-train.array_record-00000-of-00002"
  data.seal_data(source, tmp_path / "other", owner)  # The same plain records.
  place = stored(sealed, owner, name)
  messages = list(RecordFile(place))
  attack(messages, list(RecordFile(stored(tmp_path / "other", owner, name))))
  place.unlink()
  write_records(place, messages)
  records = train(sealed, owner)
  with pytest.raises(ContentError, match=f"record 4 of {name} does not open"):
    records[4]
  with pytest.raises(ContentError, match="record"):
    records.__getitems__(range(10))
  right = [i for i in range(30) if i not in (3, 4)]
  assert records.__getitems__(right) == [TRAIN[i] for i in right]
  found = {x.what.split(" of ")[0] for x in data.verify_data(sealed, owner)}
  assert found - {"record 3"} == {"record 4"}


def test_records_that_are_missing_or_too_many_are_refused(sealed, owner):
  name = "a-train.array_record-00001-of-00002"
  place = stored(sealed, owner, name)
  messages = list(RecordFile(place))
  for some in (messages[:-1], [*messages, messages[0]], []):
    place.unlink()
    write_records(place, some)
    with pytest.raises(ContentError, match=f"has {len(some)} records, and 10"):
      train(sealed, owner)
  place.unlink()
  with pytest.raises(ContentError, match="is missing"):
    train(sealed, owner)
  assert [x.where for x in data.verify_data(sealed, owner)] == [name]
  assert len(data.open_data(sealed, owner).records("*test*")) == 10


def test_a_file_in_the_place_of_another_is_refused(sealed, owner):
  first, second = (
    stored(sealed, owner, f"a-train.array_record-0000{i}-of-00002")
    for i in range(2)
  )
  content = first.read_bytes()
  second.write_bytes(content)
  with pytest.raises(ContentError, match="has 20 records, and 10"):
    train(sealed, owner)
  other = stored(sealed, owner, "labels/names.txt")
  other.write_bytes(other.read_bytes()[:-1] + b"\0")
  with pytest.raises(ContentError, match="labels/names.txt does not open"):
    data.open_data(sealed, owner).read("labels/names.txt")


def test_damage_of_the_container_is_found_too(sealed, owner):
  place = stored(sealed, owner, "a-test.array_record-00000-of-00001")
  content = place.read_bytes()
  messages = list(RecordFile(place))
  at = content.index(messages[7]) + 5
  place.write_bytes(content[:at] + b"\0\0\0" + content[at + 3 :])
  records = data.open_data(sealed, owner).records("*test*")
  with pytest.raises(ContentError, match="record 7 of .* cannot be read"):
    records.__getitems__([1, 7])
  assert records[6] == TEST[6]
  place.write_bytes(content[: len(content) // 2])
  with pytest.raises(ContentError, match=r"\.records is damaged"):
    data.open_data(sealed, owner).records("*test*")


def test_a_signature_excludes_other_recipients(sealed, source, owner):
  def refused(match: str, key=SIGNER) -> None:
    with pytest.raises(ContentError, match=match):
      opened = data.open_data(sealed, owner, verify_key=key.public)
      opened.read("labels/names.txt")
      opened.records().__getitems__(range(40))

  refused("was not signed with the expected key", OTHER_SIGNER)
  shutil.copytree(sealed, sealed.parent / "kept")
  # A recipient knows the data key: whatever they seal opens.
  (source / "labels/names.txt").write_text("dog\ncat\n")
  data.seal_data(source, sealed, owner, replace=True)
  assert data.verify_data(sealed, owner) == []
  refused("this data set is not signed")
  _forge(sealed.parent / "kept", owner)
  assert data.verify_data(sealed.parent / "kept", owner) == []
  with pytest.raises(ContentError, match="record 4 of .* not what was signed"):
    train(sealed.parent / "kept", owner, verify_key=SIGNER.public)[4]


def _forge(path: pathlib.Path, who) -> None:
  """Seal another record with the data key, as a recipient could."""
  from keyjax.data.opened import open_set
  from keyjax.keyring.data_keys import leaf_key
  from keyjax.seal import seal

  name = "a-train.array_record-00000-of-00002"
  found = open_set(path, [who])
  [entry] = [x for x in found.manifest.files if x.name == name]
  messages = list(RecordFile(path / entry.stored))
  messages[4] = seal(
    leaf_key(found.data_key, "data-record", entry.stored),
    b"poison",
    layout.record_context(found.manifest.id, entry.stored)
    + layout.record_number(4),
  )
  (path / entry.stored).unlink()
  write_records(path / entry.stored, messages)


def test_files_are_added_without_sealing_the_others_again(
  sealed, source, owner
):
  before = {x.name: x.stat().st_mtime_ns for x in sealed.glob("*.records")}
  write_records(source / "a-train.array_record-00002-of-00003", MORE)
  with pytest.raises(ArgumentError, match="is signed: give the signer"):
    data.append_data(sealed, source, owner)
  with pytest.raises(ContentError, match="expected key"):
    data.append_data(sealed, source, owner, signer=OTHER_SIGNER.private)
  assert data.append_data(sealed, source, owner, signer=SIGNER.private) == 1
  assert data.append_data(sealed, source, owner, signer=SIGNER.private) == 0
  after = {x.name: x.stat().st_mtime_ns for x in sealed.glob("*.records")}
  assert before.items() < after.items()
  records = train(sealed, owner, verify_key=SIGNER.public)
  assert records.__getitems__(range(35)) == TRAIN + MORE
  assert data.inspect_data(sealed, owner)["revision"] == 2
  assert data.verify_data(sealed, owner, verify_key=SIGNER.public) == []
  assert len(list(sealed.glob("*.manifest"))) == 1


def test_two_writers_do_not_mix(sealed, source, owner):
  from keyjax.data.folders import changing_folder

  with (
    changing_folder(sealed),
    pytest.raises(StorageError, match="another process is changing"),
  ):
    data.seal_data(source, sealed, owner, replace=True)
  assert data.verify_data(sealed, owner, verify_key=SIGNER.public) == []


def test_a_set_that_appears_meanwhile_is_not_replaced(
  source, owner, tmp_path, monkeypatch
):
  from keyjax.data import sealing

  def slow(*args, **options):
    with monkeypatch.context() as patch:
      patch.setattr(sealing, "seal_envelope", keyring.seal_envelope)
      (tmp_path / "first").write_text("first")
      data.seal_data(tmp_path / "first", tmp_path / "set", owner)
    return keyring.seal_envelope(*args, **options)

  monkeypatch.setattr(sealing, "seal_envelope", slow)
  with pytest.raises(StorageError, match="could not write"):
    data.seal_data(source, tmp_path / "set", owner)
  assert data.open_data(tmp_path / "set", owner).read("first") == b"first"
  assert not list(tmp_path.glob(".*"))


def test_a_set_is_opened_while_it_is_replaced(
  sealed, source, owner, monkeypatch
):
  """A reader that has read the old header continues with the new one."""
  read = layout.read_header
  headers = [read(sealed)]
  data.seal_data(source, sealed, owner, replace=True)
  monkeypatch.setattr(
    layout, "read_header", lambda x: headers.pop() if headers else read(x)
  )
  assert train(sealed, owner)[29] == TRAIN[29]
  # A manifest that is missing is still an error.
  (sealed / layout.read_header(sealed).manifest).unlink()
  with pytest.raises(ContentError, match=r"\.manifest is missing"):
    data.open_data(sealed, owner)


def test_a_folder_that_cannot_be_read_is_not_left_out(
  source, owner, tmp_path, monkeypatch
):
  scan = os.scandir

  def denied(path):
    if pathlib.Path(path).name == "labels":
      raise PermissionError(errno.EACCES, "Permission denied", str(path))
    return scan(path)

  monkeypatch.setattr(os, "scandir", denied)
  for work in (
    lambda: data.seal_data(source, tmp_path / "set", owner),
    lambda: data.tag_data(source, Secret.generate(), "animals"),
  ):
    with pytest.raises(StorageError, match=r"could not read .*/labels: Perm"):
      work()


def test_links_to_folders_are_refused(source, owner, tmp_path):
  (source / "link").symlink_to(tmp_path)
  with pytest.raises(ArgumentError, match="link is neither a file"):
    data.seal_data(source, tmp_path / "set", owner)
  (source / "link").unlink()
  (source / "link").symlink_to(source / "labels/names.txt")
  data.seal_data(source, tmp_path / "set", owner)
  assert data.open_data(tmp_path / "set", owner).read("link") == LABELS.encode()


def test_who_knows_a_public_key_can_seal_another_set(source, tmp_path):
  """Known break: of an unsigned set nobody knows who sealed it."""
  reader = keyring.HpkePrivateKey.generate("x25519")
  (tmp_path / "poison").write_text("poison")
  data.seal_data(tmp_path / "poison", tmp_path / "set", reader.public)
  assert data.verify_data(tmp_path / "set", reader) == []
  with pytest.raises(ContentError, match="not signed"):
    data.open_data(tmp_path / "set", reader, verify_key=SIGNER.public)


def test_one_file_of_any_kind_is_a_set(owner, tmp_path):
  text = tmp_path / "text.safetensors"
  text.write_bytes(bytes(range(256)) * 200)  # Several chunks.
  assert data.seal_data(text, tmp_path / "set", owner) == 1
  opened = data.open_data(tmp_path / "set", owner)
  assert opened.read(text.name) == text.read_bytes()
  with pytest.raises(ArgumentError, match=r"no file of records .* has none"):
    opened.records()
  (tmp_path / "empty").write_bytes(b"")
  data.append_data(tmp_path / "set", tmp_path / "empty", owner)
  assert data.open_data(tmp_path / "set", owner).read("empty") == b""
