"""Keys of Cloud KMS, against a server of its two methods on this machine."""

import pytest

from keyjax import keyring
from keyjax.errors import ArgumentError, CannotOpen, KeyringError, StorageError
from tests import cloud_kms
from tests.cloud_kms import GOOGLE_KEY


@pytest.fixture
def cloud(tmp_path):
  """A client of Cloud KMS, and the keys of the service."""
  with cloud_kms.service(tmp_path) as found:
    yield found


def opens(recipient, identity):
  """Assert that an identity opens what is sealed for a recipient."""
  key = bytes(range(32))
  envelope = keyring.seal_envelope(key, [recipient], checkpoint="m/1")
  assert keyring.open_envelope(envelope, [identity]).data_key == key
  stanza = recipient.wrap(key, b"context") | {"id": identity.id}
  assert identity.unwrap(stanza, b"context") == key
  with pytest.raises(CannotOpen):
    identity.unwrap(stanza, b"another context")
  damaged = keyring.encoding.decode(stanza["wrapped"])
  damaged = keyring.encoding.encode(damaged[:-1] + bytes([damaged[-1] ^ 1]))
  with pytest.raises(CannotOpen):
    identity.unwrap(stanza | {"wrapped": damaged}, b"context")
  assert identity.unwrap(stanza | {"id": "kms:other"}, b"context") is None


def test_a_key_of_cloud_kms_opens_what_it_wrapped(cloud):
  client, service = cloud
  key = keyring.KmsKey(client, GOOGLE_KEY)
  with pytest.raises(KeyringError, match="Cloud KMS answers 403 to encrypt"):
    key.wrap(bytes(32), b"context")
  service.create("k")
  opens(key, key)


def test_a_service_that_is_busy_can_be_asked_again(cloud, monkeypatch):
  client, service = cloud
  monkeypatch.setattr(service, "_key", lambda name: 1 / 0)
  with pytest.raises(StorageError, match="Cloud KMS answers 503: try again"):
    keyring.KmsKey(client, GOOGLE_KEY).wrap(bytes(32), b"context")


@pytest.mark.parametrize("name", ["k", f"{GOOGLE_KEY}/cryptoKeyVersions/1"])
def test_a_wrong_argument_is_refused(name):
  argument = keyring.kinds()["google-kms"].argument
  assert argument.identity(GOOGLE_KEY, None).id.startswith("kms:")
  with pytest.raises(ArgumentError, match="is named"):
    argument.identity(name, None)
