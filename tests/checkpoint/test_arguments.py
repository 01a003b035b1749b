"""The first hour with checkpoints: wrong arguments are named in one line."""

import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import keyjax
from keyjax import Secret, checkpoint, keyring
from keyjax.checkpoint import CheckpointStorageError
from keyjax.keyring import KeyringError

TREE = {"w": np.ones(3, np.float32)}
SECRET = Secret(b"O" * 32)
OWNER = keyring.SymmetricKey(SECRET)
PUBLIC = keyring.HpkePrivateKey.generate("x25519").public
KEY = keyjax.deep_lock().keygen(SECRET, TREE, None)
Folder = pathlib.Path

CASES: dict[str, tuple[Callable[[Folder], Any], type[Exception], str]] = {
  # What is `folder / "c"` is a checkpoint, `folder / "file"` a file.
  "save swapped": (
    lambda folder: checkpoint.save(folder / "x", OWNER, TREE),  # type: ignore[arg-type]
    ValueError,
    "the tree is a SymmetricKey: the order is path, tree, recipients",
  ),
  "save under a file": (
    lambda folder: checkpoint.save(folder / "file" / "x", TREE, OWNER),
    CheckpointStorageError,
    "file is a file, not a folder",
  ),
  "recipient path": (
    lambda folder: checkpoint.save(folder / "x", TREE, folder / "file"),  # type: ignore[arg-type]
    TypeError,
    "is not a recipient: read the file and use keyring.parse_recipient",
  ),
  "recipient key": (
    lambda folder: checkpoint.save(folder / "x", TREE, KEY),
    TypeError,
    "a ChainKey is not a recipient: the key of a scheme opens no checkpoint",
  ),
  "recipient keyring": (
    lambda folder: checkpoint.save(
      folder / "x",
      TREE,
      keyring.Keyring.create(folder / "ring", SECRET, "team"),  # type: ignore[arg-type]
    ),
    TypeError,
    r"a Keyring is not a recipient: give its recipient\(\)",
  ),
  "no identity": (
    lambda folder: checkpoint.restore(folder / "c", []),
    KeyringError,
    "no identity was given: give a key that opens .*c",
  ),
  "identity public": (
    lambda folder: checkpoint.restore(folder / "c", PUBLIC),  # type: ignore[arg-type]
    TypeError,
    "HpkePublicKey is not an identity: it only seals; give the private key",
  ),
  "identity like": (
    lambda folder: checkpoint.restore(folder / "c", TREE, OWNER),  # type: ignore[arg-type]
    TypeError,
    "a dict is not an identity",
  ),
  "manager identities": (
    lambda folder: checkpoint.Manager(folder / "m", identities=OWNER),
    ValueError,
    "identities without recipients: checkpoints would be saved in the clear",
  ),
  "manager nobody": (
    lambda folder: checkpoint.Manager(folder / "m", recipients=[]),
    ValueError,
    "recipients is empty: give at least one, or None for plain",
  ),
  "manager keep": (
    lambda folder: checkpoint.Manager(folder / "m", OWNER),  # type: ignore[arg-type]
    ValueError,
    "keep=a SymmetricKey: a whole number, at least 1",
  ),
  "manager none": (
    lambda folder: checkpoint.Manager(folder / "m", keep=0),
    ValueError,
    "keep=0: a whole number, at least 1",
  ),
  "manager file": (
    lambda folder: checkpoint.Manager(folder / "file"),
    CheckpointStorageError,
    "file is a file, not a folder",
  ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
  folder = tmp_path_factory.mktemp("arguments")
  (folder / "file").write_text("")
  checkpoint.save(folder / "c", TREE, OWNER)
  yield folder


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_wrong_arguments(case: Any, folder: Folder) -> None:
  call, error, message = case
  with pytest.raises(error, match=message) as found:
    call(folder)
  assert len(str(found.value).splitlines()) == 1
  assert not (folder / "x").exists() and not (folder / "m").exists()


def test_a_manager_without_identities(folder: Folder) -> None:
  with checkpoint.Manager(folder / "run", recipients=OWNER) as manager:
    with pytest.raises(ValueError, match="step=a dict of w: a whole number"):
      manager.save(TREE, 1)  # type: ignore[arg-type]
    manager.save(1, TREE)
    manager.wait_until_finished()
    with pytest.raises(KeyringError, match="has no identities: give it ident"):
      manager.restore(TREE)
