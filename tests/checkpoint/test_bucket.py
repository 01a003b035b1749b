"""Checkpoints in a bucket; see tests/buckets.py for the server."""

import json
import pathlib
from typing import Any

import jax
import numpy as np
import pytest
import tensorstore as ts
from cryptography.hazmat.primitives.asymmetric import ed25519
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from keyjax import Secret, checkpoint, keyring
from keyjax.checkpoint.format import layout
from keyjax.checkpoint.storage import header as headers
from tests import buckets, trees
from tests.checkpoint import damage

pytestmark = [
  # From other packages: missing credentials, sockets left open.
  pytest.mark.filterwarnings("ignore:.*credentials.*"),
  pytest.mark.filterwarnings("ignore::ResourceWarning"),
  pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

TREE = {"w": np.arange(6, dtype=np.float32), "b": {"c": np.zeros(2, np.int8)}}
OWNER = keyring.SymmetricKey(Secret(b"o" * 32))
FRIEND = keyring.SymmetricKey(Secret(b"f" * 32))
ERRORS = (checkpoint.CheckpointError, FileNotFoundError, keyring.KeyringError)


def opens(path: str, who: Any = OWNER) -> bool:
  """Return whether it opens; then everything must be as it was saved."""
  try:
    found = checkpoint.restore(path, who)
  except ERRORS as error:
    assert "\n" not in str(error)
    return False
  trees.assert_same_bits(found, TREE)
  return True


def test_plain_checkpoints(bucket: str) -> None:
  tree = {"w": np.arange(6, dtype=np.uint32)}
  checkpoint.save_plain(f"{bucket}/locked", tree)
  trees.assert_same_bits(
    checkpoint.restore_plain(f"{bucket}/locked", tree), tree
  )
  with pytest.raises(FileExistsError, match="is never overwritten"):
    checkpoint.save_plain(f"{bucket}/locked", tree)
  # What a kill leaves: no mark of completeness.
  buckets.write(f"{bucket}/locked", {"commit_success.txt": None})
  with pytest.raises(FileNotFoundError, match="no checkpoint at gs://"):
    checkpoint.restore_plain(f"{bucket}/locked", tree)
  checkpoint.save_plain(f"{bucket}/locked", tree)
  trees.assert_same_bits(
    checkpoint.restore_plain(f"{bucket}/locked", tree), tree
  )


def test_sealed_checkpoints(bucket: str) -> None:
  signer = ed25519.Ed25519PrivateKey.generate()
  path = f"{bucket}/c"
  kept = {"step": 5, "metadata": {"run": "hidden"}, "signer": signer}
  checkpoint.save(path, TREE, [OWNER, FRIEND], **kept)
  public = signer.public_key()
  for who in (OWNER, FRIEND):
    found = checkpoint.restore(path, who, step=5, verify_key=public)
    trees.assert_same_bits(found, TREE)
  assert list(checkpoint.restore(path, OWNER, leaves="w")) == ["w"]
  assert checkpoint.read_metadata(path, OWNER) == {"run": "hidden"}
  assert checkpoint.verify(path, OWNER, verify_key=public) == []
  stranger = ed25519.Ed25519PrivateKey.generate().public_key()
  with pytest.raises(checkpoint.CheckpointError, match="not signed with"):
    checkpoint.restore(path, OWNER, verify_key=stranger)
  with pytest.raises(FileExistsError, match="is never overwritten"):
    checkpoint.save(path, TREE, OWNER)
  objects = buckets.everything(path)
  told = checkpoint.inspect(path)
  assert told["bytes"] == sum(map(len, objects.values()))
  assert told["envelope"]["recipients"] == [OWNER.id, FRIEND.id]
  for data in objects.values():
    assert b"hidden" not in data and TREE["w"].tobytes() not in data


def test_no_object_names_its_path(bucket: str) -> None:
  place = f"{bucket}/customer"
  checkpoint.save(f"{place}/sealed", TREE, OWNER)
  checkpoint.save_plain(f"{place}/plain", TREE)
  with checkpoint.Manager(f"{place}/run", recipients=OWNER) as manager:
    manager.save(1, TREE)
  objects = buckets.everything(bucket)
  assert "customer/run/1/commit_success.txt" in objects
  for name, data in objects.items():
    assert b"customer" not in data and b"gs://" not in data, name


def test_only_what_is_wanted_is_read(
  bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
  sizes = {
    "MAX_PART_BYTES": 1 << 14,
    "SEGMENT_BYTES": 1 << 18,
    "READ_BYTES": 1 << 15,
    "SMALL_STREAM_BYTES": 1 << 16,
  }
  for name, size in sizes.items():
    monkeypatch.setattr(layout, name, size)
  x = np.random.default_rng(0).normal(size=(250, 500)).astype(np.float32)
  checkpoint.save(f"{bucket}/c", {"big": x, "small": x[:3]}, OWNER)
  whole = checkpoint.inspect(f"{bucket}/c")["bytes"]
  buckets.served.clear()
  found = checkpoint.restore(f"{bucket}/c", OWNER, leaves="small")
  np.testing.assert_array_equal(found["small"], x[:3])
  assert 0 < sum(buckets.served) < 0.4 * whole
  mesh = Mesh(np.asarray(jax.devices()[:4]), ("a",))
  sharding = NamedSharding(mesh, P(None, "a"))
  like = {"big": jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)}
  found = checkpoint.restore(f"{bucket}/c", OWNER, like, leaves="big")
  assert found["big"].sharding == sharding
  np.testing.assert_array_equal(np.asarray(found["big"]), x)


def test_rewrap_replaces_one_object(
  bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
  checkpoint.save(bucket, TREE, OWNER)
  before = buckets.everything(bucket)
  checkpoint.rewrap(bucket, OWNER, FRIEND)
  after = buckets.everything(bucket)
  changed = [name for name in before if before[name] != after[name]]
  assert changed == ["header/metadata"] and set(before) == set(after)
  assert opens(bucket, FRIEND) and not opens(bucket)
  # Another writer restores the old one: no cached listing hides it.
  assert checkpoint.inspect(bucket)["bytes"]
  header = {"header/metadata": before["header/metadata"] + b" " * 999}
  buckets.write(bucket, header)
  assert opens(bucket) and not opens(bucket, FRIEND)

  def forbidden(*_: Any) -> None:
    raise PermissionError("403: no storage.objects.create")

  with monkeypatch.context() as patch:
    patch.setattr(ts.KvStore, "open", forbidden)
    with pytest.raises(checkpoint.CheckpointError, match="rewrap.*403"):
      checkpoint.rewrap(bucket, OWNER, FRIEND)
  assert opens(bucket)


@pytest.mark.slow
def test_reencrypt_between_bucket_and_disk(
  bucket: str, tmp_path: pathlib.Path
) -> None:
  steps = [f"{bucket}/a", f"{bucket}/b", str(tmp_path / "c"), f"{bucket}/d"]
  checkpoint.save(steps[0], TREE, OWNER, step=3)
  for old, new in zip(steps, steps[1:], strict=False):
    checkpoint.reencrypt(old, new, OWNER, OWNER)
    trees.assert_same_bits(checkpoint.restore(new, OWNER, step=3), TREE)
  with pytest.raises(FileExistsError, match="never overwritten"):
    checkpoint.reencrypt(steps[2], steps[0], OWNER, OWNER)


def test_copies_are_traced(bucket: str, tmp_path: pathlib.Path) -> None:
  ring = keyring.Keyring.create(tmp_path / "ring", Secret.generate(), "team")
  lab = ring.issue("lab")
  checkpoint.save(bucket, TREE, [ring.recipient(), FRIEND], salt=lab.salt)
  checkpoint.rewrap(bucket, FRIEND, FRIEND)
  assert checkpoint.trace(bucket, ring) == "lab"


@pytest.mark.slow
def test_unencrypted_weights_are_imported_and_exported(
  bucket: str, tmp_path: pathlib.Path
) -> None:
  file = tmp_path / "w.msgpack"
  place = f"{bucket}/plain"
  checkpoint.save(f"{bucket}/a", TREE, OWNER)
  checkpoint.export_weights(f"{bucket}/a", place, OWNER)
  checkpoint.import_weights(place, f"{bucket}/b", OWNER)
  assert opens(f"{bucket}/b")
  checkpoint.export_weights(f"{bucket}/b", file, OWNER)
  checkpoint.import_weights(file, f"{bucket}/c", OWNER)
  assert opens(f"{bucket}/c")
  with pytest.raises(ValueError, match="only on disks"):
    checkpoint.export_weights(f"{bucket}/a", f"{bucket}/w.msgpack", OWNER)
  with pytest.raises(ValueError, match="only on disks"):
    checkpoint.import_weights(f"{bucket}/w.msgpack", f"{bucket}/d", OWNER)
  with pytest.raises(FileNotFoundError, match="no file or folder gs://"):
    checkpoint.import_weights(f"{bucket}/none", f"{bucket}/d", OWNER)


def test_a_manager_keeps_and_resumes(bucket: str) -> None:
  people: Any = {"recipients": OWNER, "identities": OWNER}
  with checkpoint.Manager(bucket, keep=2, **people) as manager:
    for step in (1, 2, 3):
      manager.save(step, {"w": np.full(5, step)})
  assert {n.split("/")[0] for n in buckets.everything(bucket)} == {"2", "3"}
  # A kill during a write: no mark, and not all objects.
  lost = dict.fromkeys(("commit_success.txt", "header/metadata"))
  buckets.write(f"{bucket}/3", lost)
  with checkpoint.Manager(bucket, keep=2, **people) as manager:
    assert manager.latest_step() == 2
    assert manager.restore({"w": np.zeros(5, int)})["w"].tolist() == [2] * 5
    manager.save(3, {"w": np.full(5, 4)})
    manager.wait_until_finished()
    assert manager.restore({"w": np.zeros(5, int)})["w"].tolist() == [4] * 5
  with pytest.raises(checkpoint.CheckpointError, match="sealed.*give them"):
    checkpoint.Manager(bucket)
  with checkpoint.Manager(f"{bucket}/plain") as manager:
    manager.save(1, TREE)
  with pytest.raises(checkpoint.CheckpointError, match="give none"):
    checkpoint.Manager(f"{bucket}/plain", **people)


# ---------------------------------------------------------------- tampering


def test_changed_objects_are_refused(bucket: str) -> None:
  checkpoint.save(bucket, TREE, OWNER)
  sealed = damage.message(bucket, OWNER, "w")  # type: ignore[arg-type]
  objects = buckets.everything(bucket)
  (name,) = [n for n, data in objects.items() if sealed in data]
  broken = sealed[:-1] + bytes([sealed[-1] ^ 1])
  buckets.write(bucket, {name: objects[name].replace(sealed, broken)})
  with pytest.raises(checkpoint.CheckpointError, match="leaf w does not open"):
    checkpoint.restore(bucket, OWNER)
  assert list(checkpoint.restore(bucket, OWNER, leaves="b/c")) == ["b"]
  (problem,) = checkpoint.verify(bucket, OWNER)
  assert problem.where == "w"
  buckets.write(bucket, {name: objects[name]})
  refused = 0
  for name, data in objects.items():  # The mark of completeness stays.
    for change in (None, data[: len(data) // 2]):
      buckets.write(bucket, {name: change})
      refused += not opens(bucket)
    buckets.write(bucket, {name: data})
  assert refused >= 8 and opens(bucket)


def test_malformed_headers_are_refused(
  bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
  checkpoint.save(bucket, TREE, OWNER)
  monkeypatch.setattr(headers, "MAX_HEADER_BYTES", 1 << 20)
  for data, why in (
    (b" " * (12 << 20), "header is too large"),
    (b"nul", "header is not JSON"),
    (b"[" * 100_000, "too many parts"),
    (json.dumps({"format": "other"}).encode(), "not a sealed checkpoint"),
  ):
    buckets.write(bucket, {"header/metadata": data})
    buckets.served.clear()
    with pytest.raises(checkpoint.CheckpointError, match=why):
      checkpoint.inspect(bucket)
    assert sum(buckets.served) < 8 << 20  # gcsfs reads 5 MiB at a time.


# ----------------------------------------------------------------- mistakes


def test_names_are_not_urls(bucket: str) -> None:
  name = "a b%41q%&x=y+@..ünï"
  path = f"{bucket}/{name}/{name}"
  checkpoint.save(path, TREE, OWNER)
  assert opens(path)
  assert {n.split("/sealed/")[0] for n in buckets.everything(bucket)} >= {
    f"{name}/{name}"
  }


@pytest.mark.parametrize("name", ["h#y", "s;t", "a/../b", "..", "n\n", "", "/"])
def test_names_that_do_not_work_are_refused(
  name: str, bucket_server: None
) -> None:
  for path in (f"gs://bucket/{name}", f"gs://{name or 'Bad!'}/c"):
    for call in (checkpoint.save, checkpoint.save_plain):
      with pytest.raises(ValueError, match="not work in|name a bucket and"):
        call(path, TREE, *[OWNER] * (call is checkpoint.save))
    with pytest.raises(ValueError, match="not work in|name a bucket and"):
      checkpoint.restore(path, OWNER)
  for name in ("m[1]", "m*", "m?"):
    with pytest.raises(checkpoint.CheckpointError, match="a pattern"):
      checkpoint.save(f"gs://bucket/{name}", TREE, OWNER)


def test_other_objects_are_not_removed(bucket: str) -> None:
  """Orbax would remove everything there that has no mark."""
  checkpoint.save(f"{bucket}/runs/a", TREE, OWNER)
  for path in (f"{bucket}/runs", bucket):
    with pytest.raises(FileExistsError, match="holds other objects"):
      checkpoint.save(path, TREE, OWNER)
    with pytest.raises(FileExistsError, match="holds other objects"):
      checkpoint.save_plain(path, TREE)
  assert opens(f"{bucket}/runs/a")


def test_unreachable_buckets_give_one_line(bucket_server: None) -> None:
  for name, why in (
    ("nowhere", "no such bucket"),
    (buckets.FORBIDDEN, "Forbidden"),
  ):
    path = f"gs://{name}/c"
    calls: list[tuple[Any, tuple[Any, ...]]] = [
      (checkpoint.save, (TREE, OWNER)),
      (checkpoint.save_plain, (TREE,)),
      (checkpoint.Manager, ()),
    ]
    for write, args in calls:
      with pytest.raises(checkpoint.CheckpointError, match=why) as caught:
        write(path, *args)
      assert "\n" not in str(caught.value)
  for read in (checkpoint.inspect, checkpoint.read_envelope):
    with pytest.raises(FileNotFoundError, match="no checkpoint at gs://now"):
      read("gs://nowhere/c")
    with pytest.raises(
      checkpoint.CheckpointError, match="not reach.*Forbidden"
    ):
      read(f"gs://{buckets.FORBIDDEN}/c")


def test_missing_gcsfs_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
  for call in (checkpoint.inspect, checkpoint.Manager):
    with pytest.raises(ValueError, match="needs gcsfs: pip install gcsfs"):
      call("gs://bucket/c")
