"""Private and public keys, keyrings and shares."""

import json
import random
from collections.abc import Sequence
from typing import Any

from shamir_mnemonic.share import Share

import keyjax
from keyjax import keyring
from keyjax.errors import KeyringError
from keyjax.keyring import encoding, entries
from tests.formats.vectors import octets, vectors
from tests.fuzz.mutate import (
  change_bytes,
  change_json,
  either,
  is_object,
  where,
)
from tests.fuzz.sources import (
  CHEAP,
  PASSPHRASE,
  ROOT,
  TESTS,
  golden,
  written,
)
from tests.fuzz.target import Target

# ------------------------------------------------------------------ key files


def _lines() -> list[bytes]:
  cases = vectors("key_files")["keys"]
  return [case["plain"].encode() for case in cases]


def _key_files() -> list[bytes]:
  cases = vectors("key_files")["keys"]
  return _lines() + [case["protected"].encode() for case in cases]


def _bodies(lines: Sequence[bytes]) -> list[str]:
  return [x.decode("ascii", "replace").partition(":")[2] for x in lines]


def read_key(data: bytes) -> Any:
  """Return a key as plain text: two keys are the same if it is."""
  key = keyring.parse_key(data, PASSPHRASE, max_cost=CHEAP)
  return keyring.format_key(key)


def _change_line(
  rng: random.Random, line: bytes, others: Sequence[bytes]
) -> bytes:
  """Return a line `KIND:BASE64` of other bytes, with their checksum."""
  head, _, body = line.decode("ascii", "replace").partition(":")
  raw = change_bytes(rng, encoding.decode(body.strip())[:-4], ())
  covered = head.replace(head[14:], head[14:].lower())
  if head.startswith("keyjax-"):
    covered = head
  sealed = raw + encoding.checksum(covered, raw)
  return f"{head}:{encoding.encode(sealed)}".encode()


def _pem_files() -> list[bytes]:
  names = ("keyring/x25519.pem.txt", "keyring/rsa.pem.txt")
  return [golden(name) for name in names]


def _change_pem(
  rng: random.Random, text: bytes, others: Sequence[bytes]
) -> bytes:
  lines = text.split(b"\n")
  der = encoding.decode(b"".join(lines[1:-2]).decode("ascii"))
  # Most of the file is ciphertext: change the algorithm more often.
  size = rng.choice((len(der), 120))
  der = change_bytes(rng, der[:size], ()) + der[size:]
  body = encoding.encode(der).encode()
  return b"\n".join((lines[0], body, *lines[-2:]))


# --------------------------------------------------------------- public keys


def _public_lines() -> list[bytes]:
  cases = vectors("key_files")["keys"]
  return [c["public"].encode() for c in cases if "public" in c]


def read_public(data: bytes) -> Any:
  """Return a public key as text, after wrapping for it."""
  text = data.decode("utf-8", "surrogateescape")
  if text.startswith(("keyjax-ed", "keyjax-ml-")):
    return keyring.format_verify_key(keyring.parse_verify_key(text))
  recipient = keyring.parse_recipient(text)
  recipient.wrap(bytes(32), b"context")
  return keyring.format_recipient(recipient)


# ------------------------------------------------------------------- keyrings


def read_keyring(data: bytes) -> Any:
  """Return the keys and licensees of a keyring."""
  ring = keyring.Keyring.load(written("ring", data), ROOT)
  keys = [(e.id, e.status, e.primary, e.recipient_id) for e in ring.entries]
  names = [(g.name, g.created, g.withdrawn) for g in ring.licensees]
  keyring.trace_licensee(bytes(56), ring.issued())
  return ring.name, keys, names, [i.id for i in ring.identities()]


def read_state(data: bytes) -> Any:
  """Return what a keyring of this content is written as again."""
  fields = encoding.parse(data, "a keyring", size=2**26, items=2**26)
  state = entries.read_state(fields)
  state.primary()
  return encoding.dump(state.reveal())


