"""Whether what names all files of a set can be read again."""

from collections.abc import Collection
from typing import Any, NamedTuple

from keyjax.errors import ArgumentError
from keyjax.keyring.encoding import dump

_MARKS = ("[", "{", ",")
_LONGEST = 12 * 512  # Bytes of a name of 512 characters, each \ud83d\ude00.


class Limits(NamedTuple):
  """What a reader accepts.

  Attributes:
    what: What names the files.
    entry: Longest entry of a file whose name is empty.
    size: Bytes of all entries.
    items: Brackets and commas in them.
  """

  what: str
  entry: Any
  size: int
  items: int

  def check(self, names: Collection[str]) -> None:
    """Raise an ArgumentError if there are too many files.

    Args:
      names: Their names.

    Example:
      >>> Limits("a list", ["", 10**15], size=100, items=20).check(["a", "b"])
      >>> Limits("a list", ["", 10**15], size=100, items=20).check([*"abcdef"])
      Traceback (most recent call last):
      ...
      keyjax.errors.ArgumentError: 6 files are more than a list can name: \
pack them into files of records (array_record)
    """
    entry = dump(self.entry).decode()
    size, items = len(entry) + 1, _count(entry) + 1  # And a comma.
    longest = len(names) * (size + _LONGEST)
    if longest <= min(self.size, self.items):  # Each byte may be a comma.
      return
    size = sum(size + len(dump(name)) for name in names)
    items = sum(items + _count(name) for name in names)
    if size > self.size or items > self.items:
      raise ArgumentError(
        f"{len(names)} files are more than {self.what} can name: pack them "
        "into files of records (array_record)"
      )


def _count(text: str) -> int:
  return sum(map(text.count, _MARKS))
