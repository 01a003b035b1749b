"""A workdir in a bucket; see tests/buckets.py for the server."""

import contextlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import pytest
from ml_collections import ConfigDict

from experiments import data, main, models
from experiments.run import files
from experiments.run.config import base, scheme, set_schemes
from experiments.run.encryption import UNENCRYPTED, Encryption
from experiments.run.workdir import Workdir, WorkdirError
from experiments.training import train
from keyjax import Secret, checkpoint, keyring
from tests import buckets, trees

pytestmark = [
  # From other packages: missing credentials, sockets left open.
  pytest.mark.filterwarnings("ignore:.*credentials.*"),
  pytest.mark.filterwarnings("ignore::ResourceWarning"),
  pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def as_users_run_it() -> Iterator[None]:
  with jax.numpy_dtype_promotion("standard"):
    yield


def config(**fields: Any) -> ConfigDict:
  made = base()
  made.name = "tiny"
  made.model = "mlp"
  made.model_args.hidden = (8,)
  made.num_train = 128
  made.num_test = 40
  made.train.update(batch_size=64, epochs=2.0, checkpoint_every=2, log_every=1)
  made.train.update(fields)
  made.evaluate.update(wrong_keys=2, wrong_images=20, distance_keys=1)
  set_schemes(made, float32=scheme("deep_lock", "Deep-Lock"))
  return made


# -------------------------------------------------------------------- files


def test_text_is_written_and_appended(bucket: str) -> None:
  file = files.path(f"{bucket}/a.txt")
  assert files.names(file.parent) == []
  files.append(file, "one\n")
  files.append(file, "two\n")
  assert file.read_text() == "one\ntwo\n"
  files.write(file, "again")
  assert file.read_text() == "again"
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
  with pytest.raises(WorkdirError, match="no key may be stored.*--keydir"):
    Workdir(config(), "gs://bucket/run")
  for folder in ("gs://bucket/run", str(tmp_path / "run")):
    with pytest.raises(WorkdirError, match="keys must not be in a bucket"):
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


# ----------------------------------------------------------------- training


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "sealed"])
def test_a_run_resumes_from_a_bucket(
  kind: str,
  bucket: str,
  tmp_path: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  owner = keyring.SymmetricKey(Secret.generate())
  sealed = Encryption(recipients=[owner], identities=(owner,))
  encryption = sealed if kind == "sealed" else UNENCRYPTED
  digits = data.load("digits", num_train=128, num_test=10)
  model = models.create("mlp", 10, digits.mean, digits.std, hidden=(8,))
  settings = config(epochs=3.0).train

  def run(folder: Any, encryption: Encryption = UNENCRYPTED) -> Any:
    return train.train(
      settings,
      dataset=digits,
      model=model,
      scheme=main.keyjax.identity(),
      key=(),
      folder=folder,
      encryption=encryption,
    )

  whole = run(tmp_path)
  place = files.path(bucket)
  asked = contextlib.nullcontext(lambda step: step == 3)
  with monkeypatch.context() as patch:
    patch.setattr(train.preemption, "watch", lambda: asked)
    with pytest.raises(train.preemption.Preempted):
      run(place, encryption)
  # A kill while a checkpoint was written.
  (place / "checkpoints" / "3" / "commit_success.txt").unlink()
  resumed = run(place, encryption)
  trees.assert_same_bits(whole, resumed)
  last = str(place / "checkpoints" / "6")
  if kind == "sealed":
    assert checkpoint.inspect(last, owner)["step"] == 6
  else:
    with pytest.raises(checkpoint.CheckpointError, match="not a sealed"):
      checkpoint.inspect(last)
  steps = [
    [json.loads(x)["step"] for x in (p / "metrics.jsonl").open()]
    for p in (place, tmp_path)
  ]
  assert steps[0] == steps[1] == [1, 2, 3, 4, 5, 6]
  assert files.names(place / "tensorboard")


@pytest.mark.slow
def test_the_main_job(bucket: str, tmp_path: pathlib.Path) -> None:
  keydir = tmp_path / "keys"
  settings, me = config(), keyring.HpkePrivateKey.generate("x25519")
  settings.encrypt.recipients = keyring.format_recipient(me.public)
  rows = main.run(settings, bucket, str(keydir))
  place = files.path(bucket)
  assert json.loads((place / "results.json").read_text()) == rows
  assert "Deep-Lock" in (place / "report.html").read_text()
  assert [p.name for p in tmp_path.iterdir()] == ["keys"]
  (run,) = keydir.iterdir()
  secret = (run / "secret").read_text().strip()
  assert (run / "float32.key").exists()
  found = buckets.everything(bucket)
  assert any(name.startswith("float32/locked/") for name in found)
  assert not [x for x in found if x.endswith((".key", "secret"))]
  assert not any(bytes.fromhex(secret) in x for x in found.values())
  assert not any(secret.encode() in x for x in found.values())
  sealed = {n.partition("/sealed/")[0] for n in found if "/sealed/" in n}
  assert sealed and all(
    checkpoint.verify(f"{bucket}/{n}", me) == [] for n in sealed
  )
  keyring.write_key(tmp_path / "me.key", me, plain=True)
  settings.encrypt.identity = f"file:{tmp_path / 'me.key'}"
  again = main.run(settings, bucket, str(keydir))  # Nothing is done twice.
  assert again == rows
