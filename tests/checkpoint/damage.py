"""Find sealed messages on disk, and replace their bytes."""

import pathlib
from typing import Any

import numpy as np

from keyjax.checkpoint.format import layout
from keyjax.checkpoint.opened import open_checkpoint


def message(path: pathlib.Path, owner: Any, name: str) -> bytes:
  """Return the only sealed message of a leaf."""
  found = open_checkpoint(path, owner).manifest
  (leaf,) = [x for x in found.leaves if x.path == name]
  (part,) = leaf.parts
  return _read(path, owner, part.offset, part.size)


def padding(path: pathlib.Path, owner: Any) -> bytes:
  """Return the last padding message."""
  found = open_checkpoint(path, owner).manifest
  *_, last = layout.padding_messages(found.used[0], found.streams.size)
  return _read(path, owner, *last)


def _read(path: pathlib.Path, owner: Any, offset: int, size: int) -> bytes:
  opened = open_checkpoint(path, owner)
  out = np.empty(size, np.uint8)
  opened.files.start_read(opened.manifest.streams, 0, offset, out)()
  return out.tobytes()


def replace(path: pathlib.Path, old: bytes, new: bytes) -> None:
  assert len(old) == len(new)
  files = [p for p in path.rglob("*") if p.is_file()]
  (file,) = [p for p in files if old in p.read_bytes()]
  file.write_bytes(file.read_bytes().replace(old, new))


def flip(path: pathlib.Path, old: bytes, place: int) -> None:
  """Flip a bit of a message."""
  new = bytearray(old)
  new[place] ^= 1
  replace(path, old, bytes(new))
