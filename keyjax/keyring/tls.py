"""TLS 1.3 between a release server and its callers, who show certificates."""

import os
import ssl

from keyjax import private_files
from keyjax.errors import KeyringError


def client_context(
  *,
  ca: str | os.PathLike[str],
  certificate: str | os.PathLike[str],
  key: str | os.PathLike[str],
) -> ssl.SSLContext:
  """Return a TLS 1.3 context with a caller's certificate.

  Args:
    ca: PEM file of those who may certify the server.
    certificate: PEM file of the caller's certificate and its chain.
    key: PEM file of its private key, mode 600, without a passphrase.

  Raises:
    KeyringError: If a file does not hold what it should.
    PermissionError: If others can read the private key.
  """
  context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
  return _configure(context, ca=ca, certificate=certificate, key=key)


def server_context(
  *,
  client_ca: str | os.PathLike[str],
  certificate: str | os.PathLike[str],
  key: str | os.PathLike[str],
) -> ssl.SSLContext:
  """Return a TLS 1.3 context that requires certificates of clients.

  Args:
    client_ca: PEM file of those who may certify clients.
    certificate: PEM file of the server's certificate and its chain.
    key: PEM file of its private key, mode 600, without a passphrase.

  Raises:
    KeyringError: If a file does not hold what it should.
    PermissionError: If others can read the private key.
  """
  context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
  _configure(context, ca=client_ca, certificate=certificate, key=key)
  context.verify_mode = ssl.CERT_REQUIRED
  context.num_tickets = 0  # Every connection shows its certificate again.
  return context


def _configure(
  context: ssl.SSLContext,
  *,
  ca: str | os.PathLike[str],
  certificate: str | os.PathLike[str],
  key: str | os.PathLike[str],
) -> ssl.SSLContext:
  """Set the files of a context, and TLS 1.3; see `client_context`."""
  context.minimum_version = ssl.TLSVersion.TLSv1_3
  private_files.open_to_read(key).close()
  try:
    context.load_verify_locations(ca)
  except ssl.SSLError:
    raise KeyringError(f"{ca} holds no certificates") from None
  try:
    # A passphrase would be asked for on the terminal.
    context.load_cert_chain(certificate, key, password=lambda: b"")
  except (ssl.SSLError, ValueError):
    raise KeyringError(
      f"{certificate} and {key} are not a certificate and its private key "
      "without a passphrase"
    ) from None
  return context