def _states() -> list[bytes]:
  state = entries.State("team-a", (), (), ROOT).added().added()
  # Secrets are random there, and seeds are the same at each run.
  fields = state.with_grant(entries.Grant("lab", "2026", False)).reveal()
  for number, key in enumerate(fields["keys"]):
    secret = keyjax.Secret(bytes([number]) * 32)
    key["secret"] = encoding.encode(secret._bytes)
    key["fingerprint"] = secret.fingerprint()
    key["created"] = "2026-01-01T00:00:00Z"
  return [encoding.dump(fields)]


# --------------------------------------------------------------------- shares


def _shares() -> list[bytes]:
  cases = json.loads((TESTS / "vectors/slip39.json").read_text())
  long = [shares for _, shares, secret, *_ in cases if len(secret) == 64]
  return ["\n".join(shares).encode() for shares in long]


def read_shares(data: bytes) -> Any:
  """Return the fingerprint of the secret that shares restore."""
  lines = data.decode("utf-8", "replace").splitlines()
  secret = keyring.combine_shares(
    [x for x in lines if x.strip()], "TREZOR", max_cost=CHEAP
  )
  return secret.fingerprint()


def _change_shares(
  rng: random.Random, data: bytes, others: Sequence[bytes]
) -> bytes:
  """Change the numbers of a share, and its checksum with them."""
  lines = data.decode("ascii", "replace").splitlines()
  at = rng.randrange(len(lines))
  fields = ("iteration_exponent", "group_index", "index", "member_threshold")
  fields += ("group_threshold", "group_count")
  share = Share.from_mnemonic(lines[at])
  values = dict(share.__dict__)
  for name in rng.sample(fields, rng.choice((1, 2))):
    values[name] = rng.randint(0, 15) + ("threshold" in name)
  values["value"] = rng.choice((share.value, bytes(rng.choice((16, 512)))))
  lines[at] = Share(**values).mnemonic()
  return "\n".join(lines).encode()


TARGETS = [
  Target(
    name="key_file",
    read=read_key,
    seeds=_key_files,
    refusals=(KeyringError,),
    change=either(change_bytes, where(is_object, change_json)),
    authentic=True,
    secrets=lambda: _bodies(_lines()),
  ),
  Target(
    name="key_contents",
    read=read_key,
    seeds=lambda: [*_lines(), ROOT._bytes.hex().encode()],
    refusals=(KeyringError,),
    change=either(_change_line, _change_line, change_bytes),
    secrets=lambda: [*_bodies(_lines()), ROOT._bytes.hex()],
  ),
  Target(
    name="key_pem",
    read=read_key,
    seeds=_pem_files,
    refusals=(KeyringError,),
    change=either(_change_pem, change_bytes),
    secrets=lambda: [golden("keyring/x25519.plain.txt").decode()[22:]],
  ),
  Target(
    name="public_key",
    read=read_public,
    seeds=_public_lines,
    refusals=(KeyringError,),
    authentic=True,
  ),
  Target(
    name="public_key_contents",
    read=read_public,
    seeds=_public_lines,
    refusals=(KeyringError,),
    change=_change_line,
  ),
  Target(
    name="keyring",
    read=read_keyring,
    seeds=lambda: [octets(vectors("keyrings")["file"])],
    refusals=(KeyringError,),
    authentic=True,
  ),
  Target(
    name="keyring_state",
    read=read_state,
    seeds=_states,
    refusals=(KeyringError,),
    change=where(is_object, change_json),
    secrets=lambda: [encoding.encode(bytes([n]) * 32) for n in (0, 1)],
  ),
  Target(
    name="shares",
    read=read_shares,
    seeds=_shares,
    refusals=(KeyringError,),
    authentic=True,
    secrets=lambda: [x.decode() for x in _shares()],
  ),
  Target(
    name="shares_of_owner",
    read=read_shares,
    seeds=_shares,
    refusals=(KeyringError,),
    change=either(_change_shares, _change_shares, change_bytes),
    secrets=lambda: [x.decode() for x in _shares()],
  ),
]
