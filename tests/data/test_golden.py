"""A set and its tags that an earlier commit has written."""

import pytest

from keyjax import Secret, data, keyring
from tests.data.conftest import LABELS, TRAIN, write_records
from tests.golden import archives

SECRET = Secret(bytes(range(32)))
SIGNER = keyring.SigningKey("ed25519", bytes(32))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return archives.unpacked("data", tmp_path_factory.mktemp("golden"))


def test_a_set_of_an_earlier_commit_opens(folder):
  opened = data.open_data(
    folder / "sealed",
    keyring.SymmetricKey(SECRET),
    name="animals",
    verify_key=SIGNER.public,
  )
  assert opened.read("labels/names.txt").decode() == LABELS
  assert opened.records().__getitems__(range(30)) == TRAIN


def test_tags_of_an_earlier_commit_are_right(folder):
  tags = data.RecordTags.read(folder / "animals.tags", SIGNER.public)
  plain = folder / "plain"
  (plain / "labels").mkdir(parents=True)
  (plain / "labels/names.txt").write_text(LABELS)
  for i, part in enumerate((TRAIN[:20], TRAIN[20:])):
    write_records(plain / f"a-train.array_record-0000{i}-of-00002", part)
  assert data.verify_tagged(plain, tags, SECRET) == []
