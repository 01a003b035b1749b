"""The server on the network: who gets in, and what it does with anything."""

import http.client
import json
import random
import socket
import ssl

import pytest

from keyjax import keyring
from keyjax.errors import KeyringError
from keyjax.keyring import open_envelope
from keyjax.keyring.tls import server_context
from keyjax.release import asks
from tests.release.world import Authority, ask_body


@pytest.fixture
def post(world):
  """Return a function that posts bytes to a server as the trainer."""
  with world.served() as url:
    port = int(url.rpartition(":")[2])
    tls = world.client_tls("trainer")
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=tls)

    def call(body, path="/unwrap", method="POST"):
      connection.request(method, path, body)
      answer = connection.getresponse()
      data = answer.read()
      return answer.status, data

    yield call
    connection.close()


def stranger(world, kind):
  """Return a client context that must not get in."""
  context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
  context.load_verify_locations(world.authority.path)
  if kind == "of another authority":
    folder = world.folder / "elsewhere"
    folder.mkdir()
    Authority(folder).certify("trainer")
    context.load_cert_chain(folder / "trainer.pem", folder / "trainer.tls.key")
  elif kind == "TLS 1.2":
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(
      world.folder / "trainer.pem", world.folder / "trainer.tls.key"
    )
  return context


@pytest.mark.parametrize(
  "kind", ["without a certificate", "of another authority", "TLS 1.2"]
)
def test_tls_lets_no_stranger_in(world, kind):
  with world.served() as url:
    identity = world.identity(url, tls=stranger(world, kind))
    with pytest.raises(keyring.KeyringError) as found:
      open_envelope(world.envelope(), [identity])
    assert isinstance(
      found.value, keyring.ReleaseRefused | keyring.ReleaseUnavailable
    )
    assert "\n" not in str(found.value)
  assert world.entries() == []


def test_plain_http_is_not_answered(world):
  with world.served() as url:
    port = int(url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
      plain.sendall(b"POST /unwrap HTTP/1.1\r\nHost: a\r\n\r\n")
      assert b"HTTP" not in plain.recv(100)


def test_a_certificate_that_the_policy_does_not_name_opens_nothing(world):
  world.authority.certify("stranger")
  with world.served() as url:
    identity = world.identity(url, tls=world.client_tls("stranger"))
    with pytest.raises(keyring.ReleaseRefused, match="of no known caller"):
      open_envelope(world.envelope(), [identity])


def test_a_server_of_another_authority_gets_no_request(world):
  folder = world.folder / "elsewhere"
  folder.mkdir()
  other = Authority(folder)
  with world.served() as url:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.load_verify_locations(other.path)
    with pytest.raises(keyring.ReleaseRefused, match="is not trusted"):
      open_envelope(world.envelope(), [world.identity(url, tls=tls)])


def test_a_server_that_is_not_there_is_unavailable(world):
  identity = world.identity("https://127.0.0.1:9")
  with pytest.raises(keyring.ReleaseUnavailable, match="does not answer"):
    open_envelope(world.envelope(), [identity])
  for address in ("http://127.0.0.1", "127.0.0.1", "https://a/b", "https://"):
    with pytest.raises(KeyringError, match="looks like https"):
      world.identity(address)


def test_damaged_requests_are_refused(post, world):
  """Random changes of a right request; none fails the server."""
  right = ask_body(stanza={"id": world.key.id, "wrapped": "AAAA"})
  assert post(right)[0] == 403  # It is understood.
  rng = random.Random(0)
  seen = set()
  for _ in range(150):
    body = bytearray(right)
    for _ in range(rng.randint(1, 3)):
      at = rng.randrange(len(body))
      body[at : at + rng.randint(0, 3)] = rng.randbytes(rng.randint(0, 3))
    status, data = post(bytes(body))
    seen.add(status)
    assert set(json.loads(data)) == {"error"} and b"\n" not in data
  assert seen <= {400, 403, 409} and 400 in seen


@pytest.mark.parametrize(
  "fields",
  [
    {"id": "0" * 31},
    {"id": 0},
    {"checkpoint": "a b"},
    {"checkpoint": ""},
    {"stanza": []},
    {"stanza": {"id": None}},
    {"stanza": {"id": {"a": 1}}},
    {"approvals": "abc"},
    {"approvals": [1]},
    {"approvals": ["a"] * 17},
    {"evidence": None},
    {"more": 1},
  ],
)
def test_a_malformed_request_is_refused(fields):
  with pytest.raises(KeyringError):
    asks.parse_ask(ask_body(**fields), "0" * 64)


def test_other_bodies_and_paths_are_refused(post):
  assert post(b"")[0] == 400
  assert post(b"[]")[0] == 400
  assert post(b"\xff" * 100)[0] == 400
  assert post(b"[" * 10000)[0] == 400
  status, data = post(b"a" * (1 << 17))
  assert status == 413 and b"at most 65536 bytes" in data
  assert post(b"", "/other")[0] == 404
  assert post(None, method="GET")[0] == 405


def test_a_private_key_that_others_can_read_is_refused(world):
  files = {
    "client_ca": world.authority.path,
    "certificate": world.folder / "server.pem",
    "key": world.folder / "server.tls.key",
  }
  files["key"].chmod(0o644)
  with pytest.raises(PermissionError, match="chmod 600"):
    server_context(**files)
  files["key"].chmod(0o600)
  for wrong, message in (
    ({"client_ca": files["key"]}, "holds no certificates"),
    ({"certificate": world.folder / "trainer.pem"}, "are not a certificate"),
    ({"certificate": files["key"]}, "are not a certificate"),
  ):
    with pytest.raises(KeyringError, match=message):
      server_context(**files | wrong)
