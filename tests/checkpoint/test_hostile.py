"""Unusual folders, wrong arguments, and files forged with a public key."""

import os
import pathlib
import pickle
from typing import Any

import numpy as np
import pytest

from keyjax import Secret, checkpoint, keyring
from keyjax.checkpoint import errors
from keyjax.checkpoint.format import layout, manifest_json
from keyjax.checkpoint.format.manifest import DTYPES, Leaf, Manifest
from keyjax.checkpoint.storage import orbax_writer
from tests import trees
from tests.checkpoint.children import Server

TREE = {"w": np.arange(6, dtype=np.float32)}
OWNER = keyring.SymmetricKey(Secret(b"o" * 32))
ID = "ab" * 16


def forged(
  path: pathlib.Path,
  shape: list[int],
  dtype: str,
  segment: tuple[int, ...] = (4096,),
) -> pathlib.Path:
  """Write 4 KiB whose manifest has one leaf of any size."""
  box = ((0,) * len(shape), tuple(shape), 0)
  placed, used = layout.assign_offsets([[box]], [DTYPES[dtype].itemsize], 1)
  leaf = Leaf("w", dtype, tuple(shape), "numpy", tuple(placed[0]))
  found = Manifest(ID, 0, (leaf,), 0, {}, layout.choose_streams(used), None)
  data_key = os.urandom(32)
  arrays = {
    "manifest": np.frombuffer(
      manifest_json.seal_manifest(data_key, found), np.uint8
    ),
    "signature": np.zeros(5000, np.uint8),
    "000000": np.zeros(segment, np.uint8),
  }
  envelope = keyring.seal_envelope(data_key, [OWNER], checkpoint=ID)
  streams = layout.Streams(
    processes=1, segments=1, segment_size=4096, read_size=4096
  )
  sealed = orbax_writer.SealedArrays(envelope, arrays, streams)
  orbax_writer.write(path, sealed)
  return path


@pytest.mark.parametrize("name", ["a b", "p%41q", "h#y", "ünï", "x&y=z;"])
def test_any_name_of_a_folder_is_a_path_and_not_a_url(
  name: str, tmp_path: pathlib.Path
) -> None:
  checkpoint.save(tmp_path / name / name, TREE, OWNER)
  found = checkpoint.restore(tmp_path / name / name, OWNER)
  trees.assert_same_bits(found, TREE)


@pytest.mark.parametrize("name", ["m[1]", "m*", "m?"])
def test_names_that_orbax_takes_for_patterns_are_refused(
  name: str, tmp_path: pathlib.Path
) -> None:
  for path in (tmp_path / name, tmp_path / name / "c"):
    with pytest.raises(checkpoint.CheckpointError, match="a pattern"):
      checkpoint.save(path, TREE, OWNER)
    with pytest.raises(checkpoint.CheckpointError, match="a pattern"):
      checkpoint.save_plain(path, TREE)
    with pytest.raises(checkpoint.CheckpointError, match="a pattern"):
      checkpoint.Manager(path)
  assert list(tmp_path.iterdir()) == []


def test_a_dangling_link_is_not_overwritten(tmp_path: pathlib.Path) -> None:
  (tmp_path / "c").symlink_to(tmp_path / "nowhere")
  with pytest.raises(FileExistsError, match="never overwritten"):
    checkpoint.save(tmp_path / "c", TREE, OWNER)


WRITER = """
import pathlib, sys, time
import numpy as np
from keyjax import Secret, checkpoint, keyring
folder, value = pathlib.Path(sys.argv[1]), float(sys.argv[2])
owner = keyring.SymmetricKey(Secret(b"o" * 32))
tree = {"w": np.full(1_000_000, value)}
(folder / f"ready-{value}").touch()
while len(list(folder.glob("ready-*"))) < 2:
  time.sleep(0.01)
try:
  checkpoint.save(folder / "c", tree, owner)
  print("saved", value)
except FileExistsError:
  print("refused")
"""


