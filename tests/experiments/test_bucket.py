"""A workdir in a bucket: a real server of objects, on this machine.

It speaks Cloud Storage's JSON API to gcsfs (through epath) and to TensorStore
(through Orbax), as the real one does; what it does not have is Google's
consistency, credentials and limits.
"""

import contextlib
import json
import logging
import pathlib
import socket
from collections.abc import Iterator
from typing import Any

import fsspec
import jax
import numpy as np
import pytest
from etils import epath
from ml_collections import ConfigDict

from experiments import data, files, main, models, train
from experiments.config import base, scheme, set_schemes
from experiments.workdir import Workdir, WorkdirError
from keyjax import checkpoint, keyring
from tests import trees

pytestmark = [
  # Third parties: credentials that are not there, sockets left open.
  pytest.mark.filterwarnings("ignore:.*credentials.*"),
  pytest.mark.filterwarnings("ignore::ResourceWarning"),
  pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
  gcsfs = pytest.importorskip("gcsfs")
  emulator = pytest.importorskip("gcp_storage_emulator.server")
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  running = emulator.create_server(
    "127.0.0.1", port, in_memory=True, default_bucket="bucket"
  )
  running.start()
  url = f"http://127.0.0.1:{port}"
  logging.getLogger("gcsfs").setLevel(logging.ERROR)
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("STORAGE_EMULATOR_HOST", url)
    patch.setenv("TENSORSTORE_GCS_HTTP_URL", url)
    patch.setenv("EPATH_USE_TF", "false")
    gcsfs.GCSFileSystem.clear_instance_cache()
    yield
    gcsfs.GCSFileSystem.clear_instance_cache()
  running.stop()


@pytest.fixture
def bucket(server: None, request: pytest.FixtureRequest) -> str:
  return f"gs://bucket/{request.node.name.split('[')[0]}"


@pytest.fixture(autouse=True)
def as_users_run_it() -> Iterator[None]:
  with jax.numpy_dtype_promotion("standard"):
    yield


def config(**fields: Any) -> ConfigDict:
  made = base()
  made.name, made.model = "tiny", "mlp"
  made.model_args.hidden = (8,)
  made.num_train, made.num_test = 128, 40
  made.train.update(batch_size=64, epochs=2.0, checkpoint_every=2, log_every=1)
  made.train.update(fields)
  made.evaluate.update(wrong_keys=2, wrong_images=20, distance_keys=1)
  set_schemes(made, float32=scheme("deep_lock", "Deep-Lock"))
  return made


def everything(folder: str) -> dict[str, bytes]:
  """All objects of a folder, with what they hold."""
  bucket = fsspec.filesystem("gs")
  return {name: bucket.cat_file(name) for name in bucket.find(folder)}


# -------------------------------------------------------------------- files


def test_text_is_written_and_grows(bucket: str) -> None:
  file = files.path(f"{bucket}/a.txt")
  assert files.names(file.parent) == []
  files.append(file, "one\n")
  files.append(file, "two\n")
  assert file.read_text() == "one\ntwo\n"
  files.write(file, "anew")
  assert file.read_text() == "anew"
  assert files.names(file.parent) == ["a.txt"]


def test_a_mirror_copies_what_changed(bucket: str) -> None:
  place = files.path(bucket)
  (place / "lines").write_text("before\n")
  mirror = files.Mirror(place)
  mirror.fetch("lines")
  mirror.fetch("absent")
  with (mirror.folder / "lines").open("a") as lines:
    lines.write("after\n")
  (mirror.folder / "deep").mkdir()
  (mirror.folder / "deep" / "b").write_bytes(b"\x00")
  assert (place / "lines").read_text() == "before\n"
  mirror.flush()
  assert (place / "lines").read_text() == "before\nafter\n"
  assert (place / "deep" / "b").read_bytes() == b"\x00"
  mirror.close()
  assert not mirror.folder.exists()


# --------------------------------------------------------------------- keys


def test_no_key_goes_to_a_bucket(tmp_path: pathlib.Path) -> None:
  with pytest.raises(WorkdirError, match="no key may lie.*--keydir"):
    Workdir(config(), "gs://bucket/run")
  for folder in ("gs://bucket/run", str(tmp_path / "run")):
    with pytest.raises(WorkdirError, match="keys must not lie in a bucket"):
      Workdir(config(), folder, "gs://bucket/keys")
  assert not (tmp_path / "run").exists()


def test_other_buckets_are_refused(tmp_path: pathlib.Path) -> None:
  with pytest.raises(ValueError, match="memory://a: a bucket's name begins"):
    Workdir(config(), "memory://a", str(tmp_path / "keys"))


def test_a_bucket_keeps_one_run(bucket: str, tmp_path: pathlib.Path) -> None:
  first = Workdir(config(), bucket, str(tmp_path / "keys"))
  again = Workdir(config(), bucket, str(tmp_path / "keys"))
  assert first.secret == again.secret and first.key_path == again.key_path
  with pytest.raises(WorkdirError, match="differs at train.seed"):
    Workdir(config(seed=1), bucket, str(tmp_path / "keys"))


# -------------------------------------------------------------- checkpoints


def test_plain_checkpoints(bucket: str) -> None:
  tree = {"w": np.arange(6, dtype=np.uint32)}
  checkpoint.save_plain(f"{bucket}/locked", tree)
  trees.assert_same_bits(
    checkpoint.restore_plain(f"{bucket}/locked", tree), tree
  )
  with pytest.raises(FileExistsError, match="is never overwritten"):
    checkpoint.save_plain(f"{bucket}/locked", tree)
  # What a kill leaves: no mark of being whole.
  (epath.Path(bucket) / "locked" / "commit_success.txt").unlink()
  with pytest.raises(FileNotFoundError, match="no checkpoint at gs://"):
    checkpoint.restore_plain(f"{bucket}/locked", tree)
  checkpoint.save_plain(f"{bucket}/locked", tree)
  trees.assert_same_bits(
    checkpoint.restore_plain(f"{bucket}/locked", tree), tree
  )


def test_sealed_checkpoints_are_refused(bucket: str) -> None:
  to = keyring.HpkePrivateKey.generate("x25519")
  with pytest.raises(checkpoint.CheckpointError, match="to disks alone"):
    checkpoint.Manager(bucket, recipients=to)
  with pytest.raises(checkpoint.CheckpointError, match="to disks alone"):
    checkpoint.save(f"{bucket}/sealed", {"w": np.zeros(2)}, to)


# ----------------------------------------------------------------- training


def test_a_run_resumes_from_a_bucket(
  bucket: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  digits = data.load("digits", num_train=128, num_test=10)
  model = models.create("mlp", 10, digits.mean, digits.std, hidden=(8,))
  settings = config(epochs=3.0).train
  nobody = main.keyjax.identity()
  args = settings, digits, model, nobody, ()
  whole = train.train(*args, tmp_path)
  place = files.path(bucket)
  asked = contextlib.nullcontext(lambda step: step == 3)
  with monkeypatch.context() as patch:
    patch.setattr(train.preemption, "watch", lambda: asked)
    with pytest.raises(train.preemption.Preempted):
      train.train(*args, place)
  # A kill while a checkpoint was written.
  (place / "checkpoints" / "3" / "commit_success.txt").unlink()
  resumed = train.train(*args, place)
  trees.assert_same_bits(whole, resumed)
  steps = [
    [json.loads(x)["step"] for x in (p / "metrics.jsonl").open()]
    for p in (place, tmp_path)
  ]
  assert steps[0] == steps[1] == [1, 2, 3, 4, 5, 6]
  assert files.names(place / "tensorboard")


@pytest.mark.slow
def test_the_main_job(bucket: str, tmp_path: pathlib.Path) -> None:
  keydir = tmp_path / "keys"
  rows = main.run(config(), bucket, str(keydir))
  place = files.path(bucket)
  assert json.loads((place / "results.json").read_text()) == rows
  assert "Deep-Lock" in (place / "report.html").read_text()
  assert [p.name for p in tmp_path.iterdir()] == ["keys"]
  (run,) = keydir.iterdir()
  secret = (run / "secret").read_text().strip()
  assert (run / "float32.key").exists()
  found = everything(bucket)
  assert any("/float32/locked/" in name for name in found)
  assert not [x for x in found if x.endswith((".key", "secret"))]
  assert not any(bytes.fromhex(secret) in x for x in found.values())
  assert not any(secret.encode() in x for x in found.values())
  again = main.run(config(), bucket, str(keydir))  # Nothing is done twice.
  assert again == rows
