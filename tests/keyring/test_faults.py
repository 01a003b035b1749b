"""Kills at every system call, full disks and read-only folders."""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile

import pytest

from keyjax import keyring
from tests.conftest import ROOT

pytestmark = pytest.mark.faults


def test_a_kill_leaves_the_old_keyring_or_the_new(tmp_path):
  done = subprocess.run(
    [sys.executable, "-W", "ignore", "-m", "tests.keyring.killed", tmp_path],
    cwd=ROOT,
    env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr
  kills = json.loads(done.stdout)
  assert len(kills) == 8
  for change, (calls, writes) in kills.items():
    # Lock, open, fsync, replace, unlink, and open, fsync, close of the folder.
    assert calls >= 8, (change, calls)
    assert writes >= 5 or change == "create", (change, writes)


@pytest.fixture
def full_disk():
  """Return a function that limits the size of files."""
  limit = resource.getrlimit(resource.RLIMIT_FSIZE)
  handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
  yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit[1]))
  resource.setrlimit(resource.RLIMIT_FSIZE, limit)
  signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("size", [0, 1, 100, 300])
def test_a_full_disk(ring, root, tmp_path, full_disk, size):
  before = ring.path.read_bytes()
  entries = ring.entries
  full_disk(size)
  with pytest.raises(OSError, match="too large"):
    ring.rotate()
  with pytest.raises(OSError, match="too large"):
    keyring.Keyring.create(tmp_path / "new", root, "team-b")
  if size < 80:
    with pytest.raises(OSError, match="too large"):
      keyring.write_key(tmp_path / "key", root, plain=True)
    assert not (tmp_path / "key").exists()
  full_disk(2**30)
  assert ring.path.read_bytes() == before and ring.entries == entries
  assert not (tmp_path / "new").exists()
  assert not list(tmp_path.glob("*.part"))
  assert ring.rotate() == "team-a/2"


READ_ONLY = """
import os, sys
import numpy  # Another user may not be able to read it.
from keyjax import Secret, keyring
folder = sys.argv[1]
root = Secret.generate()
if os.geteuid() == 0:  # Permissions do not apply to root: become nobody.
  os.chown(folder, 65534, 65534)
  os.setegid(65534)
  os.seteuid(65534)
ring = keyring.Keyring.create(folder + "/ring", root, "a")
os.chmod(folder, 0o500)
before = open(folder + "/ring", "rb").read()
for change in (
  ring.rotate,
  lambda: keyring.Keyring.create(folder + "/new", root, "b"),
  lambda: keyring.write_key(folder + "/key", root, plain=True),
):
  try:
    change()
  except PermissionError as error:
    print("refused")
assert open(folder + "/ring", "rb").read() == before
assert len(ring.entries) == 1
keyring.Keyring.load(folder + "/ring", root)
os.chmod(folder, 0o700)
"""


def test_a_read_only_folder():
  with tempfile.TemporaryDirectory() as folder:
    done = subprocess.run(
      [sys.executable, "-c", READ_ONLY, folder],
      cwd=ROOT,
      env=os.environ | {"PYTHONPATH": str(ROOT)},
      capture_output=True,
      text=True,
    )
  assert done.returncode == 0, done.stderr
  assert done.stdout.split() == ["refused"] * 3


def test_a_failed_change_does_not_change_the_object(ring, root, monkeypatch):
  def fail(*args):
    raise OSError(5, "Input/output error")

  for call in ("fsync", "replace"):
    with monkeypatch.context() as patch:
      patch.setattr(os, call, fail)
      with pytest.raises(OSError, match="Input/output"):
        ring.rotate()
    assert len(ring.entries) == 1
    assert len(keyring.Keyring.load(ring.path, root).entries) == 1
  assert ring.rotate() == "team-a/2"


def test_a_link_in_the_way(ring, tmp_path):
  """A link in the place of a temporary file is not followed."""
  victim = tmp_path / "victim"
  victim.write_text("kept")
  (tmp_path / "team-a.keyring.part").symlink_to(victim)
  ring.rotate()
  assert victim.read_text() == "kept"
  assert not ring.path.is_symlink()
