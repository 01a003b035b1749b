"""Two processes that change one checkpoint, and files that are no files."""

import contextlib
import os
import pathlib
import socket
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from keyjax import Secret, checkpoint, keyring, private_files
from keyjax.checkpoint import rewrapping
from keyjax.checkpoint.storage import claims, locations, orbax_writer
from tests import buckets

OWNER, FRIEND, THIRD = (
  keyring.SymmetricKey(Secret(letter * 32)) for letter in (b"a", b"b", b"c")
)
TREE = {"w": np.arange(6, dtype=np.float32)}


@contextlib.contextmanager
def meanwhile(patch: pytest.MonkeyPatch, act: Callable[[], None]) -> Any:
  """Let another process act after an envelope was read, before the write."""
  real = rewrapping.rewrap_envelope

  def interrupted(*args: Any, **kwargs: Any) -> bytes:
    patch.setattr(rewrapping, "rewrap_envelope", real)
    act()
    return real(*args, **kwargs)

  patch.setattr(rewrapping, "rewrap_envelope", interrupted)
  yield
  assert rewrapping.rewrap_envelope is real


def revoke_friend(path: str) -> None:
  checkpoint.rewrap(path, OWNER, OWNER, revoked=[FRIEND.id])


def of_envelope(path: str) -> tuple[list[str], list[str]]:
  found = checkpoint.inspect(path)["envelope"]
  return found["recipients"], found["revoked"]


def lose(path: str, patch: pytest.MonkeyPatch) -> None:
  """Add a recipient while another process revokes one."""
  checkpoint.save(path, TREE, [OWNER, FRIEND])
  with (
    meanwhile(patch, lambda: revoke_friend(path)),
    pytest.raises(
      checkpoint.CheckpointStorageError, match="another process is changing"
    ),
  ):
    checkpoint.rewrap(path, OWNER, [OWNER, FRIEND, THIRD])
  assert of_envelope(path) == ([OWNER.id], [FRIEND.id])
  with pytest.raises(keyring.KeyringError, match="was revoked"):
    checkpoint.rewrap(path, OWNER, [OWNER, FRIEND, THIRD])
  checkpoint.rewrap(path, OWNER, [OWNER, THIRD])
  assert checkpoint.restore(path, THIRD)["w"].tolist() == TREE["w"].tolist()


