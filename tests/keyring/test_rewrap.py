import pytest

from keyjax import Secret, keyring
from tests.keyring.conftest import KINDS


def seal(*people, **more):
  return keyring.seal_envelope(bytes(32), people, checkpoint="m/1", **more)


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "passphrase"])
def test_all_recipients_can_open_after_one_is_added(make_pair, kind):
  old, identity = make_pair(kind)
  new = keyring.SymmetricKey(Secret.generate())
  envelope = seal(old)
  kept = keyring.existing_recipients(envelope, [identity])
  both = keyring.rewrap_envelope(envelope, [identity], [*kept, new])
  for person in (identity, new):
    assert keyring.open_envelope(both, [person]).data_key == bytes(32)


def test_existing_recipients_need_a_key_that_opens(make_pair):
  stranger = keyring.SymmetricKey(Secret.generate())
  with pytest.raises(keyring.CannotOpen):
    keyring.existing_recipients(seal(make_pair("aes")[0]), [stranger])


def test_a_forged_stanza_is_not_copied(make_pair):
  (mine, me), (other, _) = make_pair("aes"), make_pair("aes")
  envelope = seal(mine).replace(me.id.encode(), other.id.encode())
  with pytest.raises(keyring.CannotOpen):
    keyring.existing_recipients(envelope, [me])


def test_an_expiry_is_preserved(make_pair):
  (mine, me), (short, they) = make_pair("aes"), make_pair("x25519")
  past = keyring.Expiring(short, "2020-01-01T00:00:00Z")
  envelope = seal(mine, past)
  again = keyring.rewrap_envelope(
    envelope, [me], keyring.existing_recipients(envelope, [me])
  )
  with pytest.raises(keyring.KeyringError, match="expired at 2020"):
    keyring.open_envelope(again, [they])


def test_an_existing_recipient_wraps_one_data_key_only(make_pair):
  mine, me = make_pair("aes")
  (kept,) = keyring.existing_recipients(seal(mine), [me])
  with pytest.raises(keyring.KeyringError, match="give its public key"):
    keyring.seal_envelope(b"\x01" * 32, [kept], checkpoint="m/2")
  assert "wrapped" not in repr(kept)
