"""Kill changes of a keyring at each of their system calls.

A separate program, because it forks: `python -m tests.keyring.killed FOLDER`
prints how many kills each change survived, as JSON.
"""

import json
import os
import pathlib
import resource
import signal
import sys

from keyjax import Secret, keyring

CALLS = ("open", "fsync", "replace", "unlink", "close", "link", "mkdir")


def kill_at(number):
  """Patch the system calls: the process is killed before the n-th."""
  count = 0

  def patched(original):
    def call(*args, **kwargs):
      nonlocal count
      count += 1
      if count == number:
        os.kill(os.getpid(), signal.SIGKILL)
      return original(*args, **kwargs)

    return call

  for name in CALLS:
    setattr(os, name, patched(getattr(os, name)))


def limit_files(size):
  """Limit the size of files: the process is killed in the middle of a write."""
  signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
  resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def in_child(change, prepare, number):
  """Return the signal that ended a change; 0 if it was completed."""
  child = os.fork()
  if child == 0:
    try:
      prepare(number)
      change()
      os._exit(0)
    except BaseException as error:
      print(f"{type(error).__name__}: {error}", file=sys.stderr)
      os._exit(1)
  status = os.waitpid(child, 0)[1]
  if os.WIFEXITED(status) and os.WEXITSTATUS(status):
    raise SystemExit(f"a change failed before kill {number}")
  return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def changes(ring):
  """Return all changes, of a keyring with one key of every status."""
  return {
    "rotate": lambda r: r.rotate(),
    "disable": lambda r: r.disable("a/1"),
    "enable": lambda r: r.enable("a/2"),
    "destroy": lambda r: r.destroy("a/2"),
    "promote": lambda r: r.promote("a/1"),
    "issue": lambda r: r.issue("lab-b"),
    "withdraw": lambda r: r.withdraw("lab-a"),
  }


def fresh(path, root):
  for old in path.parent.iterdir():
    old.unlink()
  ring = keyring.Keyring.create(path, root, "a")
  ring.rotate()
  ring.rotate()
  ring.disable("a/2")
  ring.issue("lab-a")
  return ring


def look(ring):
  keys = [(e.id, e.status, e.primary, e.fingerprint) for e in ring.entries]
  return keys, [(g.name, g.withdrawn) for g in ring.licensees]


def survive(path, root, change, prepare, numbers):
  """Kill one change at each point; return how often it was killed."""
  kills = 0
  for number in numbers:
    ring = fresh(path, root)
    old = look(ring)
    envelope = keyring.seal_envelope(
      bytes(32), [ring.recipient()], checkpoint="c"
    )
    signal_number = in_child(lambda ring=ring: change(ring), prepare, number)
    kills += bool(signal_number)
    found = keyring.Keyring.load(path, root)
    keyring.open_envelope(envelope, found.identities())
    if look(found) == old:
      assert signal_number, "it was completed and changed nothing"
      change(found)  # Leftovers of a killed writer do no harm.
      assert look(found) != old
    names = {p.name for p in path.parent.iterdir()}
    assert names <= {"ring", "ring.lock"}, names
    if prepare is kill_at and not signal_number:
      return kills
  return kills


def create(path, root, number):
  """Kill the creation of a keyring, which leaves none or a complete one."""
  for old in path.parent.iterdir():
    old.unlink()

  def make():
    keyring.Keyring.create(path, root, "a")

  if not in_child(make, kill_at, number):
    return False
  if path.exists():
    assert len(keyring.Keyring.load(path, root).entries) == 1
  else:
    make()
  return True


def main(folder):
  root, path = Secret.generate(), pathlib.Path(folder) / "rings" / "ring"
  path.parent.mkdir()
  ring = fresh(path, root)
  size = path.stat().st_size
  result = {}
  for name, change in changes(ring).items():
    calls = survive(path, root, change, kill_at, range(1, 1000))
    writes = survive(path, root, change, limit_files, range(1, size, 97))
    result[name] = [calls, writes]
  number = 1
  while create(path, root, number):
    number += 1
  result["create"] = [number - 1, 0]
  print(json.dumps(result))


if __name__ == "__main__":
  main(sys.argv[1])
