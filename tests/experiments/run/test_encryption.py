"""A run whose training checkpoints are sealed, and that resumes from them."""

import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import pytest

import keyjax
from experiments import data, models
from experiments.run import config as configs
from experiments.run import encryption
from experiments.run.workdir import Workdir
from experiments.training import train
from keyjax import checkpoint, keyring


@pytest.fixture(autouse=True)
def as_users_run_it() -> Iterator[None]:
  """Allow the standard promotion, which Optax needs."""
  with jax.numpy_dtype_promotion("standard"):
    yield


@pytest.fixture
def key(tmp_path: pathlib.Path) -> keyring.HpkePrivateKey:
  made = keyring.HpkePrivateKey.generate("x25519")
  keyring.write_key(tmp_path / "me.key", made, plain=True)
  return made


def settings(key: Any, folder: pathlib.Path) -> Any:
  config = configs.base()
  config.train.update(batch_size=64, epochs=1.0, checkpoint_every=1)
  config.encrypt.recipients = keyring.format_recipient(key.public)
  config.encrypt.identity = f"file:{folder / 'me.key'}"
  return config


def test_a_run_is_encrypted_and_resumes(
  key: Any, tmp_path: pathlib.Path
) -> None:
  config = settings(key, tmp_path)
  dataset = data.load("digits", num_train=128, num_test=10)
  model = models.create(
    "mlp", dataset.num_classes, dataset.mean, dataset.std, hidden=(8,)
  )

  def run() -> None:
    train.train(
      config.train,
      dataset=dataset,
      model=model,
      scheme=keyjax.identity(),
      key=(),
      folder=tmp_path / "run",
      encryption=encryption.read(config.encrypt),
    )

  run()
  path = tmp_path / "run/checkpoints/2"
  public = checkpoint.inspect(path)
  assert public["envelope"]["recipients"] == [key.public.id]
  leaves = checkpoint.inspect(path, key)["leaves"]
  assert any("kernel" in leaf["path"] for leaf in leaves)
  config.train.epochs = 2.0
  run()
  assert checkpoint.inspect(tmp_path / "run/checkpoints/4", key)["step"] == 4
  # Without the key the run does not resume.
  config.encrypt.identity = ""
  with pytest.raises(keyring.KeyringError, match="has no identities"):
    run()


def test_the_run_file_contains_no_names_of_keys(
  key: Any, tmp_path: pathlib.Path
) -> None:
  config = settings(key, tmp_path)
  Workdir(config, str(tmp_path / "work"))
  text = (tmp_path / "work/run.json").read_text()
  assert "me.key" not in text and "keyjax-" not in text
  config.encrypt.identity = ""
  Workdir(config, str(tmp_path / "work"))  # May change between resumptions.


def test_mistakes(key: Any, tmp_path: pathlib.Path) -> None:
  config = settings(key, tmp_path).encrypt
  pasted = keyring.format_key(key)
  for name, value, message in (
    ("recipients", "", "set both"),
    ("recipients", "keyjax-x25519:AAAA", "encrypt: "),
    ("identity", "file:/nowhere/key", "encrypt: "),
    ("identity", pasted, "encrypt: "),
  ):
    bad = config.copy_and_resolve_references()
    bad[name] = value
    with pytest.raises(ValueError, match=message) as caught:
      encryption.read(bad)
    assert pasted not in str(caught.value)
  bad = configs.base().encrypt
  bad.run = "a"
  with pytest.raises(ValueError, match=r"encrypt\.run needs encrypt\.recip"):
    encryption.read(bad)
