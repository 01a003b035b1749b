"""The log: entries under a Merkle tree, and a signed note about each size.

An entry is one line of JSON. The tree is that of RFC 6962, and the note is a
checkpoint of c2sp.org/tlog-checkpoint, a c2sp.org/signed-note with an Ed25519
signature: the name of the server, the number of entries and the root.

    keys.example/team-a
    3
    <base64 of the root>

    — keys.example/team-a <base64 of 4 bytes of the key's hash, signature>

**Guarantees.** Whoever has a note and the public key can verify that a list of
entries is the one that was signed, in that order, and that an earlier note is
about a beginning of it. Nobody without the private key can change, remove or
reorder an entry that a kept note covers.

**Known breaks.** The server can show one log to some and another to others, or
withhold the last entries, unless the notes that callers received are compared
with it. Whoever has the private key can write another log.

References:
  B. Laurie, A. Langley and E. Kasper, RFC 6962, "Certificate Transparency",
  2013, section 2.1.
  c2sp.org/tlog-checkpoint, c2sp.org/signed-note, 2024.
"""

import base64
import binascii
import contextlib
import hashlib
import re
from collections.abc import Iterable
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature

from keyjax.errors import ContentError
from keyjax.keyring import SigningKey, VerifyKey
from keyjax.keyring.signing import ED25519, signature_kind
from keyjax.merkle import Tree

_ED25519_NOTE = b"\x01"
_NOTE = re.compile(
  r"(?P<text>(?P<origin>[^\s+]+)\n(?P<size>0|[1-9][0-9]{0,17})\n"
  r"(?P<root>[A-Za-z0-9+/]{43}=)\n)\n"
  r"\u2014 (?P<signer>[^\s+]+) (?P<signature>[A-Za-z0-9+/=]+)\n"
)


class Head(NamedTuple):
  """What a note states.

  Attributes:
    origin: Name of the server.
    size: Number of entries.
    root: Root of the tree over them, 32 bytes.
  """

  origin: str
  size: int
  root: bytes


def sign_note(origin: str, tree: Tree, signer: SigningKey) -> str:
  """Return a signed note about a tree."""
  root = base64.b64encode(tree.root()).decode()
  text = f"{origin}\n{tree.size}\n{root}\n"
  tag = _key_hash(origin, signer.public)
  signature = tag + signer.private.sign(text.encode())
  return f"{text}\n\u2014 {origin} {base64.b64encode(signature).decode()}\n"


def open_note(note: str, key: VerifyKey) -> Head:
  """Verify the signature of a note, and return what it states.

  Raises:
    ContentError: If it is no note, or not signed with this key.

  Example:
    >>> key = SigningKey.generate()
    >>> open_note(sign_note("keys", Tree(), key), key.public).size
    0
  """
  found = _NOTE.fullmatch(note)
  if found is None or found["signer"] != found["origin"]:
    raise ContentError("this is not a signed note about a log")
  signature = b""
  with contextlib.suppress(binascii.Error):
    signature = base64.b64decode(found["signature"], validate=True)
  try:
    if signature[:4] != _key_hash(found["origin"], key):
      raise InvalidSignature
    key.verify(signature[4:], found["text"].encode())
  except InvalidSignature:
    raise ContentError("the note is not signed with this key") from None
  root = base64.b64decode(found["root"])
  return Head(found["origin"], int(found["size"]), root)


def _key_hash(origin: str, key: VerifyKey) -> bytes:
  """Return the first bytes of a note's signature, which name its key."""
  if signature_kind(key) != ED25519:
    raise ContentError("a log is signed with a key of kind ed25519")
  named = origin.encode() + b"\n" + _ED25519_NOTE + key.public_bytes_raw()
  return hashlib.sha256(named).digest()[:4]


def check_entries(entries: Iterable[bytes], heads: Iterable[Head]) -> Tree:
  """Verify that entries begin with those of each note.

  Args:
    entries: All entries in order.
    heads: What `open_note` returned, of notes in any order.

  Returns:
    The tree over the entries.

  Raises:
    ContentError: If an entry was changed, added, removed or reordered, or a
      note is about entries that are not there.
  """
  wanted: dict[int, set[bytes]] = {}
  for head in heads:
    wanted.setdefault(head.size, set()).add(head.root)
  tree = Tree()
  _check_root(tree, wanted)
  for entry in entries:
    tree.append(entry)
    _check_root(tree, wanted)
  if wanted:
    raise ContentError(
      f"the log has {tree.size} entries, and a note is about {max(wanted)}"
    )
  return tree


def _check_root(tree: Tree, wanted: dict[int, set[bytes]]) -> None:
  roots = wanted.pop(tree.size, None)
  if roots is not None and roots != {tree.root()}:
    raise ContentError(
      f"the first {tree.size} entries of the log are not those that were signed"
    )
