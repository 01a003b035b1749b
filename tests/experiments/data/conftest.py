"""A small data set in a folder of TFDS: plain, sealed, and tagged."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

import keyjax
from experiments import data, prepare
from keyjax import keyring
from tests.data.conftest import write_records

SIGNER = keyring.SigningKey.generate()
VERIFY_KEY = keyring.format_verify_key(SIGNER.public)
VERSION = "mnist/3.0.1"
SIZES = {"train": 40, "test": 20}


def write_set(
  folder: pathlib.Path,
  features: Any,
  examples: Mapping[str, Sequence[Mapping[str, Any]]],
  shards: int = 1,
) -> None:
  """Write a folder of TFDS.

  Args:
    folder: New folder, `NAME/VERSION`.
    features: Its features.
    examples: Those of each split; shards divide their number.
    shards: Files of a split.
  """
  folder.mkdir(parents=True)
  features.save_config(folder)
  name = folder.parent.name
  described: dict[str, Any] = {
    "name": name,
    "version": folder.name,
    "fileFormat": "array_record",
    "splits": [],
  }
  for split, found in examples.items():
    with prepare._without_tensorflow(()):
      records = [
        features.serialize_example(features.encode_example(x)) for x in found
      ]
    size = len(records) // shards
    for i in range(shards):
      file = f"{name}-{split}.array_record-{i:05}-of-{shards:05}"
      write_records(folder / file, records[i * size : (i + 1) * size])
    described["splits"].append(
      {
        "name": split,
        "shardLengths": [str(size)] * shards,
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
      }
    )
  (folder / "dataset_info.json").write_text(json.dumps(described))


@pytest.fixture(scope="session")
def plain(tmp_path_factory) -> pathlib.Path:
  """Write a folder of TFDS with the digits as small MNIST images."""
  import tensorflow_datasets as tfds

  root = tmp_path_factory.mktemp("plain")
  features = tfds.features.FeaturesDict(
    {
      "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
      "label": tfds.features.ClassLabel(num_classes=10),
    }
  )
  digits = data.load("digits")
  examples = {
    split: [
      {"image": image, "label": int(label)}
      for image, label in zip(
        digits.train_images[:size], digits.train_labels[:size], strict=True
      )
    ]
    for split, size in SIZES.items()
  }
  write_set(root / VERSION, features, examples)
  return root


@pytest.fixture
def key(tmp_path) -> str:
  """Write a secret; return its source."""
  keyring.write_key(tmp_path / "data.key", keyjax.Secret.generate(), plain=True)
  return f"file:{tmp_path / 'data.key'}"


@pytest.fixture
def sealed(plain, key, tmp_path) -> pathlib.Path:
  owner = keyring.as_identity(keyring.read_key(key))
  path = tmp_path / "sealed" / VERSION
  keyjax.data.seal_data(plain / VERSION, path, owner, signer=SIGNER.private)
  return tmp_path / "sealed"


@pytest.fixture
def tags(plain, key, tmp_path) -> str:
  secret = keyring.read_key(key)
  tags = keyjax.data.tag_data(plain / VERSION, secret, "mnist")
  tags.write(tmp_path / "mnist.tags", SIGNER)
  return str(tmp_path / "mnist.tags")


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
