"""Checkpoints in a bucket: the command line, kills, and several processes."""

import pathlib
import subprocess
import sys

import pytest

from keyjax import Secret, checkpoint, cli, keyring
from keyjax.checkpoint.storage import claims
from tests import buckets, trees
from tests.checkpoint import test_processes, two
from tests.checkpoint.children import Server
from tests.checkpoint.test_bucket import FRIEND, OWNER, TREE, opens
from tests.conftest import ROOT

pytestmark = [
  # From other packages: missing credentials, sockets left open.
  pytest.mark.filterwarnings("ignore:.*credentials.*"),
  pytest.mark.filterwarnings("ignore::ResourceWarning"),
  pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.mark.slow
def test_the_command_line(
  bucket: str,
  tmp_path: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
  capsys: pytest.CaptureFixture[str],
) -> None:
  from safetensors.numpy import load_file, save_file

  def run(line: str, code: int = 0) -> str:
    capsys.readouterr()
    found = cli.main(line.replace("BUCKET", bucket).split())
    out, err = capsys.readouterr()
    assert found == code, err
    return out + err

  monkeypatch.chdir(tmp_path)
  monkeypatch.delenv("KEYJAX_IDENTITY", raising=False)
  save_file({"w": TREE["w"]}, "w.safetensors")
  for name in ("bob", "carol"):
    run(f"keygen x25519 {name}.key --pub --plain")
  run("encrypt w.safetensors BUCKET/a --to @bob.key.pub --step 9")
  assert "format      keyjax-sealed" in run("inspect BUCKET/a")
  assert "step        9" in run("inspect BUCKET/a -i file:bob.key")
  assert "every chunk opens" in run("verify BUCKET/a -i file:bob.key")
  run("rewrap BUCKET/a -i file:bob.key --keep --to @carol.key.pub")
  revoke = "revoke BUCKET/a BUCKET/b -i file:bob.key --to @bob.key.pub"
  run(f"{revoke} --recipient @carol.key.pub")
  run("verify BUCKET/b -i file:carol.key", 3)
  run("decrypt BUCKET/b out.safetensors -i file:bob.key")
  trees.assert_same_bits(load_file("out.safetensors")["w"], TREE["w"])
  run("decrypt BUCKET/b BUCKET/plain -i file:bob.key")
  run("encrypt BUCKET/plain BUCKET/c --to @bob.key.pub")
  said = run("encrypt BUCKET/plain BUCKET/c --to @bob.key.pub", 4)
  assert "is never overwritten" in said
  said = run("decrypt BUCKET/b BUCKET/x.safetensors -i file:bob.key", 1)
  assert "only on disks" in said
  run("inspect BUCKET/none", 4)
  said = run("inspect gs://forbidden/c", 4)
  assert said.count("\n") == 1 and "could not reach" in said
  assert sorted(p.name for p in tmp_path.glob("gs*")) == []


# ---------------------------------------------------------------- processes

WRITER = """
import sys
import numpy as np
from keyjax import Secret, checkpoint, keyring
owner = keyring.SymmetricKey(Secret(b"o" * 32))
tree = {"w": np.arange(6, dtype=np.float32), "b": {"c": np.zeros(2, np.int8)}}
if sys.argv[2] == "save":
  checkpoint.save(sys.argv[1], tree, owner)
else:
  friend = keyring.SymmetricKey(Secret(b"f" * 32))
  checkpoint.rewrap(sys.argv[1], owner, friend)
"""


def killed(path: str, job: str, at: int) -> bool:
  """Kill a child at a write to the server; return False if it finished."""
  args = [sys.executable, "-c", WRITER, path, job]
  child = subprocess.Popen(args, cwd=ROOT, stderr=subprocess.DEVNULL)
  left = [at]

  def one() -> None:
    left[0] -= 1
    if left[0] == 0:
      child.kill()

  buckets.after_write.append(one)
  try:
    return child.wait(120) != 0
  finally:
    buckets.after_write.clear()


@pytest.mark.slow
@pytest.mark.faults
def test_a_killed_writer_leaves_the_old_or_the_new(
  bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
  left = dict[str, int]()
  for at in range(2, 40, 3):
    path = f"{bucket}/{at}"
    died = killed(path, "save", at)
    whole = checkpoint.is_whole(path)
    left["whole" if whole else "half"] = at
    assert opens(path) == whole >= (not died)
    if not whole:
      with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        checkpoint.restore(path, OWNER)
      if f".{at}.writing" in buckets.everything(bucket):
        with pytest.raises(FileExistsError, match="try again in 2 minutes"):
          checkpoint.save(path, TREE, OWNER)
      with monkeypatch.context() as patch:
        patch.setattr(claims, "STALE_SECONDS", 0.0)
        checkpoint.save(path, TREE, OWNER)
      assert opens(path) and checkpoint.verify(path, OWNER) == []
    if not died:
      break
  assert left["half"] > 2 and not died
  assert killed(path, "rewrap", 1)
  assert opens(path) != opens(path, FRIEND)


@pytest.mark.slow
@pytest.mark.multiprocess
def test_two_processes_save_into_a_bucket(
  bucket: str, tmp_path: pathlib.Path, children: Server
) -> None:
  Secret.generate().save(tmp_path / "key")
  owner = keyring.SymmetricKey(Secret.load(tmp_path / "key"))
  test_processes.run(children, tmp_path, "save", bucket)
  told = checkpoint.inspect(f"{bucket}/c", owner)
  assert (told["processes"], told["step"], told["signed"]) == (2, 7, True)
  assert checkpoint.verify(f"{bucket}/c", owner) == []
  two.assert_equal(checkpoint.restore(f"{bucket}/c", owner))
  assert checkpoint.verify(f"{bucket}/m/1", owner) == []
