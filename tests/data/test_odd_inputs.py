"""Odd but legal: names, links, empty files, sets of very many files."""

import os
import unicodedata

import pytest

from keyjax import Secret, data
from keyjax.data import format as layout
from keyjax.data import tag_headers
from keyjax.data.sizes import Limits
from keyjax.errors import ArgumentError, ContentError
from tests.data.conftest import SIGNER, TRAIN, write_records

SECRET = Secret.generate()


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31m", "a\u202eb"])
def test_a_single_file_that_no_set_can_name_is_refused(
  name, sealed, owner, tmp_path
):
  """It would be sealed, and never opened; and so would a set that has it."""
  place = tmp_path / name
  place.write_text("x")
  before = sorted(sealed.iterdir())
  for work in (
    lambda: data.seal_data(place, tmp_path / "new", owner),
    lambda: data.append_data(sealed, place, owner, signer=SIGNER.private),
    lambda: data.tag_data(place, SECRET, "a"),
  ):
    with pytest.raises(ArgumentError, match="unprintable or very long name"):
      work()
  assert not (tmp_path / "new").exists()
  assert sorted(sealed.iterdir()) == before
  assert data.verify_data(sealed, owner, verify_key=SIGNER.public) == []


@pytest.mark.parametrize("folder", ["名😀", os.fsdecode(b"a\xffb")])
def test_folders_may_have_any_name(folder, owner, tmp_path):
  (tmp_path / folder).mkdir()
  names = sorted(
    unicodedata.normalize(x, "é.array_record") for x in ("NFC", "NFD")
  )
  for name in names:
    write_records(tmp_path / folder / name, TRAIN)
  place = tmp_path / folder / "set"
  source = tmp_path / "source"
  (tmp_path / folder).rename(source)
  (tmp_path / folder).mkdir()
  data.seal_data(source, place, owner)
  opened = data.open_data(place, owner)
  assert opened.names() == names
  assert opened.records().__getitems__(range(60)) == TRAIN * 2
  data.export_data(place, tmp_path / folder / "plain", owner)
  tags = data.tag_data(source, SECRET, "a")
  tags.write(tmp_path / folder / "a.tags")
  tags = data.RecordTags.read(tmp_path / folder / "a.tags")
  assert data.verify_tagged(tmp_path / folder / "plain", tags, SECRET) == []


def test_files_without_records_are_a_set(owner, tmp_path):
  source = tmp_path / "source"
  source.mkdir()
  for name in ("a.array_record", "b.array_record"):
    write_records(source / name, [])
  place = tmp_path / "set"
  assert data.seal_data(source, place, owner, signer=SIGNER.private) == 0
  opened = data.open_data(place, owner, verify_key=SIGNER.public)
  records = opened.records()
  assert len(records) == 0 and records.__getitems__([]) == []
  with pytest.raises(IndexError, match="record 0 of 0"):
    records[0]
  data.export_data(place, tmp_path / "plain", owner)
  tags = data.tag_data(tmp_path / "plain", SECRET, "a")
  tags.write(tmp_path / "a.tags", SIGNER)
  tags = data.RecordTags.read(tmp_path / "a.tags", SIGNER.public)
  assert len(tags) == 0 and tags.of("b.array_record") == []
  assert data.verify_tagged(source, tags, SECRET) == []
  # A file of no bytes is not a file of no records.
  (source / "c.array_record").touch()
  for work in (
    lambda: data.seal_data(source, tmp_path / "new", owner),
    lambda: data.tag_data(source, SECRET, "a"),
  ):
    with pytest.raises(ContentError, match=r"c\.array_record is damaged"):
      work()
  assert not (tmp_path / "new").exists()


def test_a_set_may_be_reached_through_a_link(sealed, source, owner, tmp_path):
  (tmp_path / "link").symlink_to(sealed)
  (tmp_path / "from").symlink_to(source)
  (source / "more.txt").write_text("more")
  link, origin = tmp_path / "link", tmp_path / "from"
  data.append_data(link, origin, owner, signer=SIGNER.private)
  assert data.open_data(sealed, owner).read("more.txt") == b"more"
  data.seal_data(origin, link, owner, replace=True)
  assert link.is_symlink() and data.verify_data(sealed, owner) == []


@pytest.mark.parametrize("count", [0, 2])
def test_a_whole_file_has_one_tag(count, source):
  name = "labels/names.txt"
  right = data.tag_data(source, SECRET, "a").of(name)
  tags = data.RecordTags("a", {name: count}, right[0] * count)
  with pytest.raises(ContentError, match="names.txt is not what was tagged"):
    data.open_tagged(source, tags, SECRET).read(name)
  found = data.verify_tagged(source, tags, SECRET)
  assert found[0].where == name