def test_one_of_two_writers_is_refused_and_nothing_is_mixed(
  tmp_path: pathlib.Path, children: Server
) -> None:
  writers = [children.start(WRITER, tmp_path, value) for value in (1, 2)]
  assert [writer.wait() for writer in writers] == [0, 0]
  said = sorted(writer.out() for writer in writers)
  assert said[0] == "refused\n"
  value = float(said[1].removeprefix("saved "))
  found = checkpoint.restore(tmp_path / "c", OWNER)
  assert np.array_equal(found["w"], np.full(1_000_000, value))
  assert checkpoint.verify(tmp_path / "c", OWNER) == []
  assert [p.name for p in tmp_path.glob(".*")] == []


def test_a_second_manager_reads_without_disturbing_the_first(
  tmp_path: pathlib.Path,
) -> None:
  with checkpoint.Manager(tmp_path, recipients=OWNER) as first:
    first.save(1, TREE)
    first.wait_until_finished()
    writing = tmp_path / "2.orbax-checkpoint-tmp"
    writing.mkdir()
    with checkpoint.Manager(
      tmp_path, recipients=OWNER, identities=OWNER
    ) as second:
      trees.assert_same_bits(second.restore(TREE), TREE)
      with pytest.raises(checkpoint.CheckpointError, match="another Manager"):
        second.save(2, TREE)
    assert writing.exists()
  with checkpoint.Manager(tmp_path, recipients=OWNER) as third:
    assert not writing.exists()
    third.save(2, TREE)
  assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "2"]


