"""Sealed data sets and tags: each file, and manifests of a recipient."""

import functools
import json
import pathlib
import random
import shutil
import tempfile
from collections.abc import Sequence
from typing import Any

from keyjax import data as data_sets
from keyjax import keyring, seal
from keyjax.data import format as layout
from keyjax.data.opened import open_set
from keyjax.data.record_files import RecordWriter
from keyjax.errors import ArgumentError, ContentError, KeyringError
from keyjax.keyring.data_keys import leaf_key
from tests.fuzz.mutate import (
  change_bytes,
  change_json,
  either,
  is_object,
  where,
)
from tests.fuzz.sources import ROOT, folder, written
from tests.fuzz.target import Target

_RECORDS = [b"image 0", b"", b"image 2" * 9]
_STORED = "0123456789abcdef.manifest"


@functools.cache
def _owner() -> keyring.SymmetricKey:
  return keyring.SymmetricKey(ROOT)


@functools.cache
def _signer() -> keyring.SigningKey:
  return keyring.SigningKey("ed25519", bytes(32))


@functools.cache
def _plain() -> pathlib.Path:
  path = pathlib.Path(tempfile.mkdtemp(dir=folder())) / "plain"
  path.mkdir()
  writer = RecordWriter(path / "a.array_record")
  for record in _RECORDS:
    writer.write(record)
  writer.close()
  (path / "features.json").write_text("{}")
  return path


@functools.cache
def _sealed() -> pathlib.Path:
  path = _plain().parent / "sealed"
  data_sets.seal_data(_plain(), path, _owner(), signer=_signer().private)
  return path


def _content(path: pathlib.Path) -> Any:
  opened = data_sets.open_data(path, _owner(), verify_key=_signer().public)
  records = opened.records()
  read = [opened.read(x) for x, e in opened.files.items() if e.records is None]
  return records.__getitems__(range(len(records))), read


def read_set(data: bytes) -> Any:
  """Return what a set holds: the name of a file, a line break, its bytes."""
  name, _, rest = data.partition(b"\n")
  known = {x.name: x for x in _sealed().iterdir()}
  if (found := known.get(name.decode(errors="replace"))) is None:
    raise ContentError("no such file")
  with tempfile.TemporaryDirectory(dir=folder()) as temporary:
    path = pathlib.Path(temporary) / "set"
    shutil.copytree(_sealed(), path)
    (path / found.name).write_bytes(rest)
    data_sets.inspect_data(path)
    return _content(path)


def _files() -> list[bytes]:
  files = sorted(_sealed().iterdir())
  return [x.name.encode() + b"\n" + x.read_bytes() for x in files]


def _change_file(
  rng: random.Random, data: bytes, others: Sequence[bytes]
) -> bytes:
  name, _, rest = data.partition(b"\n")
  own = [x.partition(b"\n")[2] for x in others if x.startswith(name)]
  return name + b"\n" + change_bytes(rng, rest, own)


def _change_header(
  rng: random.Random, data: bytes, others: Sequence[bytes]
) -> bytes:
  name, _, rest = data.partition(b"\n")
  return name + b"\n" + change_json(rng, rest, ())


def _has_header(data: bytes) -> bool:
  return data.startswith(layout.HEADER.encode())


def read_manifest(data: bytes) -> Any:
  """Open a manifest that a recipient has sealed."""
  found = open_set(_sealed(), [_owner()])
  key = leaf_key(found.data_key, "data-manifest", _STORED)
  set_id = found.manifest.id
  sealed = seal.seal(key, data, layout.context("manifest", set_id, _STORED))
  manifest = layout.open_manifest(sealed, found.data_key, set_id, _STORED)
  # As `open_data` does: digests are checked where all files have them.
  opened = data_sets.SealedData(
    _sealed(),
    manifest,
    found.data_key,
    check_digests=all(x.digest for x in manifest.files),
  )
  for name, entry in opened.files.items():
    if entry.records is None:
      opened.read(name)
  return opened.records()[0]


def _manifests() -> list[bytes]:
  manifest = open_set(_sealed(), [_owner()]).manifest
  key = leaf_key(bytes(32), "data-manifest", _STORED)
  sealed = layout.seal_manifest(manifest, bytes(32), _STORED)
  context = layout.context("manifest", manifest.id, _STORED)
  return [seal.unseal(key, sealed, context)]


@functools.cache
def _tags() -> list[bytes]:
  tags = data_sets.tag_data(_plain(), ROOT, "set")
  found = []
  for i, signer in enumerate((None, _signer())):
    path = folder() / f"{i}.tags"
    tags.write(path, signer)
    found.append(path.read_bytes())
  return found


def read_tags(data: bytes) -> Any:
  """Return tags, whoever wrote them."""
  tags = data_sets.RecordTags.read(written("tags", data))
  return tags.name, tags.files, tags.root()


def read_signed_tags(data: bytes) -> Any:
  """Return tags that their signer has vouched for."""
  public = _signer().public
  tags = data_sets.RecordTags.read(written("tags", data), public)
  return tags.name, tags.files, tags.root()


def _change_tags(
  rng: random.Random, data: bytes, others: Sequence[bytes]
) -> bytes:
  head, _, tags = data.partition(b"\n")
  json.loads(head)
  return change_json(rng, head, ()) + b"\n" + tags


TARGETS = [
  Target(
    name="data_set",
    read=read_set,
    seeds=_files,
    refusals=(ContentError, KeyringError),
    change=either(_change_file, where(_has_header, _change_header)),
    authentic=True,
    secrets=lambda: [bytes(range(32)).hex(), repr(bytes(range(32)))],
    slow=True,
  ),
  Target(
    name="data_manifest",
    read=read_manifest,
    seeds=_manifests,
    refusals=(ContentError, KeyringError, ArgumentError),
    change=either(change_bytes, where(is_object, change_json)),
  ),
  Target(
    name="tags",
    read=read_tags,
    seeds=_tags,
    refusals=(ContentError,),
    change=either(change_bytes, _change_tags),
  ),
  Target(
    name="tags_signed",
    read=read_signed_tags,
    seeds=_tags,
    refusals=(ContentError,),
    change=either(change_bytes, _change_tags),
    authentic=True,
  ),
]
