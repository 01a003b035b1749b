"""Security cards: the signature, and the model that a card is about."""

import hashlib
import subprocess

import pytest

import keyjax
from keyjax import card as cards
from keyjax.keyring.encoding import dump
from keyjax.keyring.signing import SIGNING, SigningKey
from tests.cards import get, one_card, other, paths, put, rows
from tests.cli.conftest import spellings


@pytest.fixture(scope="module")
def card():
  return one_card()


# -------------------------------------------------------------- the signature


@pytest.fixture(scope="module", params=SIGNING)
def signed(request, card):
  key = SigningKey.generate(request.param)
  return cards.sign(card, key), key


def test_a_signature_is_part_of_the_file(signed):
  card, key = signed
  data = cards.format_card(card)
  cards.verify(cards.parse_card(data), key.public)
  assert card["signature"]["key"] == key.id
  for text in spellings(key.reveal()):
    assert text not in data.decode().lower()
  twice = cards.sign(card, key)
  cards.verify(twice, key.public)


def test_every_field_is_covered(signed):
  card, key = signed
  found = paths(card)
  assert len(found) > 200
  for path in found:
    forged = put(card, path, other(get(card, path)))
    with pytest.raises(cards.CardError, match="was changed"):
      cards.verify(forged, key.public)


def test_another_key_does_not_verify(signed):
  card, key = signed
  for kind in SIGNING:
    other_key = SigningKey.generate(kind)
    with pytest.raises(cards.CardError, match="was changed, or was not signed"):
      cards.verify(card, other_key.public)
    # The owner's name in the header does not help.
    forged = cards.sign(card, other_key)
    forged["signature"]["key"] = key.id
    forged["signature"]["algorithm"] = key.kind
    with pytest.raises(cards.CardError, match="was changed, or was not signed"):
      cards.verify(forged, key.public)


def test_an_unsigned_card_is_not_verified(card):
  with pytest.raises(cards.CardError, match="not signed"):
    cards.verify(card, SigningKey.generate().public)


def test_a_signature_over_other_bytes_is_refused(signed):
  card, key = signed
  unsigned = dump({k: v for k, v in card.items() if k != "signature"})
  signature = keyjax.keyring.encoding.encode(key.private.sign(unsigned))
  forged = put(card, ("signature", "signature"), signature)
  with pytest.raises(cards.CardError, match="was changed"):
    cards.verify(forged, key.public)


# ------------------------------------------------------------------ the model


def test_the_digest_of_a_file_is_its_sha256(tmp_path):
  (tmp_path / "w").write_bytes(b"weights")
  found = cards.digest(tmp_path / "w")
  assert found["sha256"] == hashlib.sha256(b"weights").hexdigest()


def test_the_digest_of_a_folder_is_that_of_the_shell(tmp_path):
  for name in ("b", "a/x", "a.b", "a/y z", "Z"):
    place = tmp_path / "model" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(name)
  command = (
    "cd model && find . -type f -printf '%P\\0' | LC_ALL=C sort -z |"
    " xargs -0 sha256sum | sha256sum"
  )
  text = subprocess.run(
    command, shell=True, cwd=tmp_path, capture_output=True, text=True
  )
  found = cards.digest(tmp_path / "model")
  assert text.stdout.split()[0] == found["sha256"]
  assert found["files"] == 5


def test_a_card_is_about_one_model(card, tmp_path):
  folder = tmp_path / "model"
  folder.mkdir()
  (folder / "a").write_text("1")
  mine = cards.make(rows(), "counter", model=folder)
  cards.check_model(mine, folder)
  (folder / "a").rename(folder / "b")
  with pytest.raises(cards.CardError, match="not the model"):
    cards.check_model(mine, folder)
  with pytest.raises(cards.CardError, match="not have a model"):
    cards.check_model(card, folder)


def test_files_that_a_digest_would_not_cover_are_refused(tmp_path):
  with pytest.raises(cards.CardError, match="holds no file"):
    cards.digest(tmp_path)
  (tmp_path / "a\\b").write_text("")
  with pytest.raises(cards.CardError, match="backslash"):
    cards.digest(tmp_path)
  (tmp_path / "a\\b").unlink()
  (tmp_path / "link").symlink_to("/etc/hostname")
  with pytest.raises(cards.CardError, match="not a regular file"):
    cards.digest(tmp_path)