def test_a_large_file_is_read_whole_only_if_it_is_the_tagged_one(
  source, monkeypatch
):
  place = source / "labels/names.txt"
  place.write_bytes(bytes(range(256)) * 20)
  tags = data.tag_data(source, SECRET, "a")
  monkeypatch.setattr("keyjax.data.tagged._LARGE", 1000)
  monkeypatch.setattr("keyjax.data.tagger._PART", 300)
  opened = data.open_tagged(source, tags, SECRET)
  assert opened.read("labels/names.txt") == place.read_bytes()
  with place.open("ab") as file:
    file.write(b"!")

  def whole(*args, **options):
    raise AssertionError("it was read whole")

  monkeypatch.setattr(data.Tagger, "is_right", whole)
  with pytest.raises(ContentError, match="names.txt is not what was tagged"):
    opened.read("labels/names.txt")


def test_more_files_than_can_be_named_are_refused_before_they_are_read(
  sealed, source, owner, tmp_path, monkeypatch
):
  few = layout.LIMITS._replace(size=600)  # Two of the three.
  monkeypatch.setattr(layout, "LIMITS", few)
  monkeypatch.setattr("keyjax.data.tagged.LIMITS", few)
  monkeypatch.setattr("keyjax.data.tags.LIMITS", few)
  extra = tmp_path / "extra.txt"
  extra.write_text("x")
  tags = data.RecordTags("a", dict.fromkeys("abc", 0))
  for work in (
    lambda: data.seal_data(source, tmp_path / "new", owner),
    lambda: data.append_data(sealed, extra, owner, signer=SIGNER.private),
    lambda: data.tag_data(source, SECRET, "a"),
    lambda: tags.write(tmp_path / "a.tags"),
  ):
    with pytest.raises(ArgumentError, match="files are more than"):
      work()
  assert not (tmp_path / "new").exists() and not (tmp_path / "a.tags").exists()
  assert data.verify_data(sealed, owner, verify_key=SIGNER.public) == []


NAMES = ["a", "b,[{", 'c"', "é", "😀" * 512]


def names_fit(limits: Limits, names: list[str]) -> bool:
  try:
    limits.check(names)
  except ArgumentError:
    return False
  return True


def test_what_the_limits_allow_can_be_read():
  """Their sizes are those of what is written, and not less."""
  big = (1 << 48) - 1
  entries = [
    layout.Entry(
      name, f"{i:016x}.records", big, big, f"{i:016x}.digests", "0" * 64
    )
    for i, name in enumerate(sorted(NAMES))
  ]
  manifest = layout.Manifest("data/" + "0" * 32, "", 1, tuple(entries))
  files = {name: big for name in NAMES}
  header = tag_headers.dump([[k, v] for k, v in files.items()])
  for limits, made in (
    (layout.LIMITS, layout.dump([x._asdict() for x in manifest.files])),
    (tag_headers.LIMITS, header),
  ):
    size = len(made)
    items = sum(made.count(x) for x in (b"[", b"{", b","))
    assert not names_fit(limits._replace(size=size - 3), NAMES)
    assert not names_fit(limits._replace(items=items - 3), NAMES)
    more = limits._replace(size=size + 100, items=items + 3)
    assert names_fit(more, NAMES)


def test_a_manifest_that_could_not_be_opened_is_not_committed(
  sealed, source, owner, monkeypatch
):
  (source / "more.txt").write_text("more")
  before = sorted(sealed.iterdir())
  with monkeypatch.context() as patch:
    patch.setattr("keyjax.data.changing.list_files", lambda x: {"a\n": x})
    patch.setattr("keyjax.data.sealing.read_file", lambda x: b"")
    with pytest.raises(ContentError, match="out of range"):
      data.append_data(sealed, source, owner, signer=SIGNER.private)
  assert sorted(sealed.iterdir()) == before
  assert data.verify_data(sealed, owner, verify_key=SIGNER.public) == []


def test_tags_of_many_files_are_joined_once():
  names = [f"{i}" for i in range(5000)]
  tags = data.RecordTags("a").with_files({x: [bytes(32)] for x in names})
  assert len(tags) == 5000
  assert tags.of("4999") == [bytes(32)]
  with pytest.raises(ArgumentError, match="tags of the file '7' already"):
    tags.with_files({"7": []})
