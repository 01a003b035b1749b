"""Who vouches for a checkpoint, which run it is of, and who was revoked."""

import pathlib
import shutil
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from keyjax import Secret, checkpoint, keyring
from keyjax.checkpoint.format import manifest_json
from keyjax.checkpoint.opened import open_checkpoint

OWNER = keyring.SymmetricKey(Secret(b"o" * 32))
FRIEND = keyring.SymmetricKey(Secret(b"f" * 32))
SIGNER = ed25519.Ed25519PrivateKey.from_private_bytes(b"s" * 32)
OTHER = ed25519.Ed25519PrivateKey.from_private_bytes(b"t" * 32)
TREE = {"w": np.arange(8, dtype=np.float32)}
LIKE = {"w": np.zeros(8, np.float32)}


# ------------------------------------------------------------- who vouches


def test_only_what_was_signed_is_signed_again(tmp_path: pathlib.Path) -> None:
  """Recipients can write a checkpoint; the owner's signature is not theirs."""
  old, new = tmp_path / "old", tmp_path / "new"
  for signer in (None, OTHER):
    checkpoint.save(old, TREE, [OWNER, FRIEND], signer=signer)
    with pytest.raises(
      checkpoint.CheckpointSignatureError, match="give verify_key, the key of"
    ):
      checkpoint.reencrypt(old, new, OWNER, OWNER, signer=SIGNER)
    with pytest.raises(checkpoint.CheckpointSignatureError):
      public = SIGNER.public_key()
      checkpoint.reencrypt(
        old, new, OWNER, OWNER, signer=SIGNER, verify_key=public
      )
    assert not new.exists()
    shutil.rmtree(old)
  checkpoint.save(old, TREE, [OWNER, FRIEND], signer=OTHER)
  checkpoint.reencrypt(
    old, new, OWNER, OWNER, signer=SIGNER, verify_key=OTHER.public_key()
  )
  newer = tmp_path / "newer"
  checkpoint.reencrypt(new, newer, OWNER, OWNER, signer=SIGNER)
  assert not checkpoint.verify(newer, OWNER, verify_key=SIGNER.public_key())


def test_a_manager_that_signs_continues_only_what_it_signed(
  tmp_path: pathlib.Path,
) -> None:
  people: Any = {"recipients": [OWNER, FRIEND], "identities": OWNER}
  folder = tmp_path / "m"
  with checkpoint.Manager(folder, signer=SIGNER, **people) as manager:
    manager.save(1, TREE)
    manager.wait_until_finished()
    assert manager.restore(LIKE)["w"][7] == 7
  with checkpoint.Manager(folder, **people) as manager:  # As any recipient can.
    manager.save(2, TREE)
  with (
    checkpoint.Manager(folder, signer=SIGNER, **people) as manager,
    pytest.raises(checkpoint.CheckpointSignatureError, match="is not signed"),
  ):
    manager.restore(LIKE)


# -------------------------------------------------- which model, which run


def test_name_and_run_are_sealed_and_checked(tmp_path: pathlib.Path) -> None:
  path = tmp_path / "c"
  of: Any = {"step": 100, "name": "net-a", "run": "run-b"}
  checkpoint.save(path, TREE, OWNER, **of)
  checkpoint.restore(path, OWNER, **of)
  for what, value, error in (
    ("run", "run-a", "is of run run-b, not of run run-a"),
    ("run", "", "is of run run-b, and no run is expected"),
    ("name", "net-b", "is of model net-a, not of model net-b"),
    ("step", 99, "is of step 100, not of step 99"),
  ):
    changed = of | {what: value}
    for call in (
      lambda of=changed: checkpoint.restore(path, OWNER, **of),
      lambda of=changed: checkpoint.read_metadata(path, OWNER, **of),
      lambda of=changed: checkpoint.verify(path, OWNER, **of),
      lambda of=changed: checkpoint.export_weights(
        path, tmp_path / "x.msgpack", OWNER, **of
      ),
    ):
      with pytest.raises(checkpoint.CheckpointContentError, match=error):
        call()
  # What was given may be a key that was pasted.
  for what, pasted in (
    ("run", "k" * 44),
    ("name", "ab" * 16),
    ("step", 1 << 99),
  ):
    with pytest.raises(
      checkpoint.CheckpointError, match="that was given$"
    ) as e:
      checkpoint.restore(path, OWNER, **(of | {what: pasted}))
    assert str(pasted) not in str(e.value)
  # Holders see both, strangers neither.
  found = checkpoint.inspect(path, OWNER)
  assert (found["name"], found["run"]) == ("net-a", "run-b")
  assert not {"name", "run"} & set(checkpoint.inspect(path))
  for file in path.rglob("*"):
    if file.is_file():
      assert not any(x in file.read_bytes() for x in (b"net-a", b"run-b"))
  checkpoint.reencrypt(path, tmp_path / "d", OWNER, OWNER)
  checkpoint.restore(tmp_path / "d", OWNER, **of)


