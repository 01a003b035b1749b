"""Open a sealed checkpoint without KeyJAX, by docs/formats/checkpoints.md.

    python -m examples.read_sealed model-1 alice.key             # its leaves
    python -m examples.read_sealed model-1 alice.key w > w.bin   # one of them

`read_envelope`, `read_keys` and `read_locked` read the other formats. They were
all written from `docs/formats`, import nothing of KeyJAX, and need
`cryptography` alone; the container of a checkpoint, OCDBT, is read with
`tensorstore`. A passphrase comes from the variable PASSPHRASE.
"""

import hashlib
import itertools
import json
import math
import os
import pathlib
import re
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa

from examples.read_envelope import (
  Refused,
  derive,
  is_name,
  need,
  octets,
  open_envelope,
  parse,
  unseal,
)
from examples.read_keys import private_key

SIZES = {"bool": 1, "bfloat16": 2, "complex64": 8, "complex128": 16}
FIELDS = {"digests", "id", "leaves", "metadata", "step", "streams", "tree"}
KINDS = ("jax", "numpy", "int", "float", "bool")
VERIFIERS = {
  "ed25519": ed25519.Ed25519PublicKey,
  "ml-dsa-65": mldsa.MLDSA65PublicKey,
}


def context(*fields):
  """Return the context of one message of a checkpoint."""
  fields = ["keyjax/checkpoint/1", *fields]
  return json.dumps(fields, separators=(",", ":")).encode("ascii")


def key_of(data_key, purpose, path=""):
  """Return the key of a message."""
  return derive(data_key, f"keyring/leaf/{purpose}/{path}")


