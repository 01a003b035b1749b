"""The vectors of the package cryptography-vectors."""

import os

import pytest


@pytest.fixture(scope="session")
def nist():
  """Return a function that reads a file of cryptography-vectors."""
  vectors = pytest.importorskip("cryptography_vectors")

  def read(name):
    with vectors.open_vector_file(
      os.path.join("ciphers", "AES", name), "r"
    ) as f:
      return f.read()

  return read
