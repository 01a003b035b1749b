"""Verify a log without KeyJAX: `verify_release_log.py LOG log.key.pub`."""

import hashlib
import json
import pathlib
import sys
import tomllib
from base64 import b64decode, urlsafe_b64decode

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def public_key(line):
  """Read keyjax-ed25519:BASE64, of 32 bytes and a checksum."""
  data = b64decode(line.split()[0].partition(":")[2])
  return Ed25519PublicKey.from_public_bytes(data[:32])


def root(leaves):
  """Return the root of the tree of RFC 6962 over one leaf or more."""
  if len(leaves) == 1:
    return leaves[0]
  left = 1 << (len(leaves) - 1).bit_length() - 1
  both = root(leaves[:left]) + root(leaves[left:])
  return hashlib.sha256(b"\1" + both).digest()


def verify(folder, key):
  """Return how often each key was released; raise an error if one was not."""
  entries = (folder / "log.jsonl").read_bytes().splitlines()
  text, _, signed = (folder / "log.note").read_text("utf-8").partition("\n\n")
  key.verify(b64decode(signed.split()[2])[4:], f"{text}\n".encode())
  leaves = [hashlib.sha256(b"\0" + entry).digest() for entry in entries]
  _, size, top = text.split("\n")
  wrong = int(size) != len(leaves) or b64decode(top) != root(leaves)
  uses = {}
  for entry in map(json.loads, entries):
    if entry["event"] == "policy":
      policy = tomllib.loads(entry["text"])
    if entry["event"] == "release":
      rule, name = policy["rules"][entry["rule"]], entry["checkpoint"]
      uses[name] = uses.get(name, 0) + 1
      wrong |= not uses[name] == entry["use"] <= rule["uses"]
      wrong |= len(entry["approvals"]) < rule["approvals"]
      for approver, token in entry["approvals"].items():
        body, _, mark = token.rpartition(".")  # A JSON web token.
        known = public_key(policy["approvers"][approver])
        known.verify(urlsafe_b64decode(mark + "=="), body.encode())
        claims = json.loads(urlsafe_b64decode(body.split(".")[1] + "=="))
        about = claims["jti"], claims["request"]["checkpoint"]
        wrong |= about != (entry["request"], name)
        wrong |= approver not in rule["approvers"]
  if wrong:
    raise SystemExit(f"{folder} breaks its signature or its rules")
  return uses


if __name__ == "__main__":
  key_file = pathlib.Path(sys.argv[2]).read_text()
  print(verify(pathlib.Path(sys.argv[1]), public_key(key_file)))
