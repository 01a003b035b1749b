"""Keyrings: statuses, the file, the lock, licensees and tracing."""

import datetime
import json
import multiprocessing
import os
import stat

import pytest

import keyjax
from keyjax import Secret, keyring, private_files, seal
from keyjax.keyring import encoding

Keyring, KeyringError = keyring.Keyring, keyring.KeyringError


@pytest.fixture
def reload(root):
  """Return a function that reads the file of a keyring again."""
  return lambda ring: Keyring.load(ring.path, root)


def shape(ring):
  return [(e.id, e.status, e.primary) for e in ring.entries]


def test_a_key_from_creation_to_destruction(ring, reload):
  assert shape(ring) == [("team-a/1", "enabled", True)]
  assert ring.add() == "team-a/2"
  ring.promote("team-a/2")
  assert ring.rotate() == "team-a/3"
  ring.disable("team-a/1")
  ring.disable("team-a/2")
  ring.enable("team-a/2")
  ring.destroy("team-a/1")
  expected = [
    ("team-a/1", "destroyed", False),
    ("team-a/2", "enabled", False),
    ("team-a/3", "enabled", True),
  ]
  assert shape(ring) == shape(reload(ring)) == expected
  gone, *kept = reload(ring).entries
  assert gone.secret is None and gone.fingerprint
  assert len({e.fingerprint for e in ring.entries}) == 3
  for entry in kept:
    assert entry.secret.fingerprint() == entry.fingerprint
    time = datetime.datetime.fromisoformat(entry.created)
    age = datetime.datetime.now(datetime.UTC) - time
    assert abs(age) < datetime.timedelta(hours=1)


def test_invalid_changes_are_refused(ring, reload):
  ring.add()
  before = shape(ring)
  for change, message in (
    (lambda: ring.disable("team-a/1"), "is primary: promote another"),
    (lambda: ring.destroy("team-a/1"), "is primary: promote another"),
    (lambda: ring.destroy("team-a/2"), "is enabled: disable it first"),
    (lambda: ring.enable("team-a/9"), "no key team-a/9 in keyring team-a"),
    (lambda: ring.recipient("team-a/2"), "team-a/2 is not primary: team-a/1"),
  ):
    with pytest.raises(KeyringError, match=message):
      change()
  assert shape(ring) == shape(reload(ring)) == before
  ring.disable("team-a/2")
  with pytest.raises(KeyringError, match="is disabled: enable it first"):
    ring.promote("team-a/2")
  ring.destroy("team-a/2")
  for change in (ring.enable, ring.disable, ring.destroy):
    with pytest.raises(
      KeyringError, match="was destroyed and cannot be restored"
    ):
      change("team-a/2")
  with pytest.raises(KeyringError, match="team-a/2 is destroyed"):
    ring.promote("team-a/2")


def test_only_the_primary_wraps(ring):
  first = ring.recipient()
  assert first.id == ring.entries[0].recipient_id == ring.identities()[0].id
  ring.rotate()
  assert ring.recipient("team-a/2").id == ring.entries[1].recipient_id
  assert ring.recipient().id != first.id
  old = keyring.seal_envelope(bytes(32), [first], checkpoint="a")
  new = keyring.rewrap_envelope(old, ring.identities(), [ring.recipient()])
  ring.disable("team-a/1")
  assert keyring.open_envelope(new, ring.identities()).data_key == bytes(32)


def test_a_destroyed_key_is_erased(ring, root):
  text = keyring.format_key(ring.entries[0].secret)
  material = encoding.decode(text.partition(":")[2])[:32]
  ring.rotate()
  ring.disable("team-a/1")
  ring.destroy("team-a/1")
  data = ring.path.read_bytes().partition(b"\n")[2]
  key = root.derive("keyring/file", 32)
  plain = seal.unseal(key, data, b"keyjax/keyring/1/team-a")
  encoded = json.loads(plain)["keys"]
  assert encoded[0]["secret"] is None and encoded[1]["secret"]
  assert encoding.encode(material).encode() not in plain
  assert len(list(ring.path.parent.iterdir())) == 2  # The file and its lock.


