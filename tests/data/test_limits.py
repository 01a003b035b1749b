"""Sets of many files, and files that would fill the memory."""

import os
import pathlib
import re

import pytest

from keyjax import Secret, data, keyring
from keyjax.data import format as layout
from keyjax.data.open_files import OpenFiles
from keyjax.data.record_files import RecordFile
from keyjax.data.tag_headers import MAX_TAGS
from keyjax.errors import ArgumentError, ContentError
from tests.data.conftest import SIGNER, TEST, TRAIN, write_records

HUGE = 10 << 30
# Run in a child that cannot have 10 GB; threads of array_record need addresses.
LIMITED = """
import pathlib, resource, sys

folder, place = map(pathlib.Path, sys.argv[1:])
from keyjax import Secret, data, keyring
from keyjax.errors import ContentError

used = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
most = used * resource.getpagesize() + (8 << 30)
resource.setrlimit(resource.RLIMIT_AS, (most, most))
owner = keyring.SymmetricKey(Secret.load(folder / "owner"))
signer = keyring.parse_verify_key((folder / "signer").read_text())
try:
  if place.suffix == ".tags":
    data.RecordTags.read(place)
  else:
    opened = data.open_data(folder / "sealed", owner, verify_key=signer)
    opened.read("labels/names.txt")
    opened.records()
except ContentError as error:
  print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def sparse(path: pathlib.Path, start: bytes = b"") -> None:
  """Write a file of 10 GB, which needs no space."""
  path.write_bytes(start)
  os.truncate(path, HUGE)


@pytest.fixture
def owner(tmp_path) -> keyring.SymmetricKey:
  """Return a key that is also in a file, for children."""
  secret = Secret.generate()
  secret.save(tmp_path / "owner")
  return keyring.SymmetricKey(secret)


@pytest.fixture
def kept(sealed, tmp_path) -> pathlib.Path:
  """Return the folder with the keys of the set."""
  line = keyring.format_verify_key(SIGNER.public)
  (tmp_path / "signer").write_text(line)
  return tmp_path


@pytest.mark.parametrize(
  "suffix", ["json", "manifest", "signature", "digests", "file", "records"]
)
def test_a_file_of_10_gb_is_refused_without_being_read(
  suffix, sealed, kept, children
):
  for place in sealed.glob(f"*.{suffix}"):
    sparse(place)
  child = children.start(LIMITED, kept, sealed)
  assert child.wait() == 0, child.err()
  line, most = child.out().splitlines()
  assert int(most) < 1000
  large = "it has 10737418240 bytes, and at most"
  assert ("damaged" if suffix == "records" else large) in line


@pytest.mark.parametrize(
  ("start", "match"),
  [
    (b"", "its header does not end within 16777216 bytes"),
    (b"{}\n", "no file of tags"),
    ("few", "its header says 41 records"),
    ("many", f"has more than {MAX_TAGS} tags"),
  ],
)
def test_tags_of_10_gb_are_refused_without_being_read(
  start, match, source, kept, children
):
  place = kept / "a.tags"
  if isinstance(start, str):
    data.tag_data(source, Secret.generate(), "a").write(place)
    start = place.read_bytes().partition(b"\n")[0] + b"\n"
    if match.startswith("has more"):
      # As many as there would be.
      start = re.sub(rb"-test([^,]*),10\]", rb"-test\1,335544279]", start)
  sparse(place, start)
  child = children.start(LIMITED, kept, place)
  assert child.wait() == 0, child.err()
  line, most = child.out().splitlines()
  assert int(most) < 1000
  assert match in line


def test_too_many_tags_are_not_written(tmp_path, monkeypatch):
  monkeypatch.setattr("keyjax.data.tags.MAX_TAGS", 2)
  tags = data.RecordTags("a", {"": 3}, bytes(96))
  with pytest.raises(ArgumentError, match="3 tags: a file has at most 2"):
    tags.write(tmp_path / "a.tags")
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", ["1.0", "true"])
def test_another_spelling_of_a_header_is_refused(number, source, tmp_path):
  place = tmp_path / "a.tags"
  data.tag_data(source, Secret.generate(), "a").write(place)
  content = place.read_bytes()
  wrong = content.replace(b'"version":1', f'"version":{number}'.encode())
  assert wrong != content
  place.write_bytes(wrong)
  with pytest.raises(ContentError, match="was changed"):
    data.RecordTags.read(place)


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_is_no_file_is_refused_at_once(kind, sealed, owner, tmp_path):
  for place in (*sealed.glob("*.manifest"), tmp_path / "a.tags"):
    place.unlink(missing_ok=True)
    if kind == "pipe":
      os.mkfifo(place)
    elif kind == "folder":
      place.mkdir()
    else:
      place.symlink_to("/dev/zero")
  with pytest.raises(ContentError, match=r"\.manifest is not a file"):
    data.open_data(sealed, owner)
  with pytest.raises(ContentError, match=r"a\.tags is not a file"):
    data.RecordTags.read(tmp_path / "a.tags")


def test_a_count_that_no_message_can_have_is_refused(sealed, owner):
  opened = data.open_data(sealed, owner, verify_key=SIGNER.public)
  [entry, *_] = opened.manifest.files
  with pytest.raises(ContentError, match="has 10 records, and"):
    opened.record_file(entry._replace(records=(1 << 48) - 1))


MANY = """
import os, pathlib, resource, sys

