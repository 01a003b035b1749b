"""Keys, envelopes, keyrings, shares and signatures."""

import functools
import json
import pathlib
import random
import tempfile
from collections.abc import Sequence
from typing import Any

from shamir_mnemonic.share import Share

import keyjax
from keyjax import keyring
from keyjax.errors import KeyringError
from keyjax.keyring import encoding, entries, envelope
from tests.formats.vectors import octets, vectors
from tests.fuzz.mutate import (
  change_bytes,
  change_json,
  either,
  where,
)
from tests.fuzz.sources import CHEAP, PASSPHRASE, ROOT, TESTS, golden
from tests.fuzz.target import Finding, Target

_DATA_KEY = bytes.fromhex(vectors("envelopes")["data_key"])


def _is_json(data: bytes) -> bool:
  try:
    return isinstance(json.loads(data), dict)
  except (ValueError, RecursionError):
    return False


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


# ------------------------------------------------------------------ envelopes


@functools.cache
def _tree() -> keyring.Broadcast:
  return keyring.Broadcast(ROOT, depth=3, revoked=[2])


@functools.cache
def identities() -> list[Any]:
  """Return one identity of each kind."""
  found: dict[str, Any] = {}
  for case in vectors("key_files")["keys"]:
    key = keyring.parse_key(case["plain"])
    if not isinstance(key, keyring.SigningKey):
      found[case["kind"]] = keyring.as_identity(key)
  folder = pathlib.Path(tempfile.mkdtemp())
  kms = vectors("envelopes")["kms"]
  secret = keyjax.Secret(bytes.fromhex(kms["secret"]))
  secret.save(folder / f"{kms['name']}.key")
  service = keyring.KmsKey(keyring.LocalKms(folder), kms["name"])
  words = keyring.Passphrase(PASSPHRASE, CHEAP, max_cost=CHEAP)
  return [*found.values(), service, words]


def _envelopes() -> list[bytes]:
  found = vectors("envelopes")
  names = ("envelope", "with_passphrase")
  return [found[name].encode() for name in names]


def read_envelope(data: bytes) -> Any:
  """Return what every identity that opens an envelope gets."""
  keyring.inspect_envelope(data)
  keyring.trace_licensee(data, [])
  found: list[Any] = []
  refused: KeyringError | None = None
  for identity in identities():
    try:
      opened = keyring.open_envelope(data, [identity])
    except KeyringError as error:
      refused = error
      continue
    content = opened.data_key, opened.checkpoint, opened.metadata
    found.append((*content, opened.created))
  if refused is not None and not found:
    raise refused
  if any(one != found[0] for one in found):
    raise Finding("two recipients read different contents")
  return found[0]


def _rewrap(data: bytes) -> Any:
  """Do what an owner does with an envelope that a recipient has written."""
  read_envelope(data)
  opened = keyring.open_envelope(data, identities())
  kept = keyring.existing_recipients(data, identities())
  keyring.rewrap_envelope(data, identities(), kept)
  root = keyring.as_identity(ROOT)
  return opened.id, keyring.rewrap_envelope(
    data, identities(), [root, _tree()], revoked=["aes:1"]
  )


def _sign_envelope(document: dict[str, Any]) -> bytes:
  document.pop("mac", None)
  mac = envelope._mac(_DATA_KEY, document)
  return encoding.dump(document | {"mac": mac})


def _change_as_recipient(
  rng: random.Random, data: bytes, others: Sequence[bytes]
) -> bytes:
  """Change an envelope as someone who knows its data key can."""
  return _sign_envelope(json.loads(change_json(rng, data, others)))


def read_private_part(data: bytes) -> Any:
  """Open and rewrap an envelope with another private part."""
  document = json.loads(_envelopes()[0])
  key = envelope._private_key(_DATA_KEY)
  sealed = keyjax.seal.seal(key, data, envelope._context("model-a/7"))
  document["sealed"] = encoding.encode(sealed)
  return _rewrap(_sign_envelope(document))


def _private_parts() -> list[bytes]:
  expires = {identities()[1].id: "2999-01-01T00:00:00Z"}
  private = {"created": "2026-01-01T00:00:00Z", "expires": expires}
  return [encoding.dump(private | {"extra": {"note": ["x", 1]}})]


# ------------------------------------------------------------------- keyrings


def read_keyring(data: bytes) -> Any:
  """Return the keys and licensees of a keyring."""
  path = pathlib.Path(_folder(), "ring")
  path.write_bytes(data)
  path.chmod(0o600)
  ring = keyring.Keyring.load(path, ROOT)
  keys = [(e.id, e.status, e.primary, e.recipient_id) for e in ring.entries]
  names = [(g.name, g.created, g.withdrawn) for g in ring.licensees]
  keyring.trace_licensee(bytes(56), ring.issued())
  return ring.name, keys, names, [i.id for i in ring.identities()]


@functools.cache
def _folder() -> str:
  return tempfile.mkdtemp()


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
    change=either(change_bytes, where(_is_json, change_json)),
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
    name="envelope",
    read=read_envelope,
    seeds=_envelopes,
    refusals=(KeyringError,),
    change=either(change_bytes, where(_is_json, change_json)),
    authentic=True,
    secrets=lambda: [_DATA_KEY.hex(), PASSPHRASE],
  ),
  Target(
    name="envelope_of_recipient",
    read=_rewrap,
    seeds=lambda: _envelopes()[:1],
    refusals=(KeyringError,),
    change=where(_is_json, _change_as_recipient),
    secrets=lambda: [_DATA_KEY.hex()],
  ),
  Target(
    name="envelope_private_part",
    read=read_private_part,
    seeds=_private_parts,
    refusals=(KeyringError,),
    change=either(where(_is_json, change_json), change_bytes),
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
    change=where(_is_json, change_json),
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
