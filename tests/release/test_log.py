"""The log: vectors of others, and what is refused."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from keyjax import keyring
from keyjax.errors import ContentError
from keyjax.release import log

# From the reference tests of Certificate Transparency.
ENTRIES = [
  bytes.fromhex(x)
  for x in (
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
  )
]
ROOTS = [
  "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
  "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
  "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
  "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
  "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
  "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
  "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
  "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
  "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


@pytest.fixture
def key():
  return keyring.SigningKey.generate()


def tree_of(entries):
  tree = log.Tree()
  for entry in entries:
    tree.append(entry)
  return tree


@pytest.mark.vectors
@pytest.mark.parametrize("size", range(9))
def test_roots_of_rfc_6962(size):
  assert tree_of(ENTRIES[:size]).root().hex() == ROOTS[size]


@pytest.mark.vectors
def test_the_key_hash_of_a_signed_note_of_go():
  """The example of golang.org/x/mod/sumdb/note."""
  text = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
  )
  signature = base64.b64decode(
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngot"
    "pRZb6KE6RyyBwJnAM="
  )
  data = base64.b64decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
  key = Ed25519PublicKey.from_public_bytes(data[1:])
  key.verify(signature[4:], text.encode())
  assert log._key_hash("PeterNeumann", key) == signature[:4]
  assert signature[:4].hex() == "c74f20a3"


def test_a_copy_of_a_tree_grows_alone():
  tree = tree_of(ENTRIES[:3])
  other = tree.copy()
  other.append(b"more")
  assert tree.root().hex() == ROOTS[3] and other.size == 4


def test_a_note_states_the_tree_that_was_signed(key):
  head = log.open_note(log.sign_note("a/b", tree_of(ENTRIES), key), key.public)
  assert head == ("a/b", 8, bytes.fromhex(ROOTS[8]))


def test_a_changed_note_is_refused(key):
  note = log.sign_note("a/b", tree_of(ENTRIES), key)
  lines = note.split("\n")
  tagged = base64.b64decode(lines[4].split()[2])
  other = base64.b64encode(bytes(4) + tagged[4:]).decode()
  for changed in (
    note.replace("a/b", "a/c"),
    note.replace("\n8\n", "\n7\n"),
    note.replace("\n8\n", "\n08\n"),
    note[:-1],
    note + "\n",
    "",
    note.replace("\u2014", "-"),
    f"\u2014 a/b {other}\n".join([note.partition("\u2014")[0], ""]),
    note.replace(lines[4].split()[2], "AAAAA"),
  ):
    with pytest.raises(ContentError):
      log.open_note(changed, key.public)


def test_a_note_of_another_key_is_refused(key):
  note = log.sign_note("a", log.Tree(), key)
  for other in (keyring.SigningKey.generate("ed25519").public,):
    with pytest.raises(ContentError, match="not signed with this key"):
      log.open_note(note, other)
  post_quantum = keyring.SigningKey.generate("ml-dsa-65").public
  with pytest.raises(ContentError, match="ed25519"):
    log.open_note(note, post_quantum)


def test_entries_that_begin_as_signed_are_accepted():
  heads = [log.Head("a", n, bytes.fromhex(ROOTS[n])) for n in (0, 3, 7, 8)]
  assert log.check_entries(ENTRIES, heads).size == 8


@pytest.mark.parametrize(
  "entries",
  [
    ENTRIES[:6],
    [*ENTRIES[:6], b"changed"],
    ENTRIES[1:],
    [ENTRIES[1], ENTRIES[0], *ENTRIES[2:]],
  ],
)
def test_entries_that_do_not_are_refused(entries):
  with pytest.raises(ContentError, match="entries"):
    log.check_entries(entries, [log.Head("a", 7, bytes.fromhex(ROOTS[7]))])


def test_two_notes_of_one_size_that_differ_are_refused():
  heads = [log.Head("a", 1, bytes.fromhex(ROOTS[1])), log.Head("a", 1, b"x")]
  with pytest.raises(ContentError, match="not those that were signed"):
    log.check_entries(ENTRIES, heads)