def test_what_records_no_run_is_not_of_the_expected_one(
  tmp_path: pathlib.Path,
) -> None:
  checkpoint.save(tmp_path / "c", TREE, OWNER)
  checkpoint.restore(tmp_path / "c", OWNER, name="", run="")
  with pytest.raises(checkpoint.CheckpointError, match="records no run, and"):
    checkpoint.restore(tmp_path / "c", OWNER, run="run-a")
  for wrong in ("a b", "\n", "-", "x" * 129):
    for what in ("name", "run"):
      with pytest.raises(ValueError, match=f"{what}=.*: 1 to 128 letters"):
        checkpoint.save(tmp_path / "d", TREE, OWNER, **{what: wrong})
    with pytest.raises(ValueError, match="run=.*: 1 to 128 letters"):
      checkpoint.Manager(tmp_path / "m", recipients=OWNER, run=wrong)
  assert not (tmp_path / "d").exists()


def test_plain_managers_refuse_what_they_could_not_check(
  tmp_path: pathlib.Path,
) -> None:
  only_sealed: list[dict[str, Any]] = [
    {"name": "net"},
    {"run": "a"},
    {"signer": SIGNER},
    {"verify_key": SIGNER.public_key()},
  ]
  for options in only_sealed:
    with pytest.raises(ValueError, match="without recipients: "):
      checkpoint.Manager(tmp_path / "m", **options)
  assert not (tmp_path / "m").exists()


def test_manifests_with_names_are_strict(tmp_path: pathlib.Path) -> None:
  checkpoint.save(tmp_path / "c", TREE, OWNER, run="r")
  manifest = open_checkpoint(tmp_path / "c", OWNER).manifest
  data = manifest_json.to_bytes(manifest)
  assert b'"version":3' in data
  assert manifest_json.from_bytes(data) == manifest
  for old, new in (
    (b'"run":"r"', b'"run":"\\n"'),
    (b'"run":"r"', b'"run":""'),
    (b'"run":"r"', b'"run":1'),
    (b'"run":"r",', b""),
    (b'"version":3', b'"version":2'),
    (b'"version":3', b'"version":4'),
  ):
    assert old in data
    with pytest.raises(checkpoint.CheckpointContentError):
      manifest_json.from_bytes(data.replace(old, new))


def run(folder: pathlib.Path, **options: Any) -> Any:
  """Open a run whose checkpoints are sealed and signed."""
  return checkpoint.Manager(
    folder, recipients=OWNER, identities=OWNER, signer=SIGNER, **options
  )


def test_a_manager_restores_only_its_own_run(tmp_path: pathlib.Path) -> None:
  for name in ("a", "b"):
    with run(tmp_path / name / "checkpoints") as manager:
      manager.save(100, {"w": TREE["w"] + ord(name)})
  step = tmp_path / "a/checkpoints/100"
  shutil.rmtree(step)
  shutil.copytree(tmp_path / "b/checkpoints/100", step)
  with run(tmp_path / "a/checkpoints") as manager:
    with pytest.raises(checkpoint.CheckpointError, match="is of run") as caught:
      manager.restore(LIKE)
  # The folder's id says nothing about its path; a moved run is opened by it.
  found = checkpoint.inspect(step, OWNER)["run"]
  assert f"was moved, give run={found!r}" in str(caught.value)
  (tmp_path / "b").rename(tmp_path / "moved")
  with run(tmp_path / "moved/checkpoints", run=found) as manager:
    assert manager.restore(LIKE)["w"][0] == ord("b")


def test_a_manager_without_a_run_continues_what_records_none(
  tmp_path: pathlib.Path,
) -> None:
  """So were all checkpoints of earlier releases."""
  folder = tmp_path / "m"
  checkpoint.save(folder / "3", TREE, OWNER, step=3, signer=SIGNER)
  with run(folder) as manager:
    assert manager.restore(LIKE)["w"][7] == 7
  with (
    run(folder, run="a") as manager,
    pytest.raises(checkpoint.CheckpointError, match="records no run, and run"),
  ):
    manager.restore(LIKE)
  with (
    run(folder, name="net") as manager,
    pytest.raises(checkpoint.CheckpointError, match="records no model"),
  ):
    manager.restore(LIKE)


# --------------------------------------------------------- who was revoked


def test_reencryption_keeps_the_list_of_the_revoked(
  tmp_path: pathlib.Path,
) -> None:
  paths = [tmp_path / name for name in "abcd"]
  checkpoint.save(paths[0], TREE, OWNER)
  checkpoint.rewrap(paths[0], OWNER, OWNER, revoked=["aes:one"])
  checkpoint.reencrypt(paths[0], paths[1], OWNER, OWNER, revoked=[FRIEND.id])
  checkpoint.reencrypt(paths[1], paths[2], OWNER, OWNER)
  for path in paths[1:3]:
    listed = checkpoint.inspect(path)["envelope"]["revoked"]
    assert set(listed) == {"aes:one", FRIEND.id}
    with pytest.raises(keyring.KeyringError, match="was revoked"):
      checkpoint.restore(path, FRIEND)
  both = [OWNER, FRIEND]
  for call in (
    lambda **more: checkpoint.rewrap(paths[2], OWNER, both, **more),
    lambda **more: checkpoint.reencrypt(
      paths[2], paths[3], OWNER, both, **more
    ),
  ):
    with pytest.raises(keyring.KeyringError, match="only `reinstate` gives"):
      call()
  assert not paths[3].exists()
  call(reinstate=True)
  assert checkpoint.inspect(paths[3])["envelope"]["revoked"] == ["aes:one"]
  checkpoint.restore(paths[3], FRIEND)