def test_what_a_killed_writer_left_does_not_block_a_save(
  tmp_path: pathlib.Path,
) -> None:
  (tmp_path / ".c.lock").touch()
  left = tmp_path / "c.orbax-checkpoint-tmp" / "sealed"
  left.mkdir(parents=True)
  (left / "manifest.ocdbt").write_bytes(b"half")
  checkpoint.save(tmp_path / "c", TREE, OWNER)
  trees.assert_same_bits(checkpoint.restore(tmp_path / "c", OWNER), TREE)
  assert [p.name for p in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize("size", [2**36, 2**48])
def test_a_manifest_of_huge_sizes_takes_no_memory(
  size: int, tmp_path: pathlib.Path
) -> None:
  path = forged(tmp_path / "c", [size], "bool")
  for call in (checkpoint.restore, checkpoint.verify):
    with pytest.raises(checkpoint.CheckpointError, match="far fewer bytes"):
      call(path, OWNER)


@pytest.mark.parametrize("segment", [(8192,), (2, 4096), (4096, 1), (1, 1)])
def test_a_segment_of_another_size_is_not_read(
  segment: tuple[int, ...], tmp_path: pathlib.Path
) -> None:
  path = forged(tmp_path / "c", [3], "float32", segment)
  with pytest.raises(
    checkpoint.CheckpointContentError, match="unexpected size"
  ):
    checkpoint.restore(path, OWNER)


def test_a_manifest_of_huge_empty_axes_is_refused(
  tmp_path: pathlib.Path,
) -> None:
  with pytest.raises(ValueError, match="a shape"):
    forged(tmp_path / "c", [0, 2**61, 2**61], "bool")


def test_many_overlapping_parts_are_refused_at_once() -> None:
  n = 30_000
  large = [[[0], [n], 0] for _ in range(n)]
  small = [[[i], [i + 1], 0] for i in range(n)]
  assert not manifest_json.parts_cover([*small, *large], [2**40])
  assert not manifest_json.parts_cover([*large, *small], [2**40])
  assert manifest_json.parts_cover(small, [n])


def test_a_header_of_many_parts_is_not_parsed(tmp_path: pathlib.Path) -> None:
  checkpoint.save(tmp_path / "c", TREE, OWNER)
  file = tmp_path / "c/header/metadata"
  file.write_bytes(b'{"a":[' + b"[]," * 10_000_000 + b"0]}")
  with pytest.raises(checkpoint.CheckpointError, match="too many parts"):
    checkpoint.inspect(tmp_path / "c")


def test_a_pipe_as_header_does_not_block(tmp_path: pathlib.Path) -> None:
  checkpoint.save(tmp_path / "c", TREE, OWNER)
  file = tmp_path / "c/header/metadata"
  file.unlink()
  os.mkfifo(file)
  with pytest.raises(checkpoint.CheckpointError, match="neither a file nor"):
    checkpoint.inspect(tmp_path / "c")


def test_metadata_can_require_a_signature(
  tmp_path: pathlib.Path,
) -> None:
  signer = keyring.SigningKey.generate()
  metadata = {"license": "a"}
  for name, private in (("signed", signer.private), ("not", None)):
    checkpoint.save(
      tmp_path / name, TREE, OWNER, step=2, metadata=metadata, signer=private
    )
  read = checkpoint.read_metadata
  assert read(tmp_path / "signed", OWNER, verify_key=signer.public) == metadata
  with pytest.raises(checkpoint.CheckpointError, match="not signed"):
    read(tmp_path / "not", OWNER, verify_key=signer.public)
  with pytest.raises(checkpoint.CheckpointError, match="of step 2"):
    read(tmp_path / "not", OWNER, step=1)


@pytest.mark.parametrize(
  "people",
  [
    Secret(b"o" * 32),
    "file:owner.key",
    None,
    [b"o" * 32],
    keyring.SigningKey(keyring.SigningKey.generate().kind, b"s" * 32),
  ],
)
def test_wrong_types_of_recipients_and_identities_are_reported(
  people: Any, tmp_path: pathlib.Path
) -> None:
  with pytest.raises(TypeError, match="is not a recipient"):
    checkpoint.save(tmp_path / "c", TREE, people)
  checkpoint.save(tmp_path / "c", TREE, OWNER)
  with pytest.raises(TypeError, match="is not an identity"):
    checkpoint.restore(tmp_path / "c", people)


def test_text_as_a_key_names_the_function_that_reads_it(
  tmp_path: pathlib.Path,
) -> None:
  with pytest.raises(TypeError, match="use keyring.parse_recipient of it"):
    checkpoint.save(tmp_path / "c", TREE, "keyjax-x25519:AAAA")
  checkpoint.save(tmp_path / "c", TREE, OWNER)
  with pytest.raises(TypeError, match="use keyring.read_key of it"):
    checkpoint.restore(tmp_path / "c", "file:owner.key")


def test_a_public_key_is_not_an_identity(
  tmp_path: pathlib.Path,
) -> None:
  private = keyring.HpkePrivateKey.generate("x25519")
  checkpoint.save(tmp_path / "c", TREE, private.public)
  with pytest.raises(TypeError, match="HpkePublicKey is not an identity"):
    checkpoint.restore(tmp_path / "c", private.public)


def test_wrong_metadata_and_patterns_are_reported(
  tmp_path: pathlib.Path,
) -> None:
  metadata: Any = ["a"]
  with pytest.raises(ValueError, match="metadata is a dict"):
    checkpoint.save(tmp_path / "c", TREE, OWNER, metadata=metadata)
  step: Any = np.int64(3)  # As in a training state.
  checkpoint.save(tmp_path / "c", TREE, OWNER, step=step)
  assert checkpoint.inspect(tmp_path / "c", OWNER)["step"] == 3
  with pytest.raises(ValueError, match="'\\(' is not a regular expr"):
    checkpoint.restore(tmp_path / "c", OWNER, leaves="(")


def test_existing_recipients_are_not_pickled() -> None:
  envelope = keyring.seal_envelope(bytes(32), [OWNER], checkpoint=ID)
  (one,) = keyring.existing_recipients(envelope, [OWNER])
  with pytest.raises(TypeError, match="not pickled"):
    pickle.dumps(one)
  assert repr(one) == f"<{type(one).__name__} {OWNER.id}>"


@pytest.mark.parametrize(
  ("error", "kind"),
  [
    (PermissionError(13, "Permission denied"), errors.CheckpointStorageError),
    (ValueError("PERMISSION_DENIED: no"), errors.CheckpointStorageError),
    (ValueError("UNAVAILABLE: later"), errors.CheckpointStorageError),
    (ValueError("DATA_LOSS: truncated"), errors.CheckpointContentError),
    (ValueError("NOT_FOUND: no file"), errors.CheckpointContentError),
    (OSError(5, "Input/output error"), errors.CheckpointStorageError),
    (OSError(2, "No such file"), errors.CheckpointContentError),
  ],
)
def test_failed_reads_blame_storage_or_content(
  error: Exception, kind: type
) -> None:
  found = errors.read_error("could not read c", error)
  assert type(found) is kind and str(found).startswith("could not read c: ")
