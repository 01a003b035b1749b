"""A release server under load: unwraps a second, over mutual TLS.

The server is `keyjax serve-keys` in a process of its own, with its state on
this machine's disk. One other process sends requests over connections that it
keeps, one request after another on each; it does not open the answers. Every
request is a new one: counted, logged and on the disk before it is answered.
"""

import asyncio
import contextlib
import datetime
import hashlib
import ipaddress
import json
import os
import pathlib
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from experiments.benchmarks import timing
from keyjax import keyring
from keyjax.keyring.encoding import dump
from keyjax.keyring.tls import client_context

_CONNECTIONS = (1, 64)
_SECONDS = 4.0
_POLICY = """\
name = "benchmark"
[callers.load]
certificate = "{certificate}"
recipient = "{recipient}"
per_minute = 100000000
[rules.all]
checkpoints = ["*"]
callers = ["load"]
expires = 2100-01-01T00:00:00Z
uses = 1000000000
approvals = 0
"""


def rows(rounds: int) -> list[dict[str, Any]]:
  """Measure, and return the rows of the table.

  Args:
    rounds: Number of times that everything runs, after one that is not counted.
  """
  made = []
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    with _served(folder) as (process, port, envelope):
      for connections in _CONNECTIONS:
        rates, slowest, cpu = [], [], []
        for _ in range(rounds + 1):
          before = _processor_seconds(process)
          times = asyncio.run(_load(folder, port, envelope, connections))
          cpu.append((_processor_seconds(process) - before) / len(times))
          rates.append(len(times) / _SECONDS)
          slowest.append(np.quantile(times, 0.99))
        title = f"release server, {connections} connections"
        target = ">= 1000" if connections > 1 else ""
        made += [
          _row(f"{title}: unwraps a second", rates, "1/s", target),
          _row(f"{title}: 99 % within", 1e3 * np.array(slowest), "ms"),
          _row(f"{title}: its processor time", 1e6 * np.array(cpu), "us"),
        ]
  return made


def _row(
  title: str, values: Any, unit: str, target: str = ""
) -> dict[str, Any]:
  counted = np.array(values)[1:]  # Not the round that warms the caches.
  return timing.row(title, timing.summary(counted), unit, target)


def _processor_seconds(process: int) -> float:
  """Return the processor time of a process so far."""
  text = pathlib.Path(f"/proc/{process}/stat").read_text()
  user, system = text.rpartition(")")[2].split()[11:13]
  return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def _served(folder: pathlib.Path) -> Iterator[tuple[int, int, bytes]]:
  """Start a server; yield its process, port, and an envelope that it opens."""
  server = keyring.HpkePrivateKey.generate("x25519")
  caller = keyring.HpkePrivateKey.generate("x25519")
  keyring.write_key(folder / "server.key", server, plain=True)
  log_key = keyring.SigningKey.generate()
  keyring.write_key(folder / "log.key", log_key, plain=True)
  _certify(folder, "server")
  policy = _POLICY.format(
    certificate=_certify(folder, "load"),
    recipient=keyring.format_recipient(caller.public),
  )
  (folder / "policy.toml").write_text(policy)
  command = [sys.executable, "-m", "keyjax.cli", "serve-keys"]
  command += ["--policy", "policy.toml", "--state", "state", "--json"]
  command += ["-i", "file:server.key", "--sign", "file:log.key"]
  command += ["--cert", "server.pem", "--cert-key", "server.tls.key"]
  command += ["--client-ca", "load.pem", "--listen", "127.0.0.1:0"]
  with subprocess.Popen(
    command, cwd=folder, stdout=subprocess.PIPE, text=True
  ) as process:
    try:
      assert process.stdout is not None
      url = json.loads(process.stdout.readline())["url"]
      envelope = keyring.seal_envelope(
        bytes(32), [server.public], checkpoint="benchmark/1"
      )
      yield process.pid, int(url.rpartition(":")[2]), envelope
    finally:
      process.terminate()


def _certify(folder: pathlib.Path, name: str) -> str:
  """Write a self-signed certificate and its key; return its SHA-256."""
  key = ec.generate_private_key(ec.SECP256R1())
  subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
  now = datetime.datetime.now(datetime.UTC)
  address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
  made = (
    x509.CertificateBuilder()
    .subject_name(subject)
    .issuer_name(subject)
    .public_key(key.public_key())
    .serial_number(x509.random_serial_number())
    .not_valid_before(now - datetime.timedelta(days=1))
    .not_valid_after(now + datetime.timedelta(days=1))
    .add_extension(x509.SubjectAlternativeName([address]), critical=False)
    .sign(key, hashes.SHA256())
  )
  (folder / f"{name}.pem").write_bytes(
    made.public_bytes(serialization.Encoding.PEM)
  )
  private = key.private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption(),
  )
  fd = os.open(folder / f"{name}.tls.key", os.O_WRONLY | os.O_CREAT, 0o600)
  with os.fdopen(fd, "wb") as file:
    file.write(private)
  der = made.public_bytes(serialization.Encoding.DER)
  return hashlib.sha256(der).hexdigest()


async def _load(
  folder: pathlib.Path, port: int, envelope: bytes, connections: int
) -> np.ndarray:
  """Send requests for some seconds; return the seconds that each one took."""
  tls = client_context(
    ca=folder / "server.pem",
    certificate=folder / "load.pem",
    key=folder / "load.tls.key",
  )
  [stanza] = json.loads(envelope)["recipients"]
  ask = {
    "approvals": [],
    "checkpoint": "benchmark/1",
    "evidence": "",
    "stanza": stanza,
  }
  times: list[float] = []

  async def one() -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    end = time.perf_counter() + _SECONDS
    while (start := time.perf_counter()) < end:
      body = dump(ask | {"id": secrets.token_hex(16)})
      head = f"POST /unwrap HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}"
      writer.write(head.encode() + b"\r\n\r\n" + body)
      answer = await reader.readuntil(b"\r\n\r\n")
      if not answer.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(answer.decode(errors="replace").splitlines()[0])
      size = int(answer.lower().split(b"content-length: ")[1].split()[0])
      await reader.readexactly(size)
      times.append(time.perf_counter() - start)
    writer.close()

  await asyncio.gather(*(one() for _ in range(connections)))
  return np.array(times)
