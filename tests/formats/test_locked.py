"""Keys of schemes and the trees they lock, by KeyJAX and a second reader."""

import hmac
import json
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from examples import read_envelope, read_locked
from keyjax import (
  Secret,
  deep_lock,
  keyed_noise,
  licensee_mark,
  seal,
  tree,
)
from keyjax import keys as scheme_keys
from tests.formats.make import fields_of
from tests.formats.vectors import SECRET, octets, vectors


def key_file(folder: pathlib.Path, text: str) -> pathlib.Path:
  path = folder / "key"
  path.write_bytes(octets(text))
  path.chmod(0o600)
  return path


def as_numbers(node: Any) -> Any:
  """Return what `read_key` returned, with arrays as lists of numbers."""
  if isinstance(node, dict):
    return {k: as_numbers(v) for k, v in node.items()}
  if isinstance(node, tuple):
    dtype, shape, raw = node
    return np.frombuffer(raw, dtype).reshape(shape).tolist()
  return [as_numbers(x) for x in node] if isinstance(node, list) else node


@pytest.mark.parametrize(
  "case", vectors("scheme_keys")["cases"], ids=lambda x: x["name"]
)
def test_scheme_keys(case: dict[str, Any], tmp_path: pathlib.Path) -> None:
  found = read_locked.read_key(octets(case["file"]))
  assert as_numbers(found) == case["fields"]
  loaded = scheme_keys.load(key_file(tmp_path, case["file"]))
  assert json.loads(json.dumps(fields_of(loaded))) == case["fields"]
  data = octets(case["file"])
  assert data.count(b"\xa6keyjax\x01") == 1
  newer = data.replace(b"\xa6keyjax\x01", b"\xa6keyjax\x02")
  for altered in (data[:-1] + b"?", newer):
    with pytest.raises(ValueError):
      read_locked.read_key(altered)
    (tmp_path / "key").write_bytes(altered)
    with pytest.raises(ValueError, match="version 1|does not hold a key"):
      scheme_keys.load(tmp_path / "key")


def tree_of(leaves: list[Any]) -> dict[str, Any]:
  return {p: (d, s, bytes.fromhex(raw)) for p, d, s, raw in leaves}


def nested(leaves: dict[str, Any]) -> dict[str, Any]:
  """Return leaves by path as nested dicts."""
  made: dict[str, Any] = {}
  for path, leaf in leaves.items():
    *above, last = path.split("/")
    node = made
    for name in above:
      node = node.setdefault(name, {})
    node[last] = leaf
  return made


def tree_digest(file: bytes, leaves: dict[str, Any]) -> str:
  """Return what a key's file remembers of the tree that it encrypts."""
  packed = read_locked.unpack(file)["key"]
  info = b"keyjax/1/keys/encrypts"
  key = HKDF(hashes.SHA256(), 32, salt=None, info=info).derive(packed)
  data = b""
  for path, (dtype, shape, raw) in leaves.items():
    head = json.dumps([path, dtype, list(shape)]).encode()
    data += len(head).to_bytes(8, "big") + head + raw
  found = hmac.digest(key, data, "sha256")
  assert read_locked.unpack(file)["encrypts"] == found
  return found.hex()


@pytest.mark.parametrize(
  "case", vectors("keystreams")["cases"], ids=lambda x: x["name"]
)
def test_locked_trees(case: dict[str, Any], tmp_path: pathlib.Path) -> None:
  plain = tree_of(vectors("keystreams")["plain"])
  locked = tree_of(case["locked"])
  found = read_locked.unlock(read_locked.read_key(octets(case["key"])), locked)
  assert found == plain
  if (known := case["encrypts"]) is not None:
    assert tree_digest(octets(case["key"]), plain) == known
  if case["name"].endswith("128"):  # The same programs, which take seconds.
    return
  key = scheme_keys.load(key_file(tmp_path, case["key"]))
  _, schedule, size = (*case["name"].split(), "")[:3]
  others = {"noise": keyed_noise(), "mark": licensee_mark(depth=2)}
  scheme = others.get(schedule) or deep_lock(schedule, int(size))
  arrays = nested(
    {
      path: jnp.asarray(np.frombuffer(raw, jnp.dtype(dtype)).reshape(shape))
      for path, (dtype, shape, raw) in locked.items()
    }
  )
  paths, leaves, _ = tree.flatten(scheme.decrypt(key, arrays))
  for path, leaf in zip(paths, leaves, strict=True):
    assert np.asarray(leaf).tobytes() == plain[path][2], path


def test_sealed_trees() -> None:
  case = vectors("keystreams")["sealed"]
  plain = tree_of(vectors("keystreams")["plain"])
  context = case["context"].encode()
  key = read_envelope.derive(SECRET, "seal/cobblestone-256")
  found = {p: bytes.fromhex(raw) for p, raw in case["messages"].items()}
  for i, (path, (dtype, shape, raw)) in enumerate(plain.items()):
    text = f"{path}|{dtype}|{tuple(shape)}|{i} of one tree".encode()
    bound = len(context).to_bytes(8, "big") + context + text
    assert read_envelope.unseal(key, found[path], bound) == raw
  like = nested(
    {
      p: np.frombuffer(x[2], jnp.dtype(x[0])).reshape(x[1])
      for p, x in plain.items()
    }
  )
  messages = nested({p: np.frombuffer(x, np.uint8) for p, x in found.items()})
  opened = seal.unseal_tree(Secret(SECRET), messages, like, context)
  assert tree.same_bits(opened, like)
