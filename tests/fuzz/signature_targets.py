"""Signatures of models, and the keys of signers."""

import base64
import functools
import importlib.util
import json
import pathlib
import random
from collections.abc import Sequence
from typing import Any

from keyjax import signatures
from keyjax.errors import KeyringError
from keyjax.signatures import ModelSignatureError, bundle, public_keys
from tests.fuzz.mutate import change_bytes, change_json, either
from tests.fuzz.sources import folder, written
from tests.fuzz.target import Target
from tests.signatures.golden import make


def _bundles(names: str = "*.sig") -> list[bytes]:
  return [path.read_bytes() for path in sorted(make.HERE.glob(names))]


def _pems() -> list[bytes]:
  return [path.read_bytes() for path in sorted(make.HERE.glob("*.pem"))]


def _change_statement(
  rng: random.Random, data: bytes, others: Sequence[bytes]
) -> bytes:
  """Change what was signed, and not the signature."""
  document = json.loads(data)
  envelope = document["dsseEnvelope"]
  statement = change_json(rng, base64.b64decode(envelope["payload"]), ())
  envelope["payload"] = base64.b64encode(statement).decode()
  return json.dumps(document).encode()


@functools.cache
def _model() -> pathlib.Path:
  return make.write_model(folder() / "signed")


@functools.cache
def _key() -> Any:
  return public_keys.read_public_key((make.HERE / "p256.pub.pem").read_bytes())


def read_verified(data: bytes) -> Any:
  """Return what a bundle says that its signer has vouched for."""
  return signatures.verify(_model(), written("model.sig", data), key=_key())


@functools.cache
def _roots() -> Any:
  return public_keys.read_certificates((make.HERE / "root.pem").read_bytes())


def read_certified(data: bytes) -> Any:
  """Return the same of a bundle with certificates."""
  path = written("chain.sig", data)
  return signatures.verify(_model(), path, roots=_roots())


def read_signer(data: bytes) -> Any:
  """Return a public key, or the first of some certificates."""
  try:
    return public_keys.public_pem(public_keys.read_public_key(data))
  except KeyringError:
    certificates = public_keys.read_certificates(data)
    return public_keys.certificate_pem(certificates)


TARGETS = [
  Target(
    name="model_signature",
    read=bundle.parse,
    seeds=_bundles,
    refusals=(ModelSignatureError,),
    change=either(change_bytes, change_json, _change_statement),
  ),
  Target(
    name="model_signer",
    read=read_signer,
    seeds=_pems,
    refusals=(KeyringError,),
  ),
]
if importlib.util.find_spec("model_signing"):
  TARGETS += [
    Target(
      name=name,
      read=read,
      seeds=functools.partial(_bundles, seed),
      refusals=(ModelSignatureError,),
      change=either(change_bytes, change_json, _change_statement),
      authentic=True,
    )
    for name, read, seed in (
      ("model_verified", read_verified, "p256.sig"),
      ("model_certified", read_certified, "chain.sig"),
    )
  ]
