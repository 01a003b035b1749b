"""The examples that users copy: each does what its docstring claims."""

import json
import pathlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType

import jax
import numpy as np
import pytest

from examples import (
  hugging_face_folder,
  linen_hpnn,
  locked_lora,
  nnx_counter_mode,
  sealed_manager,
  sign_release,
)
from keyjax import checkpoint, keyring, keys, private_files
from keyjax.schemes import registry
from tests import trees
from tests.conftest import ROOT
from tests.repeatable import repeatable_secrets  # noqa: F401


@pytest.fixture(autouse=True)
def _promotion_of_users() -> Iterator[None]:
  """Let optax promote dtypes, as it does for users."""
  with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
    yield


def shares(text: str) -> dict[str, float]:
  """Return the shares that an example prints, by what it says before them."""
  found = re.findall(r"^accuracy (?:of )?(.+): (\d\.\d+)$", text, re.M)
  return {name: float(value) for name, value in found}


def check_keys(folder: pathlib.Path, printed: str) -> int:
  """Check that key files are private and unprinted; return their number."""
  files = list(folder.rglob("*.key"))
  for file in files:
    assert file.stat().st_mode & 0o777 == 0o600
    private_files.refuse_checkpoint_folder(file)
  assert "SECRET" not in printed and "PRIVATE" not in printed
  return len(files)


def run(example: ModuleType, capsys: pytest.CaptureFixture, *argv: str) -> str:
  example.main(argv)
  return capsys.readouterr().out


