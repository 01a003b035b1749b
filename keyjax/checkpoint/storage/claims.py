"""Claims on names in a bucket, which has no locks: one writer at a time.

A claim is an object next to a checkpoint, `.NAME.writing`. It is created only
if there is none (`ifGenerationMatch: 0`), its writer renews it, and a claim
that was not renewed for two minutes is that of a writer that was killed. Both
times are the server's. Every change requires the generation that the writer
knows, so that two who take over an old claim do not both succeed.
"""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import tensorstore as ts

from keyjax.checkpoint.errors import CheckpointStorageError
from keyjax.checkpoint.storage import locations

RENEW_SECONDS = 20.0
LATE_SECONDS = 60.0  # From then on a writer takes its own claim for lost.
STALE_SECONDS = 120.0
_HELD: dict[str, "_Claim"] = {}


class _Claim:
  """A claim of this process."""

  def __init__(self, path: Any, objects: ts.KvStore, name: str, stamp: bytes):
    self.path = path
    self._objects = objects
    self._name = name
    self._generation = stamp
    self._renewed = time.monotonic()
    self._is_lost = False

  def renew(self) -> None:
    with contextlib.suppress(Exception):  # The network may be back soon.
      sent = time.monotonic()
      found = self._objects.write(
        self._name, os.urandom(16), if_equal=self._generation
      ).result()
      self._is_lost |= not found.generation
      self._generation = found.generation or self._generation
      self._renewed = sent

  def check(self) -> None:
    late = time.monotonic() - self._renewed > LATE_SECONDS
    if self._is_lost or late:
      raise CheckpointStorageError(
        f"could not write {self.path}: this process could not renew its claim "
        "in time, and another one may be writing it"
      )

  def release(self) -> None:
    if self._is_lost:
      return
    with contextlib.suppress(Exception):  # Then it becomes stale.
      self._objects.write(self._name, None, if_equal=self._generation).result()


@contextlib.contextmanager
def holding(path: Any) -> Iterator[None]:
  """Hold the claim on a name in a bucket.

  Raises:
    FileExistsError: If another process holds it.
  """
  claim = _take(path)
  ended = threading.Event()

  def keep() -> None:
    while not ended.wait(RENEW_SECONDS):
      claim.renew()

  renewing = threading.Thread(target=keep, daemon=True)
  renewing.start()
  _HELD[os.fspath(path)] = claim
  try:
    yield
  finally:
    del _HELD[os.fspath(path)]
    ended.set()
    renewing.join()
    claim.release()


def check(path: Any) -> None:
  """Check that this process still holds its claim, if it has one.

  Raises:
    CheckpointStorageError: If it was not renewed in time.
  """
  if claim := _HELD.get(os.fspath(path)):
    claim.check()


def is_lost(path: Any) -> bool:
  """Return whether another process may be writing what this one claimed."""
  try:
    check(path)
  except CheckpointStorageError:
    return True
  return False


def _take(path: Any) -> _Claim:
  objects = ts.KvStore.open(locations.tensorstore_spec(path.parent)).result()
  name = f".{path.name}.writing"
  found = objects.read(name).result()
  if found.state != "missing" and _age(path.parent, name) < STALE_SECONDS:
    raise _busy(path)
  stamp = objects.write(
    name, os.urandom(16), if_equal=found.stamp.generation
  ).result()
  if not stamp.generation:  # Another process was first.
    raise _busy(path)
  return _Claim(path, objects, name, stamp.generation)


def _busy(path: Any) -> FileExistsError:
  return FileExistsError(
    f"another process is writing {path}; if it was killed, try again in "
    f"{STALE_SECONDS / 60:.0f} minutes"
  )


def _age(folder: Any, name: str) -> float:
  """Return the seconds since an object was written, by the server's clock."""
  trial = folder / f".try-{os.urandom(8).hex()}"
  trial.write_text("")
  try:
    now = locations.written_at(trial)
    return (now - locations.written_at(folder / name)).total_seconds()
  except FileNotFoundError:  # It was released meanwhile.
    return 0.0
  finally:
    trial.unlink()
