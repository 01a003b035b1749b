"""One recipient of every kind, and a keyring."""

import pytest

from keyjax import Secret, keyring
from tests.devices import SoftwareKey

CHEAP = keyring.Cost(19456, 1, 1)
# Importing it for doctests would register the toy kind in every process.
collect_ignore = ["toy_kind.py"]


def _kms(folder):
  kms = keyring.LocalKms(folder)
  kms.create(folder.name)
  return keyring.KmsKey(kms, folder.name)


_MAKERS = {
  "aes": lambda folder: keyring.SymmetricKey(Secret.generate()),
  "x25519": lambda folder: keyring.HpkePrivateKey.generate("x25519"),
  "hybrid": lambda folder: keyring.HpkePrivateKey.generate(),
  "rsa": lambda folder: keyring.RsaIdentity.generate(2048),
  "passphrase": lambda folder: keyring.Passphrase("six random words", CHEAP),
  "kms": _kms,
  "p256": lambda folder: SoftwareKey(),
}
KINDS = [*_MAKERS, "broadcast"]


def pair(kind, folder):
  """Return a recipient and its identity."""
  if kind == "broadcast":
    tree = keyring.Broadcast(Secret.generate(), depth=8, revoked=[3, 200])
    return tree, tree.device(77)
  both = _MAKERS[kind](folder)
  return getattr(both, "public", both), both


@pytest.fixture(params=KINDS)
def kind(request):
  return request.param


@pytest.fixture
def make_pair(tmp_path):
  """Return a function from a kind to a recipient and its identity."""
  count = iter(range(1000))
  return lambda kind: pair(kind, tmp_path / str(next(count)))


@pytest.fixture
def root():
  return Secret.generate()


@pytest.fixture
def ring(tmp_path, root):
  return keyring.Keyring.create(tmp_path / "team-a.keyring", root, "team-a")
