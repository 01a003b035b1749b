"""A kind of recipient in one file: a secret and its double hash.

Anyone who reads its public key can open what it wraps: it is for tests alone.
"""

import hashlib
import os

from keyjax.keyring import Argument, Kind, Private, register
from keyjax.keyring.encoding import decode, encode, fingerprint


class ToyPublicKey:
  """A recipient that wraps by XOR with a hash of the context."""

  kind = "toy"

  def __init__(self, data: bytes):
    if len(data) != 32:
      raise ValueError("a toy key has 32 bytes")
    self.data = data
    self.id = f"toy:{fingerprint(data)}"

  def wrap(self, data_key, context):
    pad = hashlib.sha256(self.data + context).digest()
    return {"xor": encode(bytes(a ^ b for a, b in zip(data_key, pad)))}  # noqa: B905


class ToyKey(Private):
  """The private key of a `ToyPublicKey`."""

  kind = "toy"

  def __init__(self, data: bytes):
    self.private = data
    self.public = ToyPublicKey(hashlib.sha256(data).digest())
    self.id = self.public.id

  def unwrap(self, stanza, context):
    if stanza.get("id") != self.id:
      return None
    return decode(self.public.wrap(decode(stanza["xor"]), context)["xor"])


register(
  Kind(
    name="toy",
    summary="for tests alone",
    read_public=ToyPublicKey,
    key_type=ToyKey,
    generate=lambda: ToyKey(os.urandom(32)),
    read=ToyKey,
    reveal=lambda key: key.private,
    identity=lambda key: key,
    recipient=lambda key: key.public,
    argument=Argument(
      form="toy:TEXT",
      help="the toy key of a text",
      recipient=lambda text, reader: ToyKey(text.encode()).public,
      identity=lambda text, reader: ToyKey(text.encode()),
    ),
  )
)
