"""Approvals: what counts as one."""

import jwt
import pytest

from keyjax import keyring
from keyjax.errors import KeyringError
from keyjax.keyring.encoding import dump
from keyjax.release import approvals
from tests.release.world import REQUEST


@pytest.fixture
def alice():
  return keyring.SigningKey.generate()


def counts(token, alice, request=REQUEST):
  """Return whether a token is an approval of Alice."""
  bob = keyring.SigningKey.generate().public
  try:
    found = approvals.approver_of(
      token, request, {"alice": alice.public, "bob": bob}
    )
  except KeyringError as error:
    assert "\n" not in str(error)
    return False
  return found == "alice"


def test_an_approval_counts_for_its_request_alone(alice):
  token = approvals.approve(REQUEST, alice, seconds=60)
  assert counts(token, alice)
  for name in REQUEST:
    assert not counts(token, alice, REQUEST | {name: "other"}), name


def test_an_approval_expires(alice):
  assert not counts(approvals.approve(REQUEST, alice, seconds=-60), alice)


def test_an_approval_of_someone_else_does_not_count(alice):
  other = keyring.SigningKey.generate()
  assert not counts(approvals.approve(REQUEST, other, seconds=60), alice)


def test_a_forged_token_does_not_count(alice):
  other = keyring.SigningKey.generate()
  claims = jwt.decode(
    approvals.approve(REQUEST, alice, seconds=60),
    options={"verify_signature": False},
  )
  headers = {"kid": alice.id, "typ": "keyjax-approval+jwt"}

  def encode(key, algorithm="EdDSA", **changed):
    made = {k: v for k, v in (claims | changed).items() if v is not None}
    return jwt.encode(made, key, algorithm=algorithm, headers=headers)

  assert counts(encode(alice.private), alice)
  assert not counts(encode(other.private), alice)
  assert not counts(encode(None, "none"), alice)
  # Its public key as the secret of a MAC.
  assert not counts(encode(alice.public.public_bytes_raw(), "HS256"), alice)
  for changed in (
    {"exp": None},
    {"iat": None},
    {"aud": "keys.other"},
    {"iss": other.id},
    {"request": None},
    {"iat": claims["iat"] + 3600},
  ):
    assert not counts(encode(alice.private, **changed), alice), changed
  headers["typ"] = "JWT"
  assert not counts(encode(alice.private), alice)
  for text in ("", "a.b.c", "\u00e9", "." * 20000, "a" * 20000):
    assert not counts(text, alice)


def test_only_ed25519_approves():
  key = keyring.SigningKey.generate("ml-dsa-65")
  with pytest.raises(KeyringError, match="kind ed25519"):
    approvals.approve(REQUEST, key, seconds=60)


def test_a_request_is_read_as_it_was_written():
  assert approvals.parse_request(dump(REQUEST)) == REQUEST


@pytest.mark.parametrize(
  "changed",
  [
    {"id": "2" * 31},
    {"id": "A" * 32},
    {"nonce": 3},
    {"checkpoint": "a\nb"},
    {"caller": ""},
    {"more": "x"},
  ],
)
def test_another_document_is_no_request(changed):
  with pytest.raises(KeyringError):
    approvals.parse_request(dump(REQUEST | changed))
