"""Secrets: derivation, files, and what is never shown."""

import copy
import hmac
import os
import pathlib
import pickle
import stat
import traceback

import numpy as np
import pytest

from keyjax import Secret, aes, private_files, secrets
from tests import wycheproof


def hkdf(ikm: bytes, salt: bytes, info: bytes, size: int) -> bytes:
  """Return HKDF-SHA-256 as in RFC 5869: extract, then expand."""
  prk = hmac.digest(salt or bytes(32), ikm, "sha256")
  okm, block = b"", b""
  for i in range(1, -(-size // 32) + 1):
    block = hmac.digest(prk, block + info + bytes([i]), "sha256")
    okm += block
  return okm[:size]


VECTORS = list(wycheproof.cases("hkdf_sha256_test.json"))


@pytest.mark.vectors
def test_the_reference_above_is_hkdf() -> None:
  valid = [case for case in VECTORS if case["result"] == "valid"]
  assert len(valid) == 83
  for case in valid:
    ikm, salt, info = (bytes.fromhex(case[k]) for k in ("ikm", "salt", "info"))
    assert hkdf(ikm, salt, info, case["size"]).hex() == case["okm"]


@pytest.mark.vectors
def test_secrets_derive_by_hkdf_sha256_without_salt() -> None:
  """Input keying material and sizes of Wycheproof; the label is the info."""
  cases = [case for case in VECTORS if len(case["ikm"]) == 64]
  assert len(cases) == 37
  for case in cases:
    ikm, label = bytes.fromhex(case["ikm"]), case["info"]
    if case["result"] == "invalid":  # More than 255 blocks.
      with pytest.raises(ValueError):
        Secret(ikm).derive(label, case["size"])
      continue
    info = b"keyjax/1/" + label.encode()
    want = hkdf(ikm, b"", info, case["size"])
    assert Secret(ikm).derive(label, case["size"]) == want
    # Every other derivation rests on this one.
    child = hkdf(ikm, b"", info, 32)
    assert Secret(ikm).child(label) == Secret(child)


def test_streams_are_aes_256_in_counter_mode() -> None:
  """Derived by the reference above, encrypted by the circuit."""
  data = bytes(range(32))
  key = hkdf(data, b"", b"keyjax/1/stream/mask", 32)
  start = np.zeros(4, np.uint32)
  words = aes.keystream(aes.expand_key(key), start, 7, impl="device")
  stream = np.asarray(words).astype(">u4").tobytes()[:100]
  assert Secret(data).stream("mask", 100) == stream


def test_secrets_are_fresh_and_derivation_is_fixed() -> None:
  a, b = Secret.generate(), Secret.generate()
  assert a != b and a.fingerprint() != b.fingerprint()
  assert Secret(bytes(32)) == Secret(bytes(32)) != a
  assert a.child("x") == a.child("x")
  assert a.child("x") != a.child("y") != a
  assert a.derive("x", 16) != a.derive("y", 16)
  assert a.stream("x", 100)[:50] == a.stream("x", 50)
  # Pinned: a change here would orphan every key in the world.
  zero = Secret(bytes(32))
  assert zero.fingerprint() == "b725-f8fd-0dd5-e5ec"
  order = secrets.permutation(zero, "golden", 8)
  assert order.tolist() == [2, 5, 3, 0, 4, 6, 7, 1]


@pytest.mark.parametrize("data", [b"", bytes(31), bytes(33)])
def test_a_secret_of_the_wrong_length(data: bytes) -> None:
  with pytest.raises(ValueError, match=f"exactly 32 bytes, got {len(data)}"):
    Secret(data)


def test_a_secret_of_the_wrong_type() -> None:
  with pytest.raises(TypeError, match="made of bytes, got a str"):
    Secret("x" * 32)  # type: ignore[arg-type]


def test_a_secret_is_not_shown_pickled_or_copied() -> None:
  data = os.urandom(32)
  secret = Secret(data)
  shown = f"{secret} {secret!r} {[secret]}"
  assert secret.fingerprint() in shown
  for spelling in (data.hex(), repr(data)[2:-1]):
    assert spelling[:8] not in shown
  for leak in (pickle.dumps, copy.copy, copy.deepcopy, hash):
    with pytest.raises(TypeError):
      leak(secret)
  try:
    secret.derive("x", -1)
  except Exception:
    assert data.hex() not in traceback.format_exc()


def test_secret_files(tmp_path: pathlib.Path) -> None:
  secret, file = Secret.generate(), tmp_path / "deep" / "secret"
  secret.save(file)
  assert stat.S_IMODE(file.stat().st_mode) == 0o600
  assert Secret.load(file) == secret
  with pytest.raises(FileExistsError):
    Secret.generate().save(file)
  file.chmod(0o640)
  with pytest.raises(PermissionError, match="chmod 600"):
    Secret.load(file)
  other = tmp_path / "other"
  private_files.create(other, b"not a secret")
  with pytest.raises(ValueError, match="does not hold a secret") as error:
    Secret.load(other)
  assert error.value.__cause__ is None and "not a" not in str(error.value)[:5]


def test_a_failed_write_leaves_nothing(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  def full(fd: int) -> None:
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(os, "fsync", full)
  with pytest.raises(OSError, match="No space left"):
    Secret.generate().save(tmp_path / "secret")
  assert list(tmp_path.iterdir()) == []


def test_permutations_are_uniform() -> None:
  secret = Secret(bytes(range(32)))
  found = {tuple(secrets.permutation(secret, str(i), 3)) for i in range(200)}
  assert len(found) == 6  # all of 3!
  counts = np.zeros((4, 4))
  for i in range(2000):
    counts[np.arange(4), secrets.permutation(secret, f"n{i}", 4)] += 1
  # Chi-square with 9 degrees of freedom: above 33.7 for 1 of 10,000 secrets.
  assert ((counts - 500) ** 2 / 500).sum() < 33.7 + 3
  assert secrets.permutation(secret, "x", 0).size == 0


def test_bits() -> None:
  made = secrets.bits(Secret(bytes(range(32))), "x", 10_000)
  assert made.dtype == np.uint8 and set(made.tolist()) == {0, 1}
  assert abs(made.mean() - 0.5) < 0.03