def test_the_file(ring, root, tmp_path, reload):
  path = ring.path
  assert stat.S_IMODE(path.stat().st_mode) == 0o600
  with pytest.raises(FileExistsError, match="never overwritten"):
    Keyring.create(path, root, "team-a")
  with pytest.raises(keyring.CannotOpen):
    Keyring.load(path, Secret.generate())
  path.chmod(0o640)
  with pytest.raises(PermissionError, match="chmod 600"):
    Keyring.load(path, root)
  with pytest.raises(PermissionError, match="chmod 600"):
    ring.rotate()
  path.chmod(0o600)
  with pytest.raises(KeyringError, match="does not exist"):
    Keyring.load(tmp_path / "none", root)
  with pytest.raises(KeyringError, match="keyring: a name has"):
    Keyring.create(tmp_path / "x", root, "two words")
  other = Keyring.create(tmp_path / "other", root, "team-b")
  path.write_bytes(other.path.read_bytes())
  assert reload(ring).name == "team-b"  # Complete, and it contains its name.
  with pytest.raises(KeyringError, match="holds keyring team-b, not team-a"):
    Keyring.load(path, root, "team-a")
  with pytest.raises(KeyringError, match="holds keyring team-b, not team-a"):
    ring.rotate()


def test_other_files_are_not_keyrings(ring, root):
  path = ring.path
  good = path.read_bytes()
  head, _, body = good.partition(b"\n")
  for data, message in (
    (b"", "is not a keyring"),
    (b"x" * 100, "is not a keyring"),
    (b"keyjax-keyring 1\n" + body, "is not a keyring"),
    (b"keyjax-keyring 2 team-a\n" + body, "of another version than 1"),
    (b"keyjax-keyring 1 team-b\n" + body, "cannot open"),
    (head + b"\n", "cannot open"),
    (good[:-1], "cannot open"),
    (good + b"x", "cannot open"),
  ):
    path.write_bytes(data)
    with pytest.raises(KeyringError, match=message):
      Keyring.load(path, root)
  for at in range(0, len(good), 13):
    path.write_bytes(good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :])
    with pytest.raises(KeyringError):
      Keyring.load(path, root)
  with open(path, "wb") as file:
    file.truncate(2**26 + 1)  # Sparse: it uses no space.
  with pytest.raises(KeyringError, match="too large"):
    Keyring.load(path, root)


def rotate_often(path, root):
  ring = Keyring.load(path, keyring.parse_key(root))
  for _ in range(8):
    ring.rotate()


def test_concurrent_writers_lose_no_change(ring, root, reload):
  context = multiprocessing.get_context("spawn")
  make = context.Process
  args = (ring.path, keyring.format_key(root))
  others = [make(target=rotate_often, args=args) for _ in range(2)]
  for other in others:
    other.start()
  for _ in range(8):
    ring.rotate()
  for other in others:
    other.join()
    assert other.exitcode == 0
  entries = reload(ring).entries
  assert [e.id for e in entries] == [f"team-a/{i}" for i in range(1, 26)]
  assert sum(e.primary for e in entries) == 1


def test_a_lock_held_by_another(ring, monkeypatch, reload):
  monkeypatch.setattr(private_files, "_LOCK_TIMEOUT", 0.1)
  with private_files.lock(ring.path):
    with pytest.raises(KeyringError, match="another process is changing"):
      ring.rotate()
  assert len(ring.entries) == len(reload(ring).entries) == 1


