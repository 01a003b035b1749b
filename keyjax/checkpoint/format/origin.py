"""The files that a checkpoint was sealed from, to write the same bytes again.

It is part of the manifest: sealed, authenticated, and signed with it.
"""

from typing import Any, NamedTuple

from keyjax.checkpoint.errors import CheckpointContentError

_MAX_NAME = 255


class OriginalFile(NamedTuple):
  """A safetensors file.

  Attributes:
    name: Name of the file, without a folder.
    leaves: Numbers of the leaves that it held.
    metadata: Pairs of its `__metadata__` in their order; None without.
    header: The whole header, if the safetensors library would write another
      one for the same tensors.
  """

  name: str
  leaves: tuple[int, ...]
  metadata: tuple[tuple[str, str], ...] | None
  header: str | None


class Origin(NamedTuple):
  """What a checkpoint was sealed from.

  Attributes:
    files: The files.
    index_text: Text of `model.safetensors.index.json`; None for a single file.
    index_name: Name of that file.
  """

  files: tuple[OriginalFile, ...]
  index_text: str | None = None
  index_name: str | None = None


def to_json(origin: Origin) -> dict[str, Any]:
  """Return the JSON of an origin."""
  return {
    "files": [file._asdict() for file in origin.files],
    "format": "safetensors",
    "index": origin.index_text,
    "index_name": origin.index_name,
  }


def from_json(value: Any, leaves: int) -> Origin:
  """Parse an origin.

  Args:
    value: Parsed JSON, not trusted.
    leaves: Number of leaves of the checkpoint.

  Raises:
    CheckpointContentError: If it is malformed.
  """
  _require(type(value) is dict)
  _require(set(value) == {"files", "format", "index", "index_name"})
  _require(value["format"] == "safetensors")
  sharded = value["index"] is not None
  _require(sharded == (value["index_name"] is not None))
  if sharded:
    _require(is_text(value["index"]))
    _require(is_file_name(value["index_name"]))
  _require(type(value["files"]) is list and bool(value["files"]))
  _require(sharded or len(value["files"]) == 1)
  files = tuple(map(_file, value["files"]))
  numbers = sorted(n for file in files for n in file.leaves)
  _require(numbers == list(range(leaves)))
  names = [file.name for file in files] + [value["index_name"]] * sharded
  _require(len(set(names)) == len(names))
  return Origin(files, value["index"], value["index_name"])


def check_file_names(origin: Origin) -> None:
  r"""Raise a ValueError unless the files have names that can be stored.

  Example:
    >>> file = OriginalFile("a\nb.safetensors", (0,), None, None)
    >>> check_file_names(Origin((file,)))
    Traceback (most recent call last):
      ...
    ValueError: the file name 'a\nb.safetensors' cannot be sealed: rename ...
  """
  for name in (*(x.name for x in origin.files), origin.index_name):
    if name is not None and not is_file_name(name):
      raise ValueError(
        f"the file name {name!r:.80} cannot be sealed: rename the file to "
        "UTF-8 text without control characters and backslashes"
      )


def is_file_name(name: Any) -> bool:
  """Return whether this is the name of a file, which leads to no folder."""
  return (
    is_text(name)
    and 0 < len(name.encode(errors="replace")) <= _MAX_NAME
    and name not in (".", "..")
    and not any(c in "/\\" or ord(c) < 32 for c in name)
  )


def is_text(value: Any) -> bool:
  r"""Return whether this is text that has UTF-8; a lone surrogate has none.

  Example:
    >>> is_text("größe"), is_text("\ud800"), is_text(3)
    (True, False, False)
  """
  return type(value) is str and not any(
    "\ud800" <= c <= "\udfff" for c in value
  )


def _file(value: Any) -> OriginalFile:
  _require(type(value) is dict and set(value) == set(OriginalFile._fields))
  _require(is_file_name(value["name"]))
  _require(type(value["leaves"]) is list)
  _require(all(type(n) is int for n in value["leaves"]))
  header = value["header"]
  _require(header is None or is_text(header))
  return OriginalFile(
    name=value["name"],
    leaves=tuple(value["leaves"]),
    metadata=_metadata(value["metadata"]),
    header=header,
  )


def _metadata(value: Any) -> tuple[tuple[str, str], ...] | None:
  if value is None:
    return None
  _require(type(value) is list)
  for pair in value:
    _require(type(pair) is list and len(pair) == 2)
    _require(all(map(is_text, pair)))
  return tuple((name, text) for name, text in value)


def _require(condition: bool) -> None:
  if not condition:
    raise CheckpointContentError(
      "the manifest is not well-formed: the files that it was sealed from"
    )
