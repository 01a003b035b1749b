"""Where the seeds come from: golden files and format vectors."""

import functools
import pathlib
import tarfile
import tempfile

import keyjax
from keyjax import keyring

TESTS = pathlib.Path(__file__).parent.parent
PASSPHRASE = "correct horse battery staple"
CHEAP = keyring.Cost(19456, 1, 1)
ROOT = keyjax.Secret(bytes(range(32)))


@functools.cache
def archive() -> dict[str, bytes]:
  """Return the golden files by their paths."""
  with tarfile.open(TESTS / "golden/70c8ca2.tar.gz") as opened:
    found = {}
    for member in opened.getmembers():
      if member.isfile():
        file = opened.extractfile(member)
        assert file is not None
        found[member.name.partition("/")[2]] = file.read()
  return found


def golden(name: str) -> bytes:
  """Return a golden file."""
  return archive()[name]


def golden_folder(name: str, target: pathlib.Path) -> pathlib.Path:
  """Write a golden folder to a new path, and return the path."""
  for path, data in archive().items():
    if path.startswith(f"{name}/"):
      file = target / path.removeprefix(f"{name}/")
      file.parent.mkdir(parents=True, exist_ok=True)
      file.write_bytes(data)
  return target


@functools.cache
def folder() -> pathlib.Path:
  """Return a folder for the files of this process."""
  return pathlib.Path(tempfile.mkdtemp())


def written(name: str, data: bytes) -> pathlib.Path:
  """Write a private file, and return its path."""
  path = folder() / name
  path.write_bytes(data)
  path.chmod(0o600)
  return path
