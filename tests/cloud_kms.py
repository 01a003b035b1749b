"""A server of Cloud KMS's two methods, on this machine."""

import base64
import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import requests

from keyjax import keyring
from keyjax.errors import CannotOpen, KeyringError
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


@contextlib.contextmanager
def service(folder):
  """Yield a client of Cloud KMS, and the keys of the service."""
  server = HTTPServer(("127.0.0.1", 0), Cloud)
  server.kms = keyring.LocalKms(folder)
  thread = threading.Thread(target=server.serve_forever, args=(0.01,))
  thread.start()
  try:
    with requests.Session() as session:
      address = f"http://127.0.0.1:{server.server_port}/v1"
      yield GoogleKms(session, address), server.kms
  finally:
    server.shutdown()
    thread.join()
    server.server_close()
