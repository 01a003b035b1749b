import pytest
from cryptography.exceptions import InvalidSignature

from keyjax import keyring
from keyjax.keyring.signing import SIGNING
from tests.keyring.conftest import CHEAP


@pytest.fixture(params=SIGNING)
def key(request):
  return keyring.SigningKey.generate(request.param)


def test_a_signature_verifies_with_the_public_key_read_from_text(key):
  public = keyring.parse_verify_key(keyring.format_verify_key(key.public))
  public.verify(key.private.sign(b"model"), b"model")
  with pytest.raises(InvalidSignature):
    public.verify(key.private.sign(b"model"), b"another")


def test_a_key_file_gives_the_same_key(key):
  for text in (
    keyring.format_key(key),
    keyring.protect_key(key, "six random words", CHEAP),
  ):
    again = keyring.parse_key(text, "six random words")
    assert (again.kind, again.id) == (key.kind, key.id)
    key.public.verify(again.private.sign(b"model"), b"model")


def test_a_signing_key_shows_no_key_and_opens_nothing(key):
  assert key.reveal().hex() not in repr(key) and key.id in repr(key)
  with pytest.raises(keyring.KeyringError, match="it opens none"):
    keyring.as_identity(key)


@pytest.mark.parametrize(
  "kind, seed", [("rsa", bytes(32)), ("ed25519", bytes(31)), ("", b"")]
)
def test_other_bytes_are_not_a_signing_key(kind, seed):
  with pytest.raises(keyring.KeyringError, match="a signing key is of kind"):
    keyring.SigningKey(kind, seed)


def test_misread_text_is_refused(key):
  text = keyring.format_verify_key(key.public)
  head, _, body = text.partition(":")
  flipped = ("B" if body[0] == "A" else "A") + body[1:]
  for wrong in (f"{head}:{flipped}", f"{head}:", text[:-4], body, ""):
    with pytest.raises(keyring.KeyringError):
      keyring.parse_verify_key(wrong)
  with pytest.raises(keyring.KeyringError, match="the kinds are x25519"):
    keyring.parse_recipient(text)