folder, job = pathlib.Path(sys.argv[1]), sys.argv[2]
from keyjax import Secret, data, keyring
from keyjax.errors import StorageError

key = Secret.load(folder / "owner")
owner = keyring.SymmetricKey(key)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
if job == "tagged":
  tags = data.tag_data(folder / "many", key, "many")
  opened = data.open_tagged(folder / "many", tags, key)
else:
  opened = data.open_data(folder / "set", owner)
records = opened.records()
if job == "full":
  taken = []

  def take():
    try:
      while True:
        taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
      pass

  take()
  assert records[50] == b"50"  # Others of the set are closed for it.
  data.record_files._OPEN.close()
  take()
  for work in (
    lambda: records[8],
    lambda: data.open_data(folder / "set", owner),
    opened.records,
  ):
    try:
      work()
    except StorageError as error:
      print(error)
else:
  assert len(os.listdir("/proc/self/fd")) < 50
  for order in (range(100), range(99, -1, -1)):
    for i in order:
      assert records[i] == str(i).encode(), i
  found = records.__getitems__(range(100))
  assert found == [str(i).encode() for i in range(100)]
  print(len(os.listdir("/proc/self/fd")))
"""


@pytest.fixture
def many(owner, tmp_path) -> pathlib.Path:
  """Write a set of 100 files of one record."""
  (tmp_path / "many").mkdir()
  for i in range(100):
    name = f"a.array_record-{i:05}-of-00100"
    write_records(tmp_path / "many" / name, [str(i).encode()])
  return tmp_path


@pytest.mark.parametrize("job", ["sealed", "tagged"])
def test_a_set_has_more_files_than_may_be_open(job, many, owner, children):
  data.seal_data(many / "many", many / "set", owner)
  child = children.start(MANY, many, job)
  assert child.wait() == 0, child.err()
  assert int(child.out()) < 50


def test_no_descriptor_is_an_error_that_names_the_remedy(many, owner, children):
  data.seal_data(many / "many", many / "set", owner)
  child = children.start(MANY, many, "full")
  assert child.wait() == 0, child.err()
  lines = child.out().splitlines()
  assert len(lines) == 3
  for line in lines:
    assert "too many open files; allow more with `ulimit -n`" in line


def test_threads_read_while_files_are_closed(
  source, sealed, owner, monkeypatch
):
  from concurrent.futures import ThreadPoolExecutor

  opened = OpenFiles(most=1)
  monkeypatch.setattr("keyjax.data.record_files._OPEN", opened)
  records = data.open_data(sealed, owner).records()
  expected = TEST + TRAIN
  with ThreadPoolExecutor(8) as pool:
    for _ in range(20):
      assert list(pool.map(records.__getitem__, range(40))) == expected


def test_a_file_that_was_replaced_while_it_was_closed_is_refused(
  source, sealed, owner, monkeypatch
):
  opened = OpenFiles()
  monkeypatch.setattr("keyjax.data.record_files._OPEN", opened)
  records = data.open_data(sealed, owner).records()
  data.seal_data(source, sealed, owner, replace=True)
  assert records.__getitems__(range(40)) == TEST + TRAIN  # Still open.
  assert opened.close() and not opened.close()
  with pytest.raises(ContentError, match=r"record 0 of .* is missing"):
    records[0]
  name = "a-test.array_record-00000-of-00001"
  file = RecordFile(source / name)
  opened.close()
  (source / name).unlink()
  write_records(source / name, TEST[:-1])
  with pytest.raises(ContentError, match="has changed since it was opened"):
    file.read([0])


def test_limits_are_those_of_the_document():
  assert layout.MAX_HEADER_BYTES == 1 << 25
  assert layout.MAX_MANIFEST_BYTES == 1 << 28
  assert MAX_TAGS == 1 << 27
