"""Keys of Cloud KMS, against a server of its two methods on this machine."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import requests

from keyjax import keyring
from keyjax.errors import ArgumentError, CannotOpen, KeyringError, StorageError
from keyjax.keyring.recipients.google_kms import GoogleKms

GOOGLE_KEY = "projects/p/locations/global/keyRings/r/cryptoKeys/k"


class Cloud(BaseHTTPRequestHandler):
  """The two methods of Cloud KMS that are used, with keys of `LocalKms`."""

  def do_POST(self):
    body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
    fields = {name: base64.b64decode(value) for name, value in body.items()}
    path, _, method = self.path.partition(":")
    assert path == f"/v1/{GOOGLE_KEY}"
    context = fields.pop("additionalAuthenticatedData")
    [data] = fields.values()
    kms = self.server.kms
    answer, status = {}, 200
    try:
      if method == "encrypt":
        sealed = kms.encrypt("k", data, context)
        answer = {"ciphertext": base64.b64encode(sealed).decode()}
      else:
        opened = kms.decrypt("k", data, context)
        answer = {"plaintext": base64.b64encode(opened).decode()}
    except CannotOpen:
      status = 400
    except KeyringError:
      status = 403
    except ZeroDivisionError:
      status = 503
    self.send_response(status)
    self.end_headers()
    self.wfile.write(json.dumps(answer).encode())

  def log_message(self, *_):
    pass


@pytest.fixture
def cloud(tmp_path):
  """A client of Cloud KMS, and the keys of the service."""
  server = HTTPServer(("127.0.0.1", 0), Cloud)
  server.kms = keyring.LocalKms(tmp_path)
  thread = threading.Thread(target=server.serve_forever, args=(0.01,))
  thread.start()
  with requests.Session() as session:
    address = f"http://127.0.0.1:{server.server_port}/v1"
    yield GoogleKms(session, address), server.kms
  server.shutdown()
  thread.join()
  server.server_close()


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
