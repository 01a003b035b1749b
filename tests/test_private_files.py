"""Tests of `keyjax.private_files`: atomic writes, permissions and locks."""

import os
import pathlib
import stat
import subprocess
import sys
import threading

import pytest

from keyjax import private_files
from keyjax.errors import ArgumentError, KeyringError
from tests.conftest import ROOT


def mode(path: pathlib.Path) -> int:
  return stat.S_IMODE(path.stat().st_mode)


def test_create_refuses_an_existing_file(tmp_path: pathlib.Path) -> None:
  path = tmp_path / "new" / "file"
  private_files.create(path, b"first")
  assert mode(path) == 0o600 and mode(path.parent) == 0o700
  with pytest.raises(FileExistsError, match="a key is never overwritten"):
    private_files.create(path, b"second", "key")
  assert private_files.read(path) == b"first"
  assert os.listdir(path.parent) == ["file"]


def test_create_never_replaces_a_file_that_appears_meanwhile(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  path, fsync = tmp_path / "file", os.fsync

  def appear(fd: int) -> None:
    fsync(fd)
    path.write_bytes(b"theirs")

  monkeypatch.setattr(os, "fsync", appear)
  with pytest.raises(FileExistsError):
    private_files.create(path, b"ours")
  assert path.read_bytes() == b"theirs" and os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
def test_a_failed_replacement_leaves_the_old_file(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
  path = tmp_path / "file"
  private_files.replace(path, b"old")

  def fail(*_: object) -> None:
    raise OSError(28, "No space left on device")

  with monkeypatch.context() as patch:
    patch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space left"):
      private_files.replace(path, b"new")
  assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]


def test_a_replacement_whose_last_step_fails_leaves_the_new_file(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  path = tmp_path / "file"
  private_files.replace(path, b"old")

  def fail(folder: pathlib.Path) -> None:
    raise OSError(5, f"I/O error of {folder.name}")

  with monkeypatch.context() as patch:
    patch.setattr(private_files, "sync_folder", fail)
    with pytest.raises(OSError, match="I/O error of"):
      private_files.replace(path, b"new")
  assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["file"]


def test_a_folder_that_cannot_be_listed_is_no_error(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  def fail(folder: pathlib.Path) -> list[str]:
    raise PermissionError(13, "Permission denied", str(folder))

  with monkeypatch.context() as patch:
    patch.setattr(os, "listdir", fail)
    private_files.replace(tmp_path / "file", b"new")
  assert private_files.read(tmp_path / "file") == b"new"


def test_an_exception_while_writing_leaves_the_old_file(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "file"
  private_files.replace(path, b"old")
  with pytest.raises(KeyError):
    with private_files.replacing(path) as file:
      file.write(b"half")
      raise KeyError
  assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]


def test_replace_keeps_or_sets_permissions(tmp_path: pathlib.Path) -> None:
  path = tmp_path / "file"
  private_files.replace(path, b"1")
  assert mode(path) == 0o600
  path.chmod(0o664)
  private_files.replace(path, b"2", mode=None)
  assert mode(path) == 0o664
  before = os.umask(0o027)
  try:
    private_files.replace(path, b"3", mode=0o666)
  finally:
    os.umask(before)
  assert mode(path) == 0o640
  with pytest.raises(FileNotFoundError):
    private_files.replace(tmp_path / "absent", b"", mode=None)
  assert os.listdir(tmp_path) == ["file"]


def test_abandoned_parts_are_removed_and_parts_in_use_are_not(
  tmp_path: pathlib.Path,
) -> None:
  path, victim = tmp_path / "file", tmp_path / "victim"
  victim.write_text("kept")
  (tmp_path / ".file.0011223344556677.part").touch()
  (tmp_path / ".file.other.0011223344556677.part").touch()  # Of "file.other".
  (tmp_path / ".file.8899aabbccddeeff.part").symlink_to(victim)
  with private_files.replacing(path) as slow:
    slow.write(b"slow")
    private_files.replace(path, b"quick")
    assert path.read_bytes() == b"quick"
  assert path.read_bytes() == b"slow" and victim.read_text() == "kept"
  assert sorted(os.listdir(tmp_path)) == [
    ".file.8899aabbccddeeff.part",  # Links are neither followed nor removed.
    ".file.other.0011223344556677.part",
    "file",
    "victim",
  ]


def test_concurrent_writers_never_mix(tmp_path: pathlib.Path) -> None:
  path = tmp_path / "file"
  contents = [bytes([i]) * 100_000 for i in range(8)]

  def write(data: bytes) -> None:
    for _ in range(10):
      private_files.replace(path, data)

  threads = [threading.Thread(target=write, args=(c,)) for c in contents]
  for thread in threads:
    thread.start()
  while any(thread.is_alive() for thread in threads):
    if path.exists():
      assert path.read_bytes() in contents
  for thread in threads:
    thread.join()
  assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o622])
def test_files_that_others_can_read_are_refused(
  tmp_path: pathlib.Path, bits: int
) -> None:
  path = tmp_path / "file"
  private_files.create(path, b"key")
  path.chmod(bits)
  for read in (private_files.read, private_files.open_to_read):
    with pytest.raises(PermissionError, match="chmod 600"):
      read(path)
  with pytest.raises(PermissionError, match="chmod 600"):
    private_files.read_limited(path, 100)


def test_read_limited(tmp_path: pathlib.Path) -> None:
  path = tmp_path / "file"
  private_files.create(path, b"1234")
  assert private_files.read_limited(path, 4) == b"1234"
  with pytest.raises(KeyringError, match="more than 3 bytes"):
    private_files.read_limited(path, 3)
  with pytest.raises(KeyringError, match="does not exist"):
    private_files.read_limited(tmp_path / "absent", 3)


def test_a_kill_frees_a_lock(tmp_path: pathlib.Path) -> None:
  path = tmp_path / "file"
  code = (
    "import sys, time\nfrom keyjax import private_files\n"
    "with private_files.lock(sys.argv[1]):\n"
    "  print('held', flush=True)\n  time.sleep(60)"
  )
  holder = subprocess.Popen(
    [sys.executable, "-c", code, str(path)],
    cwd=ROOT,
    stdout=subprocess.PIPE,
  )
  assert holder.stdout is not None
  assert holder.stdout.readline() == b"held\n"
  fd = os.open(f"{path}.lock", os.O_RDWR)
  assert not private_files.try_lock(fd)
  holder.kill()
  holder.wait()
  holder.stdout.close()
  assert private_files.try_lock(fd)
  os.close(fd)


def test_a_locked_folder(tmp_path: pathlib.Path) -> None:
  held = private_files.lock_folder(tmp_path)
  assert held is not None
  assert private_files.lock_folder(tmp_path) is None
  os.close(held)
  again = private_files.lock_folder(tmp_path)
  assert again is not None
  os.close(again)


def test_a_name_that_is_too_long_is_refused_before_anything_is_written(
  tmp_path: pathlib.Path,
) -> None:
  longest = tmp_path / ("\xe4" * 116)  # Two bytes each.
  private_files.create(longest, b"key")
  private_files.replace(longest, b"new")
  for write in (private_files.create, private_files.replace):
    with pytest.raises(ArgumentError, match="nn... has 240 bytes: at most 232"):
      write(tmp_path / "new" / ("n" * 240), b"key")
  assert os.listdir(tmp_path) == [longest.name]
