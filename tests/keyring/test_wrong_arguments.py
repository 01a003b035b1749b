"""The first hour with keys: wrong arguments are named in one line."""

import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from keyjax import Secret, keyring

SECRET = Secret(b"W" * 32)
PATH: Any = pathlib.Path("/nonexistent/key")
DATA: Any = b"W" * 32
KEY: Any = keyring.SymmetricKey(SECRET)

CASES: dict[str, tuple[Callable[[], Any], str]] = {
  "symmetric": (
    lambda: keyring.SymmetricKey(DATA),
    "SymmetricKey takes a keyjax.Secret, got a bytes; Secret.generate",
  ),
  "create": (
    lambda: keyring.Keyring.create(PATH, KEY, "team"),
    "Keyring.create takes a keyjax.Secret, got a SymmetricKey",
  ),
  "load": (
    lambda: keyring.Keyring.load(PATH, DATA),
    "Keyring.load takes a keyjax.Secret, got a bytes",
  ),
  "split": (
    lambda: keyring.split_secret(DATA, 2, 3),
    "split_secret takes a keyjax.Secret, got a bytes",
  ),
  "passphrase": (
    lambda: keyring.Passphrase(DATA),
    "a passphrase is text, got a bytes",
  ),
  "recipient": (
    lambda: keyring.parse_recipient(PATH),
    "a recipient is read from text, got a PosixPath",
  ),
  "source": (
    lambda: keyring.read_source(PATH).__enter__(),
    "a key comes from file:PATH: give f'file:/nonexistent/key'",
  ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_wrong_arguments(case: Any) -> None:
  call, message = case
  with pytest.raises(TypeError, match=message) as found:
    call()
  assert "WWW" not in str(found.value)
