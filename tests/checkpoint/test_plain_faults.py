"""Plain checkpoints on full disks, under kills and without permissions."""

import json
import os
import pathlib
import signal
import subprocess
import time

import jax
import jax.numpy as jnp
import pytest

from keyjax import checkpoint
from keyjax.checkpoint import errors
from tests import trees
from tests.checkpoint.children import Server
from tests.checkpoint.states import constant

TREE = {"w": jnp.arange(6.0).reshape(2, 3), "n": {"b": jnp.ones(3, jnp.int8)}}


HEAD = """
import os, pathlib, sys
import jax, jax.numpy as jnp
from keyjax import checkpoint

def constant(value):
  return {f"leaf_{i}": jnp.full((64, 1024), value) for i in range(4)}

folder = pathlib.Path(sys.argv[1])
"""

UNWRITABLE = (
  HEAD
  + """
tree = {"w": jnp.ones(3)}
for call in (
  lambda: checkpoint.save_plain(folder / "c", tree),
  lambda: checkpoint.Manager(folder / "m"),
):
  try:
    call()
  except checkpoint.CheckpointError as error:
    print(error)
"""
)


@pytest.mark.faults
@pytest.mark.parametrize("kind", ["below a file", "read-only"])
def test_unwritable_folders(
  kind: str, tmp_path: pathlib.Path, children: Server
) -> None:
  # In a process of its own: Orbax's threads used to keep it for 10 minutes.
  folder = pathlib.Path("/proc/keyjax")
  if kind == "below a file":
    folder = tmp_path / "file" / "folder"
    folder.parent.write_text("a file")
  process = children.start(UNWRITABLE, folder)
  assert process.wait() == 0, process.err()
  first, second = process.out().splitlines()
  assert first.startswith(f"could not write a checkpoint to {folder}/c: ")
  assert second.startswith(f"cannot use {folder}/m: ")
  assert "Traceback" not in process.err()


FULL = (
  HEAD
  + """
import json, resource
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
big = {"w": jax.random.normal(jax.random.key(0), (300, 1000))}
out = {}

def tell(name, call):
  try:
    call()
    out[name] = ""
  except checkpoint.CheckpointError as error:
    out[name] = str(error)

tell("save", lambda: checkpoint.save_plain(folder / "c", big))
out["left"] = os.listdir(folder)
manager = checkpoint.Manager(folder / "m")
manager.save(2, big)
tell("next", lambda: manager.save(3, big))
manager.save(4, big)
tell("wait", manager.wait_until_finished)
manager.save(5, big)
tell("close", manager.close)
out["latest"] = manager.latest_step()
print(json.dumps(out))
"""
)


@pytest.mark.faults
def test_a_full_disk(tmp_path: pathlib.Path, children: Server) -> None:
  """Limit every file to 100 kB, as on a full disk."""
  with checkpoint.Manager(tmp_path / "m") as manager:
    manager.save(1, TREE)
  process = children.start(FULL, tmp_path)
  assert process.wait() == 0, process.err()
  out = json.loads(process.out())
  for name in ("save", "next", "wait", "close"):
    assert out[name].endswith(": File too large"), (name, out)
  assert out["left"] == ["m"]
  assert out["latest"] == 1
  assert [p.name for p in (tmp_path / "m").iterdir()] == ["1"]
  with checkpoint.Manager(tmp_path / "m") as manager:
    assert manager.latest_step() == 1
    trees.assert_same_bits(manager.restore(TREE), TREE)
    manager.save(2, TREE)
  checkpoint.save_plain(
    tmp_path / "c", TREE
  )  # The same path, with space again.
  trees.assert_same_bits(checkpoint.restore_plain(tmp_path / "c", TREE), TREE)


