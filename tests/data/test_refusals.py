"""Sealed data sets: arguments, headers and manifests that are refused."""

import pathlib
import shutil

import pytest

from keyjax import Secret, data, keyring
from keyjax.data import format as layout
from keyjax.errors import ArgumentError, ContentError, StorageError
from tests.data.conftest import (
  SIGNER,
)


def test_wrong_arguments_are_refused_and_nothing_is_written(
  source, owner, tmp_path
):
  new = tmp_path / "new"

  def refused(error: type[Exception], match: str, *args, **options) -> None:
    with pytest.raises(error, match=match):
      data.seal_data(*args, **options)
    assert not new.exists() and not list(tmp_path.glob(".new*"))

  refused(FileNotFoundError, "no file or folder", tmp_path / "no", new, owner)
  refused(FileExistsError, "exists", source, tmp_path, owner)
  refused(FileExistsError, "exists", source, source, owner, replace=True)
  refused(ArgumentError, "is inside", source, source / "new", owner)
  refused(TypeError, "is not a recipient", source, new, "alice")
  refused(keyring.KeyringError, "at least one", source, new, [])
  refused(ValueError, "name='a b'", source, new, owner, name="a b")
  refused(TypeError, "Ed25519", source, new, owner, signer=SIGNER)
  (tmp_path / "file").touch()
  refused(StorageError, "could not write", source, tmp_path / "file/a", owner)
  (tmp_path / "none").mkdir()
  refused(ArgumentError, "no file in", tmp_path / "none", new, owner)
  (tmp_path / "none/a\n").touch()
  refused(ArgumentError, "unprintable", tmp_path / "none", new, owner)
  broken = tmp_path / "broken.array_record"
  broken.write_bytes(b"not records")
  refused(ContentError, "damaged", broken, new, owner)
  with pytest.raises(FileNotFoundError, match="no sealed data set"):
    data.open_data(source, owner)
  with pytest.raises(FileNotFoundError, match="no sealed data set"):
    data.append_data(tmp_path / "no", source, owner)


def test_nothing_is_exported_into_a_set(sealed, owner, tmp_path):
  (tmp_path / "link").symlink_to(sealed)
  for target in (sealed / "plain", tmp_path / "link/a/plain"):
    with pytest.raises(ArgumentError, match="is inside"):
      data.export_data(sealed, target, owner)
  assert all(x.is_file() for x in sealed.iterdir())


def test_a_manifest_has_no_file_that_is_a_folder():
  entries = (
    layout.Entry("a", "0123456789abcdef.file", 3, None),
    layout.Entry("a/b", "fedcba9876543210.file", 3, None),
  )
  manifest = layout.Manifest("data/" + "0" * 32, "", 1, entries)
  name = "0123456789abcdef.manifest"
  sealed = layout.seal_manifest(manifest, bytes(32), name)
  with pytest.raises(ContentError, match="out of range"):
    layout.open_manifest(sealed, bytes(32), manifest.id, name)


def test_a_set_is_not_appended_to_itself_or_under_its_files(
  sealed, source, owner
):
  def refused(match: str, folder: pathlib.Path) -> None:
    with pytest.raises(ArgumentError, match=match):
      data.append_data(sealed, folder, owner, signer=SIGNER.private)
    assert data.inspect_data(sealed, owner)["revision"] == 1

  refused("is a sealed data set already", sealed)
  refused("is inside", sealed.parent)
  shutil.rmtree(source / "labels")
  (source / "labels").touch()
  refused("labels would be a file and a folder", source)


def test_a_set_says_what_it_does_not_have(sealed, owner):
  opened = data.open_data(sealed, owner)
  with pytest.raises(ArgumentError, match="as a whole: it has labels/names"):
    opened.read("a-test.array_record-00000-of-00001")
  with pytest.raises(ArgumentError, match="matches 'b.'"):
    opened.records("b*")
  with pytest.raises(ContentError, match="of the set 'animals', not of 'b'"):
    data.open_data(sealed, owner, name="b")
  with pytest.raises(ArgumentError, match="is a sealed data set already"):
    data.seal_data(sealed, sealed.parent / "twice", owner)
  with pytest.raises(keyring.KeyringError, match="store keys elsewhere"):
    Secret.generate().save(sealed / "owner.key")


@pytest.mark.parametrize(
  "header",
  [
    b"",
    b"[]",
    b'{"format":"keyjax-data","version":2}',
    b'{"envelope":"","format":"keyjax-data","manifest":"../a","version":1}',
    b'{"envelope":"","format":"other","manifest":"x","version":1}',
    b'{"envelope":1,"format":"keyjax-data","manifest":"x","version":1}',
    b"{" * 100_000,
  ],
)
def test_a_header_of_an_attacker_is_refused(header, sealed, owner):
  (sealed / layout.HEADER).write_bytes(header)
  with pytest.raises(ContentError, match="sealed data set"):
    data.open_data(sealed, owner)


@pytest.mark.parametrize(
  "change",
  [
    {"name": "../outside"},
    {"name": "a\x1b[31m"},
    {"name": "a" * 513},
    {"size": 1 << 60},
    {"stored": "../../etc.file"},
    {"stored": "0123456789abcdef.records"},
    {"size": -1},
    {"records": -1},
    {"digests": "x"},
    {"stored": "0123456789abcdef.records", "records": 1, "digest": "00"},
    {},  # No files.
  ],
)
def test_a_manifest_of_a_recipient_cannot_lead_elsewhere(change):
  entry = layout.Entry("a", "0123456789abcdef.file", 3, None)
  manifest = layout.Manifest("data/" + "0" * 32, "", 1, (entry,))
  key, name = bytes(32), "0123456789abcdef.manifest"
  sealed = layout.seal_manifest(manifest, key, name)
  assert layout.open_manifest(sealed, key, manifest.id, name) == manifest
  manifest = manifest._replace(
    files=(entry._replace(**change),) if change else ()
  )
  sealed = layout.seal_manifest(manifest, key, name)
  with pytest.raises(ContentError, match="out of range"):
    layout.open_manifest(sealed, key, manifest.id, name)


@pytest.mark.parametrize(
  ("extra", "place"), [(b'"ever":1,', b'"files":'), (b'"so":1,', b'"stored":')]
)
def test_a_manifest_with_other_fields_is_refused(extra, place, monkeypatch):
  entry = layout.Entry("a", "0123456789abcdef.file", 3, None)
  manifest = layout.Manifest("data/" + "0" * 32, "", 1, (entry,))
  name, made = "0123456789abcdef.manifest", layout._manifest_bytes
  with monkeypatch.context() as patch:
    patch.setattr(
      layout,
      "_manifest_bytes",
      lambda x: made(x).replace(place, extra + place),
    )
    sealed = layout.seal_manifest(manifest, bytes(32), name)
  with pytest.raises(ContentError, match="it has other fields"):
    layout.open_manifest(sealed, bytes(32), manifest.id, name)
