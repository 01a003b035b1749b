"""Each loader of a key file names what another file holds."""

import pathlib

import numpy as np
import pytest

import keyjax
from keyjax import Secret, keyring, keys

SECRET = Secret(b"T" * 32)
PARAMS = {"kernel": np.ones((3, 2), np.float32)}
KEY = keyjax.deep_lock().keygen(SECRET, PARAMS, None)


def test_files_of_another_kind(tmp_path: pathlib.Path) -> None:
  SECRET.save(tmp_path / "secret")
  keys.save(tmp_path / "key", KEY)
  private = keyring.HpkePrivateKey.generate("x25519")
  keyring.write_key(tmp_path / "private", private, plain=True)
  (tmp_path / "folder").mkdir()
  read = {"secret": Secret.load, "key": keys.load}
  for name, what, message in (
    ("secret", "key", "it holds a secret, which Secret.load reads"),
    ("key", "secret", "it holds a key of a scheme, which keys.load reads"),
    ("private", "key", "it holds a private key, which keyring.read_key reads"),
    ("private", "secret", "a private key, which keyring.read_key reads"),
  ):
    with pytest.raises(ValueError, match=message):
      read[what](tmp_path / name)
  public = tmp_path / "public"
  public.write_text(keyring.format_recipient(private.public))
  public.chmod(0o600)
  for name, message in (
    ("key", "nor PEM: it holds a key of a scheme, which keys.load reads"),
    ("public", "nor PEM: it is a public key"),
  ):
    with pytest.raises(keyring.KeyringError, match=f"{message}$"):
      keyring.read_key(f"file:{tmp_path / name}")
  for load in read.values():
    with pytest.raises(
      IsADirectoryError, match="folder is a folder, not a file"
    ):
      load(tmp_path / "folder")