@pytest.mark.faults
def test_a_full_file_system(tmp_path: pathlib.Path) -> None:
  mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "none", str(tmp_path)]
  try:
    subprocess.run(mount, check=True, capture_output=True)
  except (OSError, subprocess.CalledProcessError):
    pytest.skip("mounting is not permitted here")
  big = {"w": jax.random.normal(jax.random.key(0), (300, 1000))}
  try:
    manager = checkpoint.Manager(tmp_path / "m")
    manager.save(1, TREE)
    manager.wait_until_finished()
    manager.save(2, big)
    with pytest.raises(checkpoint.CheckpointError, match="No space left"):
      manager.wait_until_finished()
    assert manager.latest_step() == 1
    trees.assert_same_bits(manager.restore(TREE), TREE)
    manager.save(3, TREE)  # What the failed save wrote is gone.
    manager.close()
    with pytest.raises(checkpoint.CheckpointError, match="No space left"):
      checkpoint.save_plain(tmp_path / "c", big)
    assert os.listdir(tmp_path) == ["m"]
    with checkpoint.Manager(tmp_path / "m") as manager:
      assert manager.latest_step() == 3
  finally:
    subprocess.run(["umount", str(tmp_path)], check=True)


KILLED = (
  HEAD
  + """
manager = checkpoint.Manager(folder / "m", keep=2)
manager.save(1, constant(1))
manager.wait_until_finished()
print("ready", flush=True)
for step in range(2, 10_000):
  if sys.argv[2] == "manager":
    manager.save(step, constant(step))
  else:
    checkpoint.save_plain(folder / f"c{step}", constant(step))
"""
)


def test_the_cause_is_found_in_any_order_of_details() -> None:
  body = 'OUT_OF_RANGE: Error writing "a/.zarray": Failed to write 13 bytes to '
  body += "file 4: File too large"
  code, spec = "[os_error_code='27']", "[tensorstore_spec='{\\\"path\\\":1}']"
  for details in (code, f"{code} {spec}", f"{spec} {code}"):
    error = errors.storage_error("no save", ValueError(f"{body} {details}"))
    assert str(error) == "no save: File too large"
  error = errors.storage_error("no save", ValueError(f"a: b {spec}"))
  assert str(error).startswith("no save: a: b")


@pytest.mark.faults
@pytest.mark.parametrize("delay", [0.0, 0.01, 0.03, 0.1, 0.3])
def test_sigkill_leaves_whole_checkpoints(
  delay: float, tmp_path: pathlib.Path, children: Server
) -> None:
  how = "save" if delay in (0.01, 0.3) else "manager"
  process = children.start(KILLED, tmp_path, how)
  process.wait_for("ready")
  time.sleep(delay)
  os.kill(process.pid, signal.SIGKILL)
  assert process.wait() == -signal.SIGKILL
  with checkpoint.Manager(tmp_path / "m") as manager:
    last = manager.latest_step()
    assert last is not None
    trees.assert_same_bits(manager.restore(constant(0)), constant(last))
    manager.save(last + 1, constant(last + 1))  # The run resumes.
    manager.wait_until_finished()
    assert manager.latest_step() == last + 1
  assert not list((tmp_path / "m").glob("*tmp*"))
  assert not list((tmp_path / "m").glob(".try-*"))
  for step in range(2, 10_000):
    if not (tmp_path / f"c{step}").exists():
      break
    found = checkpoint.restore_plain(tmp_path / f"c{step}", constant(0))
    trees.assert_same_bits(found, constant(step))


@pytest.mark.faults
def test_truncated_files_are_an_error(tmp_path: pathlib.Path) -> None:
  tree = {"w": jax.random.normal(jax.random.key(0), (200, 100))}
  checkpoint.save_plain(tmp_path / "c", tree)
  files = [p for p in (tmp_path / "c").rglob("*") if p.is_file()]
  biggest = max(files, key=lambda p: p.stat().st_size)
  with biggest.open("r+b") as file:
    file.truncate(biggest.stat().st_size // 2)
  with pytest.raises(checkpoint.CheckpointError, match="could not read"):
    checkpoint.restore_plain(tmp_path / "c", tree)


@pytest.mark.faults
def test_a_failing_body_still_closes(tmp_path: pathlib.Path) -> None:
  with pytest.raises(KeyError), checkpoint.Manager(tmp_path / "m") as manager:
    manager.save(1, TREE)
    raise KeyError("the body's own error")
  with checkpoint.Manager(tmp_path / "m") as manager:
    assert manager.latest_step() == 1