def item_size(dtype):
  """Return the bytes of an element."""
  if dtype in SIZES:
    return SIZES[dtype]
  found = re.match(r"(?:u?int|float)(\d+)(?:_|$)", dtype)
  need(found, "an unknown dtype")
  return max(int(found[1]) // 8, 1)


def open_checkpoint(header, arrays, keys, verify_key=None):
  """Return the manifest of a checkpoint, and its leaves.

  Args:
    header: Bytes of `header/metadata`.
    arrays: Function from the name of an array to its bytes, in C order.
    keys: Keys to try; see `open_envelope`.
    verify_key: Kind and bytes of the public key that must have signed.

  Returns:
    The manifest, and for each path: dtype, shape, bytes.

  Raises:
    Refused: If it is malformed, altered, or not for these keys.
  """
  need(len(header) <= 2**25, "a header that is too large")
  fields = json.loads(header)
  need(set(fields) == {"format", "version", "envelope"}, "other fields")
  need(fields["format"] == "keyjax-sealed" and fields["version"] == 1, "format")
  data_key, document, _ = open_envelope(fields["envelope"].encode(), keys)
  name = document["checkpoint"]
  sealed = arrays("manifest")
  need(len(sealed) <= 67174472, "a manifest that is too large")
  data = unseal(key_of(data_key, "manifest"), sealed, context("manifest", name))
  manifest = parse(data.rstrip(b" "), 2**26, 2**22)
  need(manifest["id"] == name, "the manifest of another checkpoint")
  parts = check_manifest(manifest)
  if verify_key:
    signed = arrays("signature")
    check_signature(verify_key, data_key, name, sealed, signed)
    need(manifest["digests"] is not None, "no digests")
  count, segments, size, _ = manifest["streams"]
  stored = [arrays(f"{i:06d}") for i in range(segments)]
  need(all(len(x) == count * size for x in stored), "a segment of another size")
  streams = [
    b"".join(x[p * size : (p + 1) * size] for x in stored) for p in range(count)
  ]
  leaves = read_parts(manifest, parts, data_key, streams, bool(verify_key))
  return manifest, leaves


def check_signature(verify_key, data_key, name, manifest, sealed):
  """Verify the signature of a sealed manifest."""
  key = key_of(data_key, "signature")
  data = unseal(key, sealed, context("signature", name))
  record = parse(data.rstrip(b" "), 6000, 8)
  kind, public = verify_key
  need(record["algorithm"] == kind, "not signed with this key")
  signed = context("signed", name) + b"\0" + manifest
  try:
    verifier = VERIFIERS[kind].from_public_bytes(public)
    verifier.verify(octets(record["signature"]), signed)
  except InvalidSignature:
    raise Refused("not signed with this key") from None


def check_manifest(manifest):
  """Check a manifest; return the leaf, box, stream, offset, size of parts."""
  version = manifest.get("version")
  need(type(version) is int and version in (1, 2, 3), "an unknown version")
  want = FIELDS | {"version"} | ({"origin"} if version > 1 else set())
  names = {"name", "run"} if version == 3 else set()
  need(set(manifest) == want | names, "other fields")
  need(all(manifest[x] == "" or is_name(manifest[x]) for x in names), "a name")
  need(not names or any(manifest[x] for x in names), "no name")
  need(type(manifest["step"]) is int and manifest["step"] >= 0, "a step")
  leaves, parts = manifest["leaves"], []
  need(len({leaf[0] for leaf in leaves}) == len(leaves) > 0, "leaves")
  used = [0] * manifest["streams"][0]
  for leaf in leaves:
    path, dtype, shape, kind, boxes = leaf
    need(kind in KINDS or kind.startswith("rng:") and version > 1, "a kind")
    need(len(path) <= 4096 and len(shape) <= 32, "a leaf")
    covered = 0
    for start, stop, stream in boxes:
      for low, high, axis in zip(start, stop, shape, strict=True):
        need(0 <= low < high <= axis or low == high == axis == 0, "a part")
      box = [b - a for a, b in zip(start, stop, strict=True)]
      covered += math.prod(box)
      plain = math.prod(box) * item_size(dtype)
      size = plain + 56 + 16 * (plain // 16384 + 1)
      parts.append((leaf, start, stop, stream, used[stream], size))
      used[stream] += size
    need(covered == math.prod(shape) and boxes, "parts that cover no leaf")
  need(manifest["streams"] == list(choose_streams(used)), "other streams")
  digests = manifest["digests"]
  need(digests is None or len(digests) == len(parts), "digests")
  return parts


def choose_streams(used):
  """Return the streams that follow from the bytes of parts in each."""
  size = max(used) + 144
  exponent = max(size.bit_length() - 1, 1)
  size = round_up(size, 1 << max(exponent - exponent.bit_length(), 0))
  if size <= 2**23:
    size = round_up(size, 4096)
    return len(used), 1, size, size
  read = 2**21 if size > 2**27 else 2**20
  segments = -(-size // max(2**25, size // 256))
  return len(used), segments, round_up(-(-size // segments), read), read


def round_up(size, step):
  """Return the next multiple of a step."""
  return -(-size // step) * step


def read_parts(manifest, parts, data_key, streams, signed):
  """Open all parts; return dtype, shape and bytes of each leaf by its path."""
  made = {
    path: (dtype, shape, bytearray(math.prod(shape) * item_size(dtype)))
    for path, dtype, shape, *_ in manifest["leaves"]
  }
  for number, (leaf, start, stop, stream, offset, size) in enumerate(parts):
    path, dtype, shape, *_ = leaf
    message = streams[stream][offset : offset + size]
    if signed:
      digest = hashlib.sha256(message).hexdigest()
      need(digest == manifest["digests"][number], f"{path} was altered")
    bound = (manifest["id"], manifest["step"], path, dtype, shape, start, stop)
    key = key_of(data_key, "leaf", path)
    data = unseal(key, message, context("part", *bound))
    place(made[path][2], shape, start, stop, data, item_size(dtype))
  return {p: (d, s, bytes(b)) for p, (d, s, b) in made.items()}


def place(leaf, shape, start, stop, data, size):
  """Copy the elements of a box, in C order, to their places in a leaf."""
  if not shape:
    leaf[:] = data
    return
  run = (stop[-1] - start[-1]) * size
  rows = itertools.product(*map(range, start[:-1], stop[:-1]))
  for i, index in enumerate(rows):
    at = 0
    for axis, n in zip((*index, start[-1]), shape, strict=True):
      at = at * n + axis
    leaf[at * size : at * size + run] = data[i * run : (i + 1) * run]


def container(path):
  """Return a function that reads the arrays of a checkpoint's container."""
  import tensorstore

  def array(name):
    base = {"driver": "file", "path": f"{pathlib.Path(path, 'sealed')}/"}
    spec = {
      "driver": "zarr",
      "kvstore": {"driver": "ocdbt", "base": base},
      "path": f"{name}/",
      "metadata": {"dtype": "|u1", "compressor": None, "filters": None},
    }
    found = tensorstore.open(spec, open=True, read=True).result()
    return found.read().result().tobytes()

  return array


def main(path, key_file, leaf=None):
  """Print the leaves of a checkpoint, or write the bytes of one."""
  text = pathlib.Path(key_file).read_text()
  keys = [private_key(text, os.environ.get("PASSPHRASE"))]
  header = pathlib.Path(path, "header", "metadata").read_bytes()
  manifest, leaves = open_checkpoint(header, container(path), keys)
  if leaf is not None:
    sys.stdout.buffer.write(leaves[leaf][2])
    return
  print(f"step {manifest['step']}, metadata {manifest['metadata']}")
  for name, (dtype, shape, data) in leaves.items():
    print(name, dtype, shape, hashlib.sha256(data).hexdigest())


if __name__ == "__main__":
  main(*sys.argv[1:])
