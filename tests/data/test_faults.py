"""A kill, a full disk, ten thousand tampered records."""

import os
import pathlib
import resource
import shutil

import numpy as np
import pytest

from keyjax import Secret, data, keyring
from keyjax.data.record_files import RecordFile
from keyjax.errors import ContentError, StorageError
from tests.checkpoint.killing import child, walk
from tests.data.conftest import MORE, TRAIN, write_records

CHILD = child(
  prepare="""
from keyjax import Secret, data, keyring

owner = keyring.SymmetricKey(Secret.load(folder / "owner"))
friend = keyring.SymmetricKey(Secret.load(folder / "friend"))
""",
  work="""
if job == "seal":
  data.seal_data(folder / "source", folder / "new", owner)
elif job == "replace":
  data.seal_data(folder / "more", folder / "old", owner, replace=True)
elif job == "append":
  data.append_data(folder / "old", folder / "more", owner)
elif job == "rewrap":
  data.rewrap_data(folder / "old", owner, [friend, owner])
""",
)


def contents(path: pathlib.Path, owner) -> list[bytes]:
  assert data.verify_data(path, owner) == []
  records = data.open_data(path, owner).records("a-train.*")
  return records.__getitems__(range(len(records)))


def check(folder: pathlib.Path, job: str) -> None:
  """Check that a set is the old or the new one, and that a retry works."""
  owner = keyring.SymmetricKey(Secret.load(folder / "owner"))
  new, old = folder / "new", folder / "old"
  wanted = {
    "seal": [TRAIN],
    "replace": [TRAIN, MORE],
    "append": [TRAIN, TRAIN + MORE],
    "rewrap": [TRAIN],
  }
  assert contents(old, owner) in wanted[job]
  if job == "seal":
    if new.exists():
      assert contents(new, owner) == TRAIN
      shutil.rmtree(new)
    data.seal_data(folder / "source", new, owner)
    shutil.rmtree(new)
  # The next change removes what a kill left.
  data.seal_data(folder / "source", old, owner, replace=True)
  assert len(list(old.iterdir())) == 7
  assert not list(folder.glob(".*"))


@pytest.fixture
def folder(source, tmp_path):
  for name in ("owner", "friend"):
    Secret.generate().save(tmp_path / name)
  owner = keyring.SymmetricKey(Secret.load(tmp_path / "owner"))
  data.seal_data(source, tmp_path / "old", owner)
  (tmp_path / "more").mkdir()
  write_records(tmp_path / "more/a-train.array_record-00002-of-00003", MORE)
  return tmp_path


@pytest.mark.faults
@pytest.mark.parametrize("job", ["seal", "replace", "append", "rewrap"])
def test_a_kill_leaves_the_old_or_the_new_set(job, folder, children):
  walk(CHILD, folder, children, job, 8, check)


@pytest.mark.faults
def test_a_full_disk_is_an_error_and_leaves_nothing(folder, children):
  owner = keyring.SymmetricKey(Secret.load(folder / "owner"))
  big = folder / "big.array_record"
  write_records(big, [os.urandom(1000) for _ in range(300)])
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 17, limits[1]))
  try:
    with pytest.raises(StorageError, match="could not write"):
      data.seal_data(big, folder / "new", owner)
    with pytest.raises(StorageError, match="could not write"):
      data.append_data(folder / "old", big, owner)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert not (folder / "new").exists() and not list(folder.glob(".*"))
  assert contents(folder / "old", owner) == TRAIN
  data.seal_data(big, folder / "new", owner)


@pytest.mark.faults
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(5, "I/O error")])
@pytest.mark.parametrize("late", [False, True])
def test_an_interrupt_of_the_last_step_leaves_the_old_or_the_new_set(
  late, error, folder, monkeypatch
):
  """The header is replaced, or not yet, and then the change is interrupted."""
  owner = keyring.SymmetricKey(Secret.load(folder / "owner"))
  friend = keyring.SymmetricKey(Secret.generate())
  old, more = folder / "old", folder / "more"

  def interrupt(*args):
    raise error

  def interrupted(work) -> list[bytes]:
    with monkeypatch.context() as patch:
      place = "sync_folder" if late else "sync_file"
      patch.setattr(f"keyjax.private_files.{place}", interrupt)
      with pytest.raises((KeyboardInterrupt, OSError)):
        work()
    return contents(old, owner)

  both = TRAIN + MORE if late else TRAIN
  assert interrupted(lambda: data.append_data(old, more, owner)) == both
  assert interrupted(lambda: data.rewrap_data(old, owner, [owner, friend]))
  replaced = interrupted(lambda: data.seal_data(more, old, owner, replace=True))
  assert replaced == (MORE if late else TRAIN)
  assert len(list(old.iterdir())) == (4 if late else 7)
  assert not list(folder.glob(".*"))


@pytest.mark.slow
def test_ten_thousand_tampered_records_are_all_found(owner, tmp_path):
  rng = np.random.default_rng(0)
  plain = [rng.bytes(int(n)) for n in rng.integers(0, 300, 20_000)]
  write_records(tmp_path / "a.array_record", plain)
  data.seal_data(tmp_path / "a.array_record", tmp_path / "set", owner)
  [place] = (tmp_path / "set").glob("*.records")
  sealed = list(RecordFile(place))
  touched = rng.permutation(20_000)[:10_000]
  for i in touched:
    sealed[i] = _tampered(sealed, i, rng)
  place.unlink()
  write_records(place, sealed)
  records = data.open_data(tmp_path / "set", owner).records()
  found = set()
  for i in range(20_000):
    try:
      assert records[i] == plain[i]
    except ContentError as error:
      assert f"record {i} of" in str(error)
      found.add(i)
  assert found == set(touched.tolist())
  problems = data.verify_data(tmp_path / "set", owner)
  assert len(problems) == 10_000


def _tampered(sealed: list[bytes], i: int, rng: np.random.Generator) -> bytes:
  """Return a message that differs from the sealed one by one of five ways."""
  message = bytearray(sealed[i])
  way = rng.integers(5)
  if way == 0:  # One bit.
    message[rng.integers(len(message))] ^= 1 << rng.integers(8)
  elif way == 1:  # Cut.
    del message[rng.integers(len(message)) :]
  elif way == 2:  # Longer.
    message += rng.bytes(int(rng.integers(1, 40)))
  elif way == 3:  # Another record of the set.
    message = bytearray(sealed[(i + 1) % len(sealed)])
  else:
    message = bytearray(rng.bytes(len(message)))
  return bytes(message)
