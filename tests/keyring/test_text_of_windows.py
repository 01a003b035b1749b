"""Key files with byte order marks, in UTF-16, and with CRLF are read."""

import pathlib
from collections.abc import Callable

import pytest

from keyjax import Secret, keyring
from keyjax.keyring import Cost

WAYS: dict[str, Callable[[str], bytes]] = {
  "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
  "mark": lambda text: text.encode("utf-8-sig"),
  "UTF-16": lambda text: text.encode("utf-16"),
  "big-endian": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
  "no mark": lambda text: text.encode("utf-16-le"),
}
KEY = keyring.HpkePrivateKey.generate("x25519")
SECRET = Secret(b"T" * 32)


@pytest.mark.parametrize("way", WAYS)
def test_private_keys(way: str, tmp_path: pathlib.Path) -> None:
  encode = WAYS[way]
  protected = keyring.protect_key(SECRET, "six words", Cost(19456, 1, 1))
  assert keyring.parse_key(encode(f"{protected}\n"), "six words") == SECRET
  path = tmp_path / "a.key"
  path.touch(mode=0o600)
  path.write_bytes(encode(f"{keyring.format_key(KEY)}\n"))
  found = keyring.read_key(f"file:{path}")
  assert keyring.as_identity(found).id == KEY.id
  path.write_bytes(encode("54" * 32 + "\n"))
  assert keyring.read_key(f"file:{path}") == SECRET == Secret.load(path)


def test_public_keys() -> None:
  line = keyring.format_recipient(KEY.public)
  assert keyring.parse_recipient("\ufeff" + line).id == KEY.id


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"\xff\xfe\x00\xd8", b"k\0"])
def test_what_is_no_text_is_refused(data: bytes) -> None:
  with pytest.raises(keyring.KeyringError, match="not a private key"):
    keyring.parse_key(data)
