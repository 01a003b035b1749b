"""A release server for tests: its keys, certificates, policy and callers."""

import asyncio
import contextlib
import datetime
import hashlib
import ipaddress
import json
import os
import subprocess
import sys
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from keyjax import keyring, release
from keyjax.keyring.encoding import dump
from keyjax.keyring.tls import client_context
from keyjax.release import approvals, policy
from tests.conftest import ROOT

NAME = "keys.example/team"
DATA_KEY = bytes(range(32))
_DAY = datetime.timedelta(days=1)
REQUEST = {
  "caller": "trainer",
  "certificate": "1" * 64,
  "checkpoint": "model/1",
  "id": "2" * 32,
  "nonce": "3" * 64,
  "recipient": "x25519:a",
  "rule": "models",
  "server": "keys.example",
  "stanza": "4" * 64,
}
# What a caller writes into its file, given the server.
SETTINGS = """\
server = "{url}"
ca = "ca.pem"
certificate = "trainer.pem"
certificate_key = "trainer.tls.key"
identity = "file:trainer.key"
recipient = "{recipient}"
receipts = "receipts.jsonl"
"""


class Authority:
  """A certification authority with two days to live."""

  def __init__(self, folder, name="ca"):
    self.folder = folder
    self._key = ec.generate_private_key(ec.SECP256R1())
    self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    self.path = folder / f"{name}.pem"
    self.path.write_bytes(self._certify(name, self._name, self._key, ca=True))

  def certify(self, name):
    """Write NAME.pem and NAME.tls.key; return the certificate's SHA-256."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    pem = self._certify(name, subject, key, ca=False)
    (self.folder / f"{name}.pem").write_bytes(pem)
    path = self.folder / f"{name}.tls.key"
    path.touch(mode=0o600)
    path.write_bytes(
      key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
      )
    )
    der = x509.load_pem_x509_certificate(pem).public_bytes(
      serialization.Encoding.DER
    )
    return hashlib.sha256(der).hexdigest()

  def _certify(self, name, subject, key, *, ca):
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
      x509.CertificateBuilder()
      .subject_name(subject)
      .issuer_name(self._name)
      .public_key(key.public_key())
      .serial_number(x509.random_serial_number())
      .not_valid_before(now - _DAY)
      .not_valid_after(now + _DAY)
      .add_extension(x509.BasicConstraints(ca, None), critical=True)
      .add_extension(x509.SubjectAlternativeName([address]), critical=False)
      .sign(self._key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


class World:
  """One server with the callers `trainer` and `other`, and three approvers."""

  def __init__(self, folder):
    self.folder = folder
    self.authority = Authority(folder)
    self.authority.certify("server")
    self.certificates = {
      name: self.authority.certify(name) for name in ("trainer", "other")
    }
    self.key = keyring.HpkePrivateKey.generate("x25519")
    self.log_key = keyring.SigningKey.generate()
    self.callers = {
      name: keyring.HpkePrivateKey.generate("x25519")
      for name in self.certificates
    }
    self.approvers = {
      name: keyring.SigningKey.generate() for name in ("alice", "bob", "carol")
    }
    self.policy = folder / "policy.toml"
    self.state = folder / "state"

  def write_policy(self, *, revoked=(), extra="", per_minute=6000, **rule):
    """Write a policy with one rule for every checkpoint."""
    fields = {
      "checkpoints": ["*"],
      "callers": ["trainer", "other"],
      "expires": "2100-01-01T00:00:00Z",
      "uses": 100,
      "approvals": 0,
      "approvers": [*self.approvers],
    } | rule
    lines = [f'name = "{NAME}"', f"revoked = {[*revoked]}", "[approvers]"]
    for name, key in self.approvers.items():
      lines.append(f'{name} = "{keyring.format_verify_key(key.public)}"')
    for name, digest in self.certificates.items():
      recipient = keyring.format_recipient(self.callers[name].public)
      lines += [
        f"[callers.{name}]",
        f'certificate = "{digest}"',
        f'recipient = "{recipient}"',
        f"per_minute = {per_minute}",
      ]
    lines.append("[rules.models]")
    for name, value in fields.items():
      quoted = isinstance(value, str) and name != "expires"
      lines.append(f"{name} = {value!r}" if quoted else f"{name} = {value}")
    self.policy.write_text("\n".join([*lines, extra, ""]))

  def envelope(self, checkpoint="model/1"):
    """Return an envelope that the server's key opens."""
    return keyring.seal_envelope(
      DATA_KEY, [self.key.public], checkpoint=checkpoint
    )

  def identity(self, url, name="trainer", **options):
    """Return the identity of a caller."""
    defaults = {
      "recipient": self.key.id,
      "identity": self.callers[name],
      "tls": self.client_tls(name),
      "requests": self.folder / "requests",
      "receipts": self.folder / f"{name}.jsonl",
      "patience": 0.0,
    }
    return keyring.ReleaseIdentity(url, **defaults | options)

  def client_tls(self, name):
    return client_context(
      ca=self.authority.path,
      certificate=self.folder / f"{name}.pem",
      key=self.folder / f"{name}.tls.key",
    )

  def server_tls(self):
    return keyring.tls.server_context(
      client_ca=self.authority.path,
      certificate=self.folder / "server.pem",
      key=self.folder / "server.tls.key",
    )

  @contextlib.contextmanager
  def releaser(self, *, identities=None, **options):
    """Open the state, and yield what decides."""
    keys = [self.key] if identities is None else identities
    with release.open_state(self.state, NAME, self.log_key) as state:
      made = release.Releaser(
        policy.PolicyFile(self.policy), keys, state, **options
      )
      with contextlib.closing(made):
        yield made

  @contextlib.contextmanager
  def served(self, **options):
    """Serve in a thread, and yield the address."""
    with (
      self.releaser(**options) as made,
      running(made, self.server_tls()) as x,
    ):
      yield x

  def entries(self):
    with release.read_state(self.state) as (_, entries):
      return [*entries]

  def approve(self, *names, seconds=60):
    """Approve the one request that waits."""
    [path] = (self.folder / "requests").glob("*.json")
    request = approvals.parse_request(path.read_bytes())
    for name in names:
      token = approvals.approve(request, self.approvers[name], seconds=seconds)
      path.with_suffix(f".{name}.jwt").write_text(token)
    return request


