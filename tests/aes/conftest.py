"""Where the external vectors lie, and how bytes become arrays."""

import json
import os
import pathlib

import pytest


def _folder():
  root = pathlib.Path(__file__).resolve().parents[2]
  beside = root.parent / "shared" / "vectors"
  given = os.environ.get("KEYJAX_VECTORS_DIR")
  return beside if beside.is_dir() or not given else pathlib.Path(given)


@pytest.fixture(scope="session")
def wycheproof():
  """Returns a reader of a Wycheproof file, or skips."""

  def read(name):
    path = _folder() / name
    if not path.is_file():
      pytest.skip(
        f"{name} is neither in {path.parent} nor where "
        "KEYJAX_VECTORS_DIR points"
      )
    return json.loads(path.read_text())

  return read


@pytest.fixture(scope="session")
def nist():
  """Returns a reader of a file of the package cryptography-vectors."""
  vectors = pytest.importorskip("cryptography_vectors")

  def read(name):
    with vectors.open_vector_file(
      os.path.join("ciphers", "AES", name), "r"
    ) as f:
      return f.read()

  return read