def test_linen_hpnn(
  tmp_path: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
  folder = tmp_path / "run"
  text = run(linen_hpnn, capsys, f"--workdir={folder}")
  found = shares(text)
  assert found["with the key"] > 0.94
  assert found["without the key"] < 0.6
  assert found["exported"] == found["with the key"]
  assert check_keys(folder, text) == 1
  exported = checkpoint.read_weights(folder / "exported.safetensors")
  assert exported["params.Dense_0.kernel"].shape == (64, 64)
  with pytest.raises(FileExistsError):
    linen_hpnn.main([f"--workdir={folder}"])


def test_nnx_counter_mode(
  tmp_path: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
  folder = tmp_path / "run"
  text = run(nnx_counter_mode, capsys, f"--workdir={folder}")
  right, wrong, none, exact, _ = text.splitlines()
  assert float(right.split()[3].strip(",")) > 0.94
  assert right.endswith("finite outputs 1.000")
  assert wrong.endswith("finite outputs 0.000")
  assert none.endswith("finite outputs 0.000")
  assert exact == "right key, bit for bit the plain model: True"
  assert check_keys(folder, text) == 1


def test_locked_lora(
  tmp_path: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
  folder = tmp_path / "run"
  text = run(locked_lora, capsys, f"--workdir={folder}")
  found = shares(text)
  assert found["public base alone"] < 0.5
  assert found["locked adapters, with the key"] > 0.9
  assert (
    found["sealed adapters, opened"] == found["locked adapters, with the key"]
  )
  assert "unchanged in the locked file: True" in text
  assert "dtype of the adapters in it: uint32" in text
  assert check_keys(folder, text) == 2


def test_hugging_face_folder(
  tmp_path: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
  folder = tmp_path / "run"
  text = run(hugging_face_folder, capsys, f"--workdir={folder}")
  assert "the same bytes: True" in text
  assert "another key: cannot open" in text
  index = json.loads(
    (folder / "model/model.safetensors.index.json").read_text()
  )
  assert len(set(index["weight_map"].values())) == 2
  opened = hugging_face_folder.contents(folder / "opened/model")
  assert opened == hugging_face_folder.contents(folder / "model")
  sealed = hugging_face_folder.contents(folder / "sealed")
  for word in (b"layers", b"config.json", b"hidden_size", b"float32"):
    assert not any(
      word in name.encode() + data for name, data in sealed.items()
    )
  assert check_keys(folder, text) == 1


def test_folders_of_one_file_and_of_folders(tmp_path: pathlib.Path) -> None:
  alice = keyring.HpkePrivateKey.generate()
  weights = {"w": np.arange(4.0, dtype=np.float32)}
  for name, others in {
    "alone": {},
    "more": {"onnx/model.safetensors": b"x", "empty": b"", "a/b.json": b"{}"},
  }.items():
    folder, opened = tmp_path / name, tmp_path / "opened" / name
    checkpoint.write_weights(folder / "model.safetensors", weights)
    for path, data in others.items():
      (folder / path).parent.mkdir(exist_ok=True)
      (folder / path).write_bytes(data)
    hugging_face_folder.seal(folder, tmp_path / f"{name}.sealed", alice.public)
    opened.mkdir(parents=True)
    hugging_face_folder.unseal(tmp_path / f"{name}.sealed", opened, alice)
    contents = hugging_face_folder.contents
    assert contents(opened) == contents(folder)
    assert len(contents(opened)) == 1 + len(others)


def test_several_files_need_an_index(tmp_path: pathlib.Path) -> None:
  for name in "ab":
    (tmp_path / f"{name}.safetensors").write_bytes(b"")
  with pytest.raises(ValueError, match="2 safetensors files, and no index"):
    hugging_face_folder.tensor_files(tmp_path)


def test_a_folder_of_a_stranger_writes_nothing_outside(
  tmp_path: pathlib.Path,
) -> None:
  alice = keyring.HpkePrivateKey.generate()
  folder, sealed = tmp_path / "model", tmp_path / "sealed"
  checkpoint.write_weights(folder / "m.safetensors", {"w": np.ones(4)})
  bad = {"../../evil": np.zeros(4, np.uint8)}
  checkpoint.import_weights(
    folder,
    sealed / "tensors",
    alice.public,
    name="model",
    metadata={"tensors": ["m.safetensors"], "others": list(bad)},
  )
  checkpoint.save(sealed / "others", bad, alice.public, name="model")
  target = tmp_path / "a/b/model"
  target.mkdir(parents=True)
  with pytest.raises(ValueError, match="outside of the folder"):
    hugging_face_folder.unseal(sealed, target, alice)
  assert not list(tmp_path.rglob("evil"))


@pytest.fixture
def unregistered() -> Iterator[None]:
  yield
  registry.unregister("row_shuffle")


def test_own_scheme(
  unregistered: None, capsys: pytest.CaptureFixture, tmp_path: pathlib.Path
) -> None:
  from examples import own_scheme

  own_scheme.main()
  assert capsys.readouterr().out.splitlines() == [
    "row_shuffle: keeps the laws",
    "in a chain: keeps the laws",
    "with a mistake: law 1: decrypt(encrypt(p)) is not p at kernel",
  ]
  assert registry.get("row_shuffle").security_class == registry.DEGRADATION
  key = own_scheme.RowKey(orders={"kernel": np.arange(3)})
  keys.save(tmp_path / "row.key", key)
  assert keys.load(tmp_path / "row.key").orders["kernel"].tolist() == [0, 1, 2]


def test_sign_release(
  tmp_path: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
  pytest.importorskip("model_signing", reason="needs keyjax[signing]")
  folder = tmp_path / "run"
  text = run(sign_release, capsys, f"--workdir={folder}")
  right = ": the release is what the owner signed"
  signed, first, changed, restored, rewrapped, again, _ = text.splitlines()
  assert signed.startswith("signed ") and int(signed.split()[1]) > 2
  assert first == restored == f"release.sig{right}"
  assert changed.endswith("is not what was signed: card.json (changed)")
  assert rewrapped.endswith("signed: model/header/metadata (changed)")
  assert again == f"release-2.sig{right}"
  assert check_keys(folder, text) == 3


def train(folder: pathlib.Path, keys: pathlib.Path, steps: int) -> list[str]:
  """Return the command of the example."""
  return [
    f"--workdir={folder}",
    f"--keys={keys}",
    f"--steps={steps}",
    "--save_every=10",
  ]


@pytest.mark.faults
def test_a_killed_run_resumes(
  tmp_path: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
  keys = tmp_path / "keys"
  script = str(ROOT / "examples/sealed_manager.py")
  endless = train(tmp_path / "killed", keys, 100_000)
  with subprocess.Popen(
    [sys.executable, script, *endless], stdout=subprocess.PIPE, text=True
  ) as child:
    assert child.stdout is not None
    for line in child.stdout:
      if line == "saved step 30\n":
        child.send_signal(signal.SIGKILL)
        break
    child.stdout.close()
  assert child.returncode == -signal.SIGKILL
  before = {file.name: file.read_text() for file in keys.iterdir()}

  with checkpoint.Manager(
    tmp_path / "killed",
    recipients=keyring.HpkePrivateKey.generate(),
  ) as manager:
    reached = manager.latest_step()
  assert reached is not None and reached >= 20
  last = reached + 10
  text = run(sealed_manager, capsys, *train(tmp_path / "killed", keys, last))
  assert text.startswith(f"resumed from step {reached}\n")
  assert text.splitlines()[-1].startswith(f"step {last}, opened by Bob: ")
  assert float(text.split()[-1]) > 0.5
  assert {file.name: file.read_text() for file in keys.iterdir()} == before
  assert check_keys(tmp_path, text) == 2

  whole = run(sealed_manager, capsys, *train(tmp_path / "whole", keys, last))
  assert "resumed" not in whole
  bob = keyring.read_key(keys / "bob.key")
  resumed, expected = (
    checkpoint.restore(tmp_path / name / str(last), bob, name="digits")
    for name in ("killed", "whole")
  )
  trees.assert_same_bits(resumed, expected)


@pytest.mark.slow
@pytest.mark.parametrize(
  "name",
  ["linen_hpnn", "locked_lora", "nnx_counter_mode", "hugging_face_folder"],
)
def test_scripts_run_alone(name: str, tmp_path: pathlib.Path) -> None:
  done = subprocess.run(
    [sys.executable, str(ROOT / f"examples/{name}.py"), "--workdir=run"],
    cwd=tmp_path,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert [file.name for file in tmp_path.iterdir()] == ["run"]