def test_keys_inside_checkpoints_are_refused(tmp_path, root):
  """In every layout that Orbax writes."""
  import numpy as np
  import orbax.checkpoint as ocp

  with ocp.CheckpointManager(tmp_path / "run") as manager:
    manager.save(3, args=ocp.args.StandardSave({"w": np.ones(3)}))
  step = tmp_path / "run" / "3"
  for folder in (step, step / "default", step / "default" / "deep"):
    for name in ("a.keyring", "deeper/a.keyring"):
      with pytest.raises(KeyringError, match="is inside the checkpoint"):
        Keyring.create(folder / name, root, "team-a")
      with pytest.raises(KeyringError, match="is inside the checkpoint"):
        keyring.write_key(folder / name, root, plain=True)
      with pytest.raises(KeyringError, match="is inside the checkpoint"):
        root.save(folder / name)
      with pytest.raises(KeyringError, match="is inside the checkpoint"):
        keyjax.keys.save(folder / name, {})
  (tmp_path / "link").symlink_to(step)
  with pytest.raises(KeyringError, match="is inside the checkpoint"):
    keyring.write_key(tmp_path / "link" / "key", root, plain=True)
  keyring.write_key(tmp_path / "key", root, plain=True)
  Keyring.create(tmp_path / "ring", root, "team-a")
  for name in ("key", "ring"):  # Moved there later.
    (tmp_path / name).rename(step / name)
  with pytest.raises(KeyringError, match="is inside the checkpoint"):
    keyring.read_key(f"file:{step}/key")
  with pytest.raises(KeyringError, match="is inside the checkpoint"):
    Keyring.load(step / "ring", root)


def test_licensees_have_separate_copies(ring, reload):
  copies = {}
  for name in ("lab-a", "lab-b"):
    licensee, data_key = ring.issue(name), os.urandom(32)
    envelope = keyring.seal_envelope(
      data_key, [licensee.recipient(), ring.recipient()], checkpoint=name
    )
    message = seal.seal(data_key, b"weights", b"leaf", salt=licensee.salt())
    copies[name] = (licensee, envelope, message)
  a, envelope, message = copies["lab-a"]
  own = keyring.SymmetricKey(
    a.secret
  )  # The key that is handed to the licensee.
  data_key = keyring.open_envelope(envelope, [own]).data_key
  assert seal.unseal(data_key, message, b"leaf") == b"weights"
  with pytest.raises(keyring.CannotOpen):
    keyring.open_envelope(copies["lab-b"][1], [own])
  for name, (_, envelope, message) in copies.items():
    for leaked in (envelope, message, message[:24]):
      assert keyring.trace_licensee(leaked, reload(ring).issued()) == name


def test_unmarked_data_is_not_traced(ring, root, tmp_path):
  licensee = ring.issue("lab-a")
  other = Keyring.create(tmp_path / "other", root, "team-b")
  other.issue("lab-a")
  message = seal.seal(bytes(32), b"weights", salt=licensee.salt())
  for data in (b"", b"{", bytes(24), seal.seal(bytes(32), b"weights")):
    assert keyring.trace_licensee(data, ring.issued()) is None
  assert keyring.trace_licensee(message, other.issued()) is None
  # A message with a changed mark does not open.
  changed = bytes([message[0] ^ 1]) + message[1:]
  assert keyring.trace_licensee(changed, ring.issued()) is None
  with pytest.raises(seal.SealError):
    seal.unseal(bytes(32), changed)
  salts = {licensee.salt() for _ in range(1000)}
  assert len(salts) == 1000 and all(map(licensee.bears, salts))


def test_licensees_are_issued_and_withdrawn(ring, reload):
  ring.issue("lab-a")
  with pytest.raises(KeyringError, match="a licensee lab-a already"):
    ring.issue("lab-a")
  with pytest.raises(KeyringError, match="licensee: a name has"):
    ring.issue("two words")
  with pytest.raises(KeyringError, match="no licensee lab-b in keyring"):
    ring.withdraw("lab-b")
  message = seal.seal(bytes(32), b"w", salt=ring.licensee("lab-a").salt())
  ring.withdraw("lab-a")
  with pytest.raises(KeyringError, match="licensee lab-a was withdrawn"):
    reload(ring).licensee("lab-a").recipient()
  assert keyring.trace_licensee(message, ring.issued()) == "lab-a"
  assert [g.withdrawn for g in ring.licensees] == [True]
