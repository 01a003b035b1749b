"""A small data set of array_record files and a description."""

import pathlib
from collections.abc import Sequence

import pytest

from keyjax import Secret, data, keyring
from keyjax.data.record_files import RecordWriter

TRAIN = [f"image {i} ".encode() * (i % 7) for i in range(30)]  # Some empty.
TEST = [f"other {i}".encode() for i in range(10)]
MORE = [b"new"] * 5  # Equal records.
LABELS = "cat\ndog\n"
SIGNER = keyring.SigningKey.generate()


def write_records(path: pathlib.Path, records: Sequence[bytes]) -> None:
  writer = RecordWriter(path)
  for record in records:
    writer.write(record)
  writer.close()


@pytest.fixture
def owner() -> keyring.SymmetricKey:
  return keyring.SymmetricKey(Secret.generate())


@pytest.fixture
def source(tmp_path: pathlib.Path) -> pathlib.Path:
  """Return the folder of a data set, with files as TFDS has them."""
  folder = tmp_path / "source"
  (folder / "labels").mkdir(parents=True)
  (folder / "labels/names.txt").write_text(LABELS)
  write_records(folder / "a-test.array_record-00000-of-00001", TEST)
  write_records(folder / "a-train.array_record-00000-of-00002", TRAIN[:20])
  write_records(folder / "a-train.array_record-00001-of-00002", TRAIN[20:])
  return folder


@pytest.fixture
def sealed(source, owner, tmp_path) -> pathlib.Path:
  """Return a signed set of the same files."""
  path = tmp_path / "sealed"
  count = data.seal_data(
    source, path, owner, name="animals", signer=SIGNER.private
  )
  assert count == 41
  return path
