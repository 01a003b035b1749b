"""Files that stay as they are, each record of which is checked by its tag."""

import os
import pathlib
from collections.abc import Sequence

from keyjax.arguments import show
from keyjax.data.checked import refused
from keyjax.data.reading import opened_file, read_file
from keyjax.data.record_files import RecordFile, is_record_file
from keyjax.data.records import Records, list_files, matching, some
from keyjax.data.tag_headers import LIMITS
from keyjax.data.tagger import Tagger
from keyjax.data.tags import RecordTags
from keyjax.errors import ArgumentError, ContentError
from keyjax.keyring.recipients import Private
from keyjax.regular_files import given_path
from keyjax.secrets import Secret

_LARGE = 1 << 26  # Bytes.


def tag_data(
  path: str | os.PathLike[str],
  secret: Secret,
  name: str,
  *,
  tags: RecordTags | None = None,
) -> RecordTags:
  """Return the tags of a data set's files, which are not changed.

  Each record of an array_record file has a tag, and each other file as a whole.

  Args:
    path: Folder, for instance of a version of a data set of TFDS; or a file.
    secret: Secret that tags are made and checked with.
    name: Name of the set.
    tags: Tags of files that were there before: only those of files that they
      do not name are made, and added to them.

  Raises:
    FileNotFoundError: If there is nothing at `path`.
    ArgumentError: If there is no file, or there are more than a file of tags
      can name, or `tags` are of a set of another name.
    KeyringError: If array_record is not installed.
    ContentError: If a file of records is damaged.

  Example:
    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "text").write_text("To be, or not to be")
    >>> secret = Secret.generate()
    >>> tags = tag_data(folder, secret, "hamlet")
    >>> open_tagged(folder, tags, secret).read("text")
    b'To be, or not to be'
    >>> _ = (folder / "text").write_text("To be, or to be")
    >>> open_tagged(folder, tags, secret).read("text")
    Traceback (most recent call last):
    ...
    keyjax.errors.ContentError: text is not what was tagged
  """
  if tags is not None and tags.name != name:
    raise ArgumentError(
      f"these are tags of {show(tags.name)}, not {show(name)}"
    )
  tagger = Tagger(secret, name)
  found = tags or RecordTags(name)
  files = list_files(given_path(path))
  LIMITS.check({*files, *found.files})
  new = {
    file: _tags_of(tagger, place, file)
    for file, place in files.items()
    if file not in found.files
  }
  return found.with_files(new)


def _tags_of(tagger: Tagger, path: pathlib.Path, file: str) -> list[bytes]:
  if not is_record_file(file):
    return [tagger.tag(read_file(path), 0, file=file)]
  records = RecordFile(path)
  return [tagger.tag(x, i, file=file) for i, x in enumerate(records)]


class TaggedData(Private):
  """A set whose records are checked as they are read; see `open_tagged`."""

  def __init__(self, path: pathlib.Path, tags: RecordTags, tagger: Tagger):
    """Keep what `open_tagged` was given."""
    self.path = path
    self.id = tags.name
    self._tags = tags
    self._tagger = tagger

  def names(self) -> list[str]:
    """Return the names of all files that have tags, in order."""
    return sorted(self._tags.files)

  def read(self, name: str) -> bytes:
    """Return the content of a file that was tagged as a whole.

    Raises:
      ArgumentError: If no such file was tagged, or it has records.
      ContentError: If it is missing, or is not what was tagged.
    """
    if name not in self._tags.files or is_record_file(name):
      known = [x for x in self._tags.files if not is_record_file(x)]
      raise ArgumentError(
        f"no file {show(name)} was tagged as a whole: there are {some(known)}"
      )
    tags = self._tags.of(name)
    content = self._checked(name, tags[0]) if len(tags) == 1 else None
    if content is None:
      raise ContentError(f"{name} is not what was tagged")
    return content

  def _checked(self, name: str, tag: bytes) -> bytes | None:
    """Return the content of a file; None if it is not what was tagged.

    A tag says nothing of the size: a large file is read whole only if it is
    the right one.
    """
    with opened_file(_file(self.path, name)) as (file, size):
      if size > _LARGE:
        if not self._tagger.is_right_file(tag, file, name):
          return None
        file.seek(0)
      content = file.read(size)
    right = self._tagger.is_right(tag, content, 0, file=name)
    return content if right else None

  def records(self, pattern: str = "*") -> Records:
    """Return the records of the tagged files whose names match.

    Args:
      pattern: Pattern of the shell, such as `mnist-train.*`.

    Raises:
      ArgumentError: If no tagged file of records matches.
      ContentError: If one is missing, or has another number of records.
      KeyringError: If array_record is not installed.
    """
    known = {name: is_record_file(name) for name in self._tags.files}
    found = matching(self.path, known, pattern)
    return Records([self.record_file(name) for name in found])

  def record_file(self, name: str) -> "TaggedRecordFile":
    """Return the records of one file; see `records`."""
    records = RecordFile(_file(self.path, name))
    return TaggedRecordFile(name, records, self._tags.of(name), self._tagger)


def _file(path: pathlib.Path, name: str) -> pathlib.Path:
  """Return a file of a set that may be a single file."""
  return path if path.is_file() else path / name


class TaggedRecordFile(Private):
  """The records of one file; it holds a key."""

  def __init__(
    self,
    name: str,
    records: RecordFile,
    tags: Sequence[bytes],
    tagger: Tagger,
  ):
    """Check the number of records; see `TaggedData.records`."""
    if len(records) != len(tags):
      raise ContentError(
        f"{name} has {len(records)} records, and {len(tags)} were tagged"
      )
    self.name = self.id = name
    self._records = records
    self._tags = tags
    self._tagger = tagger

  def __len__(self) -> int:
    return len(self._tags)

  def read(self, indices: Sequence[int]) -> list[bytes]:
    """Return records.

    Raises:
      ContentError: If one is not what was tagged; the message has its index.
    """
    found = self._records.read_named(indices, self.name)
    for i, record in zip(indices, found, strict=True):
      if not self._tagger.is_right(self._tags[i], record, i, file=self.name):
        raise ContentError(refused(i, self.name))
    return found


def open_tagged(
  path: str | os.PathLike[str], tags: RecordTags, secret: Secret
) -> TaggedData:
  """Open a data set whose records are checked as they are read.

  Args:
    path: What `tag_data` tagged.
    tags: Its tags, which were read with the key that signed them if others can
      write to them.
    secret: Secret that they were made with.

  Raises:
    FileNotFoundError: If there is nothing at `path`.
  """
  place = given_path(path)
  if not place.exists():
    raise FileNotFoundError(f"there is no file or folder {place}")
  return TaggedData(place, tags, Tagger(secret, tags.name))