@contextlib.contextmanager
def running(releaser, tls):
  """Serve in a thread, and yield the address."""
  loop = asyncio.new_event_loop()
  thread = threading.Thread(target=loop.run_forever)
  thread.start()

  def run(coroutine):
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result(30)

  serving = release.serving(releaser, tls, host="127.0.0.1", port=0)
  try:
    url = run(serving.__aenter__())
    try:
      yield url
    finally:
      run(serving.__aexit__(None, None, None))
  finally:
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@contextlib.contextmanager
def process(world, port, identity="file:server.key", environment=None):
  """Start `keyjax serve-keys`, and yield the process once it listens."""
  command = [sys.executable, "-m", "keyjax.cli", "serve-keys"]
  command += ["--policy", "policy.toml", "--state", "state", "--json"]
  command += ["-i", identity, "--sign", "file:log.key"]
  command += ["--cert", "server.pem", "--cert-key", "server.tls.key"]
  command += ["--client-ca", "ca.pem", "--listen", f"127.0.0.1:{port}"]
  with subprocess.Popen(
    command,
    cwd=world.folder,
    stdout=subprocess.PIPE,
    env=os.environ | {"PYTHONPATH": str(ROOT)} | (environment or {}),
  ) as started:
    try:
      assert json.loads(started.stdout.readline())["url"].endswith(f":{port}")
      yield started
    finally:
      started.kill()


def write_settings(world, url, **changed):
  """Write the file with which the trainer asks a server, `release.toml`."""
  text = SETTINGS.format(url=url, recipient=world.key.id)
  for name, value in changed.items():
    lines = [x for x in text.splitlines() if not x.startswith(f"{name} =")]
    text = "\n".join(lines if value is None else [*lines, f"{name} = {value}"])
  (world.folder / "release.toml").write_text(text)


def ask_body(**fields):
  """Return the bytes of a request."""
  defaults = {
    "approvals": [],
    "checkpoint": "model/1",
    "evidence": "",
    "id": "0" * 32,
    "stanza": {"id": "x25519:a"},
  }
  return dump(defaults | fields)
