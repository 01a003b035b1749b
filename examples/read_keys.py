"""Read KeyJAX's key files and keyrings: docs/formats/key_files.md."""

import hashlib
import re

from examples.read_envelope import (
  KINDS,
  derive,
  is_name,
  need,
  octets,
  parse,
  stretch,
  unseal,
)


def without_checksum(head, data):
  """Return a line's data without its checksum."""
  data, found = data[:-4], data[-4:]
  want = hashlib.sha256(f"{head}:".encode() + data).digest()[:4]
  need(found == want, "cut or misread")
  return data


def public_key(text):
  """Return the kind and the bytes of a public key's line."""
  lines = [x for x in text.splitlines() if x and not x.startswith("#")]
  need(len(lines) == 1 and lines[0].startswith("keyjax-"), "no public key")
  head, _, body = lines[0].partition(":")
  return head.removeprefix("keyjax-"), without_checksum(head, octets(body))


def private_key(text, passphrase=None):
  """Return the kind and the bytes of a private key in a key file."""
  text = text.strip()
  need(len(text) <= 65536, "no key is that long")
  if re.fullmatch("[0-9a-fA-F]{64}", text):
    return "secret", bytes.fromhex(text)
  if text.startswith("{"):
    return protected_key(text.encode(), passphrase)
  head, _, body = text.partition(":")
  need(head.startswith("KEYJAX-SECRET-"), "no private key")
  kind = head.removeprefix("KEYJAX-SECRET-").lower()
  need(kind in KINDS, "an unknown kind of key")
  return kind, without_checksum(f"KEYJAX-SECRET-{kind}", octets(body))


def protected_key(data, passphrase):
  """Return the kind and the bytes of a key under a passphrase."""
  file = parse(data, 65536, 32)
  kind = file.get("kind")
  need(file.get("keyjax") == "key" and kind in KINDS, "no key file")
  need(type(file["version"]) is int and file["version"] == 1, "a version")
  key = derive(stretch(passphrase, file), "keyring/key-file")
  return kind, unseal(
    key, octets(file["sealed"]), f"keyjax/key/1/{kind}".encode()
  )


def open_keyring(data, root):
  """Return the contents of a keyring's file."""
  head, _, sealed = data.partition(b"\n")
  need(head.startswith(b"keyjax-keyring 1 "), "no keyring of version 1")
  name = head.removeprefix(b"keyjax-keyring 1 ")
  key = derive(root, "keyring/file")
  ring = parse(unseal(key, sealed, b"keyjax/keyring/1/" + name), 2**26, 2**26)
  need(is_name(ring["name"]), "a name")
  need(sum(k["primary"] is True for k in ring["keys"]) == 1, "a primary key")
  return ring
