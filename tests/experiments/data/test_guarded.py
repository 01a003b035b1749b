"""Sealed and tagged folders of TFDS, read like plain ones."""

import json
import pathlib
import shutil

import numpy as np
import pytest

import keyjax
from experiments import data, prepare
from experiments.data import guarded
from experiments.data.guarded import Guard
from experiments.run import config as configs
from keyjax import keyring
from keyjax.errors import ContentError
from tests.data.conftest import write_records
from tests.experiments import small_job
from tests.experiments.data.conftest import SIGNER, VERIFY_KEY, VERSION

pytestmark = pytest.mark.usefixtures("own_cache")


def assert_same(first: data.Dataset, second: data.Dataset) -> None:
  for name in ("train_images", "train_labels", "test_images", "test_labels"):
    np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
  assert first.class_names == second.class_names
  assert first.num_classes == second.num_classes == 10


def cached(tmp_path: pathlib.Path) -> list[pathlib.Path]:
  return list((tmp_path / "cache").rglob("*.npz"))


def test_a_sealed_set_is_the_plain_one_and_is_not_cached(
  plain, sealed, key, tmp_path
):
  guard = Guard(key, verify_key=VERIFY_KEY)
  found = data.load("mnist", sealed, guard=guard)
  assert not cached(tmp_path)
  assert_same(found, data.load("mnist", plain))
  assert cached(tmp_path)
  some = data.load("mnist", sealed, num_train=10, guard=guard)
  assert len(some.train_labels) == 10


def test_a_tagged_set_is_checked_each_time(plain, tags, key, tmp_path):
  guard = Guard(key, tags, VERIFY_KEY)
  assert_same(data.load("mnist", plain, guard=guard), data.load("mnist", plain))
  changed = tmp_path / "changed"
  shutil.copytree(plain, changed)
  train = changed / VERSION / "mnist-train.array_record-00000-of-00001"
  records = list(keyjax.data.record_files.RecordFile(train))
  records[7], records[8] = records[8], records[7]
  train.unlink()
  write_records(train, records)
  with pytest.raises(ContentError, match="record 7 of mnist-train"):
    data.load("mnist", changed, guard=guard)
  assert len(data.load("mnist", changed).train_labels) == 40  # Not checked.


@pytest.mark.parametrize("place", ["cifar10/3.0.1", "mnist/3.0.2"])
def test_another_set_of_the_same_owner_is_refused(
  place, plain, sealed, tags, key, tmp_path
):
  name = place.partition("/")[0]
  for folder, guard in (
    (sealed, Guard(key, verify_key=VERIFY_KEY)),
    (plain, Guard(key, tags, VERIFY_KEY)),
  ):
    moved = tmp_path / "moved" / folder.name
    shutil.copytree(folder / VERSION, moved / place)
    with pytest.raises(ContentError, match=f"holds mnist 3.0.1, not {name}"):
      data.load(name, moved, guard=guard)


def test_images_that_are_streamed_are_read_sealed(sealed, key):
  batches = data.stream(
    "mnist",
    "train",
    batch_size=16,
    seed=0,
    image_size=8,
    data_dir=sealed,
    guard=Guard(key),
  )
  # Twice the same, from memory only.
  for step in (3, 0):
    first, second = batches[step], batches[step]
    assert first["image"].shape == (16, 8, 8, 1)
    np.testing.assert_array_equal(first["image"], second["image"])


def test_what_does_not_fit_is_refused(plain, sealed, tags, key, tmp_path):
  def refused(match: str, folder: pathlib.Path, guard: Guard) -> None:
    with pytest.raises(ValueError, match=match):
      data.load("mnist", folder, guard=guard)

  refused("is sealed: give --config.data_key", sealed, Guard())
  refused("is not sealed; to check tags", plain, Guard(key))
  refused("give --config.data_key, too", plain, Guard(tags=tags))
  refused("tags are of sets that are not", sealed, Guard(key, tags))
  refused("does not exist", sealed, Guard("file:none.key"))
  refused("data_tags=none: there is no such", plain, Guard(key, "none"))
  refused("^data_verify_key: ", sealed, Guard(key, verify_key="a"))
  pasted = "ab" * 32
  for name in ("mnist", "digits", "python_help"):
    with pytest.raises(ValueError, match="data_key: give file:PATH") as found:
      data.load(name, plain, guard=Guard(pasted))
    assert pasted not in str(found.getrepr(style="long"))
  other = tmp_path / "other.key"
  keyring.write_key(other, keyjax.Secret.generate(), plain=True)
  refused("cannot open", sealed, Guard(f"file:{other}"))
  signing = tmp_path / "signing.key"
  keyring.write_key(signing, SIGNER, plain=True)
  refused("with a secret", plain, Guard(f"file:{signing}", tags))
  with pytest.raises(ContentError, match="dataset_info.json is not what"):
    data.load("mnist", plain, guard=Guard(f"file:{other}", tags))
  with pytest.raises(ValueError, match="digits has no folder"):
    data.load("digits", guard=Guard(key))