def test_the_loser_of_two_rewraps_changes_nothing(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  lose(str(tmp_path / "c"), monkeypatch)


def test_the_loser_of_two_rewraps_in_a_bucket(
  bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
  lose(f"{bucket}/c", monkeypatch)


def test_a_header_that_is_being_replaced(tmp_path: pathlib.Path) -> None:
  path = tmp_path / "c"
  checkpoint.save(path, TREE, [OWNER, FRIEND])
  held = private_files.lock_folder(path / "header")
  assert held is not None
  try:
    with pytest.raises(checkpoint.CheckpointStorageError, match="try again"):
      revoke_friend(str(path))
  finally:
    os.close(held)
  revoke_friend(str(path))
  assert of_envelope(str(path)) == ([OWNER.id], [FRIEND.id])


def test_recipients_of_an_older_envelope_are_refused(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "c"
  checkpoint.save(path, TREE, [OWNER, FRIEND])
  envelope = checkpoint.read_envelope(path)
  both = keyring.existing_recipients(envelope, [OWNER])
  checkpoint.rewrap(path, OWNER, OWNER)
  with pytest.raises(keyring.KeyringError, match="changed since they were rea"):
    checkpoint.rewrap(path, OWNER, [*both, THIRD])
  assert of_envelope(str(path)) == ([OWNER.id], [])


# --------------------------------------------------------------- special files


@pytest.mark.parametrize("where", ["sealed/manifest.ocdbt", "header/metadata"])
def test_a_pipe_in_a_checkpoint_is_refused(
  where: str, tmp_path: pathlib.Path
) -> None:
  path = tmp_path / "c"
  checkpoint.save(path, TREE, OWNER)
  (path / where).unlink()
  os.mkfifo(path / where)
  with pytest.raises(checkpoint.CheckpointError, match="neither a file nor"):
    checkpoint.restore(path, OWNER)


def test_a_socket_in_a_plain_checkpoint_is_refused(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  path = tmp_path / "c"
  checkpoint.save_plain(path, TREE)
  monkeypatch.chdir(path)  # The name of a socket has at most 108 bytes.
  with socket.socket(socket.AF_UNIX) as server:
    server.bind("d.sock")
    with pytest.raises(checkpoint.CheckpointError, match="neither a file nor"):
      checkpoint.restore_plain(path)


def test_holes_are_not_data(tmp_path: pathlib.Path) -> None:
  (tmp_path / "a").write_bytes(bytes(5000))
  with (tmp_path / "sparse").open("wb") as file:
    file.truncate(1 << 40)
    file.seek(1 << 30)
    file.write(b"x" * 4096)
  (tmp_path / "hole").touch()
  os.truncate(tmp_path / "hole", 1 << 30)
  assert locations.size(tmp_path) > 1 << 40
  assert 9096 <= locations.data_size(tmp_path) < 1 << 20


# ------------------------------------------------------------ saves in a bucket


def objects_of(folder: str) -> list[str]:
  return sorted(buckets.everything(folder))


def before_writing(patch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
  """Let another process act once a save holds its claim."""
  real = orbax_writer.save_args

  def interrupted(*args: Any) -> Any:
    patch.setattr(orbax_writer, "save_args", real)
    act()
    return real(*args)

  patch.setattr(orbax_writer, "save_args", interrupted)


def test_the_second_writer_of_a_name_in_a_bucket_is_refused(
  bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
  path = f"{bucket}/c"
  other = {"w": np.ones(6, np.float32)}
  refused = []

  def second() -> None:
    for save in (checkpoint.save, lambda p, t, _: checkpoint.save_plain(p, t)):
      with pytest.raises(FileExistsError, match="another process is writing"):
        save(path, other, FRIEND)
      refused.append(save)

  before_writing(monkeypatch, second)
  checkpoint.save(path, TREE, OWNER)
  assert len(refused) == 2
  assert checkpoint.restore(path, OWNER)["w"].tolist() == TREE["w"].tolist()
  assert not [name for name in objects_of(bucket) if "writing" in name]


def test_a_claim_that_is_not_renewed_is_taken_over(
  bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
  path = f"{bucket}/c"
  buckets.write(bucket, {".c.writing": b"of a process that was killed"})
  with pytest.raises(FileExistsError, match="try again in 2 minutes"):
    checkpoint.save(path, TREE, OWNER)
  monkeypatch.setattr(claims, "STALE_SECONDS", 0.0)
  monkeypatch.setattr(claims, "LATE_SECONDS", -1.0)
  with pytest.raises(
    checkpoint.CheckpointStorageError, match="renew its claim"
  ):
    checkpoint.save(path, TREE, OWNER)
  monkeypatch.setattr(claims, "LATE_SECONDS", 60.0)
  assert objects_of(f"{bucket}/c") != [], "it may be another's: it is kept"
  checkpoint.save(path, TREE, OWNER)
  assert checkpoint.verify(path, OWNER) == []


def test_a_writer_that_lost_its_claim_completes_nothing(
  bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
  path = f"{bucket}/c"
  monkeypatch.setattr(claims, "RENEW_SECONDS", 0.01)

  def overtake() -> None:
    end = time.monotonic() + 60
    while not claims.is_lost(path) and time.monotonic() < end:
      buckets.write(bucket, {".c.writing": b"of another process"})

  before_writing(monkeypatch, overtake)
  with pytest.raises(
    checkpoint.CheckpointStorageError, match="renew its claim"
  ):
    checkpoint.save(path, TREE, OWNER)
  assert not checkpoint.is_whole(path)
  assert buckets.everything(bucket)[".c.writing"] == b"of another process"


def test_a_finished_checkpoint_is_not_overwritten(
  bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
  """A writer without a claim, such as another release, was first."""
  path = f"{bucket}/c"
  mark = {"commit_success.txt": b"complete"}
  before_writing(monkeypatch, lambda: buckets.write(path, mark))
  with pytest.raises((FileExistsError, checkpoint.CheckpointError)):
    checkpoint.save(path, TREE, OWNER)
  assert checkpoint.is_whole(path)


def test_a_pipe_behind_a_link_is_refused(tmp_path: pathlib.Path) -> None:
  path = tmp_path / "c"
  checkpoint.save(path, TREE, OWNER)
  (path / "sealed").rename(tmp_path / "else")
  (path / "sealed").symlink_to(tmp_path / "else")
  (path / "again").symlink_to(path)  # A loop.
  assert checkpoint.restore(path, OWNER)["w"].tolist() == TREE["w"].tolist()
  (tmp_path / "else/manifest.ocdbt").unlink()
  os.mkfifo(tmp_path / "else/manifest.ocdbt")
  with pytest.raises(checkpoint.CheckpointError, match="neither a file nor"):
    checkpoint.restore(path, OWNER)
