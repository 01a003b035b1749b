"""Parsers of untrusted bytes: no crash, no hang, no wrong result."""

import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyjax import Secret, keyring
from keyjax.keyring import encoding

KEY = keyring.SymmetricKey(Secret.generate())
HYBRID = keyring.HpkePrivateKey.generate()
TREE = keyring.Broadcast(Secret.generate(), depth=6, revoked=[1])
DEVICE = TREE.device(9)
IDENTITIES = [KEY, HYBRID, DEVICE]
GOOD = keyring.seal_envelope(
  os.urandom(32), [KEY, HYBRID.public, TREE], checkpoint="model-a"
)
DOCUMENT = json.loads(GOOD)
SHORT = settings(
  max_examples=150,
  deadline=None,
  suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
LONG = settings(SHORT, max_examples=20_000)

VALUES = st.recursive(
  st.none()
  | st.booleans()
  | st.integers()
  | st.floats(allow_nan=False, allow_infinity=False)
  | st.text(max_size=20)
  | st.binary(max_size=40).map(encoding.encode)
  | st.sampled_from([KEY.id, HYBRID.id, TREE.id, "passphrase"]),
  lambda inner: (
    st.lists(inner, max_size=4)
    | st.dictionaries(
      st.sampled_from(["id", "wrapped", "nodes", "salt", "memory", "x"]),
      inner,
      max_size=5,
    )
  ),
  max_leaves=12,
)


def check(data: bytes) -> None:
  """Check that anything but the good envelope is refused with a known error."""
  if data == GOOD:
    return
  for read in (
    keyring.inspect_envelope,
    lambda e: keyring.open_envelope(e, IDENTITIES),
  ):
    try:
      read(data)
    except keyring.KeyringError as error:
      assert len(str(error)) < 400
    else:
      assert read is keyring.inspect_envelope


def mutated(draw) -> bytes:
  """Return the good envelope with bytes inserted, removed or repeated."""
  data = bytearray(GOOD)
  for _ in range(draw(st.integers(1, 4))):
    at = draw(st.integers(0, len(data)))
    end = min(len(data), at + draw(st.integers(0, 30)))
    data[at:end] = draw(st.binary(max_size=8)) * draw(st.integers(0, 3))
  return bytes(data)


def fuzz_bytes(data):
  check(data)


def fuzz_fields(fields, stanza):
  """Check documents of valid form with wrong contents."""
  first, *rest = DOCUMENT["recipients"]
  check(encoding.dump(DOCUMENT | fields))
  check(encoding.dump(DOCUMENT | {"recipients": [first | stanza, *rest]}))


def fuzz_keys(data):
  for read in (keyring.parse_key, lambda d: keyring.parse_key(d, "word")):
    with pytest.raises(keyring.KeyringError):
      read(data)
  with pytest.raises(keyring.KeyringError):
    keyring.parse_recipient(data.decode("utf-8", "replace"))


_FIELDS = st.dictionaries(st.sampled_from(sorted(DOCUMENT)), VALUES, max_size=3)
_STANZA = st.dictionaries(
  st.sampled_from(["id", "wrapped", "nodes", "x"]), VALUES, max_size=3
)
_BYTES = st.binary(max_size=200) | st.composite(mutated)()
_TEXTS = st.binary(max_size=100) | st.builds(
  lambda head, body: head + body,
  st.sampled_from(
    [
      b"keyjax-x25519:",
      b"keyjax-rsa:",
      b"KEYJAX-SECRET-RSA:",
      b"KEYJAX-SECRET-DEVICE:",
      b"-----BEGIN PRIVATE KEY-----\n",
      b'{"keyjax":"key"',
    ]
  ),
  st.binary(max_size=60).map(lambda b: encoding.encode(b).encode())
  | st.binary(max_size=60),
)


@SHORT
@given(_BYTES)
def test_bytes(data):
  fuzz_bytes(data)


@SHORT
@given(_FIELDS, _STANZA)
def test_fields(fields, stanza):
  fuzz_fields(fields, stanza)


@SHORT
@given(_TEXTS)
def test_keys_as_text(data):
  fuzz_keys(data)


@pytest.mark.slow
@LONG
@given(_BYTES, _FIELDS, _STANZA, _TEXTS)
def test_for_minutes(data, fields, stanza, text):
  fuzz_bytes(data)
  fuzz_fields(fields, stanza)
  fuzz_keys(text)