@pytest.mark.parametrize(
  ("file", "content"),
  [
    ("dataset_info.json", "{"),
    ("dataset_info.json", "[]"),
    ("dataset_info.json", "[" * 100_000),
    ("dataset_info.json", '{"fileFormat":"array_record"}'),
    ("dataset_info.json", {"splits": "a"}),
    ("dataset_info.json", {"splits": ["a"]}),
    ("dataset_info.json", {"splits": [{"name": "a", "shardLengths": ["x"]}]}),
    ("features.json", "{}"),
    ("features.json", '{"pythonClassName":"no.such.Feature"}'),
  ],
)
def test_what_does_not_describe_a_set_is_one_line(
  file, content, plain, key, tmp_path
):
  """Any recipient of a set may have written it."""
  shutil.copytree(plain / VERSION, tmp_path / "source")
  place = tmp_path / "source" / file
  if isinstance(content, dict):
    content = json.dumps(json.loads(place.read_text()) | content)
  place.write_text(content)
  owner = keyring.as_identity(keyring.read_key(key))
  keyjax.data.seal_data(
    tmp_path / "source", tmp_path / "sealed" / VERSION, owner
  )
  with pytest.raises(ValueError, match=f"{file} of .* is not one of TFDS"):
    data.load("mnist", tmp_path / "sealed", guard=Guard(key))


def test_a_key_that_cannot_be_read_is_named(sealed, key, tmp_path):
  file = pathlib.Path(key.removeprefix("file:"))
  file.chmod(0o644)
  for source, match in (
    (key, "others can read it"),
    (f"file:{tmp_path}", "is a folder"),
    ("env:KEYJAX_NO_SUCH_KEY", "is not set"),
  ):
    with pytest.raises(ValueError, match=f"^data_key={source}: .*{match}"):
      data.load("mnist", sealed, guard=Guard(source))


def test_names_of_classes_and_nested_features_are_those_of_the_builder(
  key, tmp_path
):
  import tensorflow_datasets as tfds

  kinds = tfds.features
  features = kinds.FeaturesDict(
    {
      "label": kinds.ClassLabel(names=["cat", "dog"]),
      "parts": kinds.Sequence({"label": kinds.ClassLabel(names=["tail"])}),
      "tags": kinds.Sequence(kinds.ClassLabel(names=["old", "new"])),
      "info": {"place": kinds.ClassLabel(num_classes=3)},
    }
  )
  folder = tmp_path / "toy/1.0.0"
  folder.mkdir(parents=True)
  features.save_config(folder)
  example = {
    "label": "dog",
    "parts": [{"label": "tail"}] * 2,
    "tags": ["new", "old", "new"],
    "info": {"place": 2},
  }
  # The name of one split ends like that of the other.
  sizes = {"train": 2, "pre-train": 3}
  with prepare._without_tensorflow(()):
    record = features.serialize_example(features.encode_example(example))
  for split, size in sizes.items():
    name = f"toy-{split}.array_record-00000-of-00001"
    write_records(folder / name, [record] * size)
  described = {
    "name": "toy",
    "version": "1.0.0",
    "fileFormat": "array_record",
    "splits": [
      {"name": split, "shardLengths": [str(size)]}
      for split, size in sizes.items()
    ],
  }
  (folder / "dataset_info.json").write_text(json.dumps(described))
  owner = keyring.as_identity(keyring.read_key(key))
  keyjax.data.seal_data(folder, tmp_path / "sealed", owner)
  found = guarded.Folder(guarded.open_files(tmp_path / "sealed", Guard(key)))
  kinds = found.info.features
  assert kinds["label"].names == ["cat", "dog"]
  assert kinds["parts"]["label"].names == ["tail"]
  assert kinds["tags"].feature.names == ["old", "new"]
  assert kinds["info"]["place"].names == ["0", "1", "2"]
  for split, size in sizes.items():
    records = found.as_data_source(split)
    assert len(records) == size
  assert records[2]["label"] == 1
  assert list(records[2]["tags"]) == [1, 0, 1]
  assert list(records[2]["parts"]["label"]) == [0, 0]


def test_a_text_may_be_sealed(key, tmp_path):
  text = tmp_path / "play.txt"
  text.write_text("To be, or not to be, that is the question. " * 40)
  owner = keyring.as_identity(keyring.read_key(key))
  keyjax.data.seal_data(text, tmp_path / "sealed", owner)
  found, plain = (
    data.load("text", text=path, context=16, guard=guard)
    for path, guard in ((tmp_path / "sealed", Guard(key)), (text, Guard()))
  )
  np.testing.assert_array_equal(found.train_images, plain.train_images)
  with pytest.raises(ValueError, match="is sealed"):
    data.load("text", text=tmp_path / "sealed")


def config_of(folder: pathlib.Path, source: str):
  made = small_job.config(hidden=8, epochs=1.0)
  made.dataset = "mnist"
  made.data_dir, made.data_key = str(folder), source
  made.train.batch_size = 8
  return made


def test_a_config_names_the_source_of_a_key(plain, sealed, key):
  first, second = config_of(plain, ""), config_of(sealed, key)
  assert_same(data.from_config(first), data.from_config(second))
  second.data_dir = first.data_dir
  assert configs.meaning(first) == configs.meaning(second)


@pytest.mark.slow
def test_a_run_trains_on_sealed_data(plain, sealed, key, tmp_path):
  from experiments import main

  first = small_job.run(main, config_of(plain, ""), tmp_path / "a")
  second = small_job.run(main, config_of(sealed, key), tmp_path / "b")
  values = [
    [r["value"] for r in rows if r["condition"] in ("plain", "right")]
    for rows in (first, second)
  ]
  assert values[0]
  assert values[0] == values[1]
  assert not cached(tmp_path / "b")
  raw = keyring.read_key(key)._bytes
  for file in (tmp_path / "b").rglob("*"):
    content = file.read_bytes() if file.is_file() else b""
    assert raw not in content and raw.hex().encode() not in content
