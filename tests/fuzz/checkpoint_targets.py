"""Checkpoints: each of their files, and manifests as a recipient writes them.

An input of the targets of folders is the path of one file, a line break, and
what the file holds instead.
"""

import functools
import json
import pathlib
import random
import tempfile
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

from keyjax import checkpoint, keyring, seal
from keyjax.checkpoint.format import manifest_json, origin, signature
from keyjax.checkpoint.format.manifest import message_context
from keyjax.checkpoint.opened import open_checkpoint
from keyjax.checkpoint.storage.sealed_files import SealedFiles
from keyjax.errors import ArgumentError, CheckpointError, KeyringError
from keyjax.keyring.data_keys import leaf_key
from keyjax.keyring.encoding import dump
from keyjax.secrets import Secret
from tests.fuzz.mutate import (
  change_bytes,
  change_json,
  either,
  is_object,
  where,
)
from tests.fuzz.sources import archive, golden, golden_folder
from tests.fuzz.target import Target
from tests.fuzz.weight_targets import content

SIGNED = "checkpoint_signed"
PLAIN = "checkpoint_plain"


@functools.cache
def _folder(name: str) -> pathlib.Path:
  target = pathlib.Path(tempfile.mkdtemp()) / name
  return golden_folder(name, target)


@functools.cache
def owner() -> Any:
  """Return the identity that opens the golden checkpoints."""
  secret = Secret(bytes.fromhex(golden("root.hex").decode()))
  return keyring.as_identity(secret)


@functools.cache
def verify_key() -> Any:
  """Return the public key of their signer."""
  text = json.loads(golden("keyring/public.json"))["ed25519"]
  return keyring.parse_verify_key(text)


def _files(name: str) -> Callable[[], list[bytes]]:
  """Return the seeds of a folder: each of its files as it is."""

  def seeds() -> list[bytes]:
    found = {
      path.removeprefix(f"{name}/"): data
      for path, data in archive().items()
      if path.startswith(f"{name}/")
    }
    return [f"{path}\n".encode() + data for path, data in found.items()]

  return seeds


def _replaced(
  name: str, data: bytes, read: Callable[[pathlib.Path], Any]
) -> Any:
  """Read a checkpoint one of whose files was replaced."""
  folder = _folder(name)
  path, _, new = data.partition(b"\n")
  file = folder / path.decode()
  old = file.read_bytes()
  file.write_bytes(new)
  try:
    return read(folder)
  finally:
    file.write_bytes(old)


def _change_file(
  rng: random.Random, data: bytes, others: Sequence[bytes]
) -> bytes:
  path, _, old = data.partition(b"\n")
  files = [x.partition(b"\n")[2] for x in others]
  change = change_bytes
  if old.startswith(b"{") and rng.random() < 0.5:
    change = where(is_object, change_json)
  return path + b"\n" + change(rng, old, [x for x in files if is_object(x)])


def read_signed(data: bytes) -> Any:
  """Return the tree of a signed checkpoint."""

  def read(folder: pathlib.Path) -> Any:
    checkpoint.inspect(folder)
    found = checkpoint.restore(
      folder, owner(), step=7, verify_key=verify_key(), impl="host"
    )
    checkpoint.verify(folder, owner())
    return content(found)

  return _replaced(SIGNED, data, read)


def read_plain(data: bytes) -> Any:
  """Return the tree of a checkpoint in the clear."""

  def read(folder: pathlib.Path) -> Any:
    found = checkpoint.restore_plain(folder)
    checkpoint.read_weights(folder)
    return content(found)

  return _replaced(PLAIN, data, read)


# ------------------------------------------------------------------ manifests


@functools.cache
def _opened() -> Any:
  return open_checkpoint(_folder(SIGNED), owner())


@functools.cache
def _manifests() -> list[bytes]:
  found = _opened().manifest
  leaves = len(found.leaves)
  file = origin.OriginalFile(
    name="w.safetensors",
    leaves=tuple(range(leaves)),
    metadata=(("format", "pt"),),
    header=None,
  )
  made = [
    found._replace(digests=None),
    found,
    found._replace(name="model-a", run="run-1"),
    found._replace(origin=origin.Origin((file,))),
    found._replace(
      origin=origin.Origin((file,), '{"weight_map":{}}', "w.index.json")
    ),
  ]
  return [manifest_json.to_bytes(x).rstrip(b" ") for x in made]


def _read_with(name: str, sealed: bytes, read: Callable[[], Any]) -> Any:
  """Read a checkpoint whose manifest or signature a recipient replaced."""
  original = SealedFiles.read_small

  def read_small(self: SealedFiles, asked: str, max_size: int) -> bytes:
    return sealed if asked == name else original(self, asked, max_size)

  with mock.patch.object(SealedFiles, "read_small", read_small):
    return read()


def read_manifest(data: bytes) -> Any:
  """Restore, inspect and export under another manifest."""
  manifest = manifest_json.from_bytes(data)
  again = manifest_json.to_bytes(manifest).rstrip(b" ")
  assert manifest_json.from_bytes(again) == manifest
  opened = _opened()
  sealed = seal.seal(
    leaf_key(opened.data_key, "manifest", ""),
    data,
    message_context("manifest", opened.manifest.id),
  )
  folder = _folder(SIGNED)
  exported = pathlib.Path(tempfile.mkdtemp())

  def read() -> Any:
    checkpoint.inspect(folder, owner())
    checkpoint.verify(folder, owner())
    try:
      checkpoint.export_weights(
        folder, exported / "out", owner(), kind="safetensors"
      )
    except UnicodeError:
      raise
    except ValueError:  # The format cannot hold such a tree.
      pass
    checkpoint.restore(folder, owner(), impl="host")
    return "restored"

  return _read_with("manifest", sealed, read)


def _signatures() -> list[bytes]:
  opened = _opened()
  sealed = opened.files.read_small("signature", signature.SEALED_SIZE)
  record = signature.read_signature(opened.data_key, opened.manifest.id, sealed)
  return [dump(record)]


def read_signature(data: bytes) -> Any:
  """Verify a record that a recipient has written."""
  opened = _opened()
  sealed = seal.seal(
    leaf_key(opened.data_key, "signature", ""),
    data,
    message_context("signature", opened.manifest.id),
  )

  def read() -> Any:
    checkpoint.verify(_folder(SIGNED), owner(), verify_key=verify_key())
    return "verified"

  return _read_with("signature", sealed, read)


TARGETS = [
  Target(
    name="checkpoint",
    read=read_signed,
    seeds=_files(SIGNED),
    refusals=(CheckpointError, KeyringError, FileNotFoundError),
    change=_change_file,
    authentic=True,
    slow=True,
  ),
  Target(
    name="checkpoint_plain",
    read=read_plain,
    seeds=_files(PLAIN),
    refusals=(CheckpointError, ArgumentError, FileNotFoundError),
    change=_change_file,
    slow=True,
  ),
  Target(
    name="manifest",
    read=read_manifest,
    seeds=_manifests,
    refusals=(CheckpointError, ArgumentError),
    change=either(where(is_object, change_json), change_bytes),
    slow=True,
  ),
  Target(
    name="signature",
    read=read_signature,
    seeds=_signatures,
    refusals=(CheckpointError,),
    change=either(where(is_object, change_json), change_bytes),
    authentic=True,
    slow=True,
  ),
]
