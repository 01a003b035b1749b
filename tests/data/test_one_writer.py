"""A file of tags has one writer at a time: real processes."""

import os
import pathlib
import signal

import pytest

from keyjax import Secret, data, keyring
from keyjax.errors import StorageError
from tests.data.conftest import MORE, write_records

# `keyjax data tag`, which says when it reads and waits for a file.
TAG = """
import os, pathlib, sys, time

folder, job = pathlib.Path(sys.argv[1]), sys.argv[2]
os.chdir(folder)
from keyjax import cli, data

tag_data = data.tag_data

def slow(*args, **options):
  print("reads", flush=True)
  end = time.monotonic() + 60
  while not (folder / "go").exists() and time.monotonic() < end:
    time.sleep(0.01)
  return tag_data(*args, **options)

if job == "slow":
  data.tag_data = slow
args = ["source", "a.tags", "--name", "a", "--secret", "file:key", "--json"]
print("code", cli.main(["data", "tag", *args]), flush=True)
"""


@pytest.fixture
def folder(source, tmp_path) -> pathlib.Path:
  """Return the folder of a data set, tags of it, and the secret."""
  secret = Secret.generate()
  keyring.write_key(tmp_path / "key", secret, plain=True)
  data.tag_data(source, secret, "a").write(tmp_path / "a.tags")
  write_records(source / "a-train.array_record-00002-of-00003", MORE)
  return tmp_path


def hidden(folder: pathlib.Path) -> list[str]:
  return [x for x in os.listdir(folder) if x.startswith(".")]


@pytest.mark.faults
def test_the_second_of_two_commands_is_refused(folder, children):
  before = (folder / "a.tags").read_bytes()
  first = children.start(TAG, folder, "slow")
  first.wait_for("reads")
  second = children.start(TAG, folder, "quick")
  assert second.wait() == 0, second.err()
  assert "another process is changing a.tags" in second.err()
  assert "code 4" in second.out()
  assert (folder / "a.tags").read_bytes() == before
  (folder / "go").touch()
  assert first.wait() == 0, first.err()
  assert "code 0" in first.out()
  assert len(data.RecordTags.read(folder / "a.tags")) == 46
  assert not hidden(folder)
  again = children.start(TAG, folder, "quick")
  assert again.wait() == 0, again.err()
  assert '"new": 0' in again.out() or '"new":0' in again.out()


@pytest.mark.faults
def test_a_command_that_was_killed_locks_nobody_out(folder, children):
  first = children.start(TAG, folder, "slow")
  first.wait_for("reads")
  assert hidden(folder) == [".a.tags.lock"]
  os.kill(first.pid, signal.SIGKILL)
  assert first.wait() == -signal.SIGKILL
  second = children.start(TAG, folder, "quick")
  assert second.wait() == 0, second.err()
  assert "code 0" in second.out() and not hidden(folder)
  assert len(data.RecordTags.read(folder / "a.tags")) == 46


# Each child adds a file under the lock, and tries again when it is refused.
ADD = """
import pathlib, sys, time

folder, number = pathlib.Path(sys.argv[1]), sys.argv[2]
from keyjax import data
from keyjax.errors import StorageError

for i in range(5):
  while True:
    try:
      with data.changing_tags(folder / "b.tags"):
        tags = data.RecordTags.read(folder / "b.tags")
        tags.extended([bytes(32)], f"{number}-{i}").write(folder / "b.tags")
      break
    except StorageError as error:
      assert "another process is changing" in str(error), error
      time.sleep(0.001)
"""


@pytest.mark.faults
def test_nothing_that_several_processes_add_is_lost(tmp_path, children):
  data.RecordTags("b").write(tmp_path / "b.tags")
  started = [children.start(ADD, tmp_path, i) for i in range(4)]
  for child in started:
    assert child.wait() == 0, child.err()
  assert len(data.RecordTags.read(tmp_path / "b.tags").files) == 20
  assert os.listdir(tmp_path) == ["b.tags"]


def test_a_folder_that_cannot_be_written_to_is_an_error_at_once(tmp_path):
  for place in (tmp_path / "none/a.tags", pathlib.Path("/proc/self/a.tags")):
    with pytest.raises(StorageError, match="could not write .*a.tags"):
      with data.changing_tags(place):
        raise AssertionError


def test_a_lock_that_is_a_link_is_not_followed(tmp_path):
  (tmp_path / ".a.tags.lock").symlink_to(tmp_path / "elsewhere")
  with pytest.raises(StorageError, match="could not write"):
    with data.changing_tags(tmp_path / "a.tags"):
      raise AssertionError
  assert not (tmp_path / "elsewhere").exists()


def test_a_pipe_in_the_place_of_the_lock_is_not_waited_for(tmp_path):
  os.mkfifo(tmp_path / ".a.tags.lock")
  with data.changing_tags(tmp_path / "a.tags"):
    pass
  assert not os.listdir(tmp_path)
