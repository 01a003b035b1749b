"""Checkpoints of the format vectors, as header and arrays; see `make`."""

import base64
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from keyjax import (
  Secret,
  keyring,
)
from keyjax.checkpoint.format import layout, manifest_json, signature
from keyjax.checkpoint.format.manifest import Leaf, Manifest, unset_digests
from keyjax.checkpoint.format.origin import Origin, OriginalFile
from keyjax.checkpoint.parts import sealing
from keyjax.checkpoint.storage import header

ROOT = Secret(bytes(range(32)))
DATA_KEY = bytes(range(32, 64))


def text(data: bytes) -> str:
  return base64.b64encode(data).decode()


def split(path: str, array: np.ndarray, kind: str, processes: int) -> Any:
  """Return a leaf and its boxes: rows in turns, as processes would write."""
  rows = [(i, i + 1) for i in range(len(array))] if processes > 1 else []
  boxes = [
    ((a, *[0] * (array.ndim - 1)), (b, *array.shape[1:]), a % processes)
    for a, b in rows
  ]
  whole = [((0,) * array.ndim, array.shape, 0)]
  return Leaf(path, str(array.dtype), array.shape, kind, ()), boxes or whole


def checkpoint(
  arrays: dict[str, tuple[np.ndarray, str]],
  structure: Any,
  *,
  id: str,
  processes: int,
  signer: keyring.SigningKey | None,
  origin: Origin | None,
  name: str = "",
  run: str = "",
) -> dict[str, Any]:
  """Return a checkpoint as the arrays that its container holds."""
  made = [split(p, x, kind, processes) for p, (x, kind) in arrays.items()]
  sizes = [x.dtype.itemsize for x, _ in arrays.values()]
  parts, used = layout.assign_offsets([b for _, b in made], sizes, processes)
  leaves = tuple(
    leaf._replace(parts=tuple(p))
    for (leaf, _), p in zip(made, parts, strict=True)
  )
  manifest = Manifest(
    id=id,
    step=1000,
    leaves=leaves,
    tree=structure,
    metadata={"by": "vector \u00fc"},
    streams=layout.choose_streams(used),
    digests=unset_digests(leaves) if signer else None,
    origin=origin,
    name=name,
    run=run,
  )
  rows = []
  digests: list[bytes] = []
  values = [x for x, _ in arrays.values()]
  for process in range(processes):
    messages = sealing.stream_messages(
      manifest, DATA_KEY, values, process, "host"
    )
    if signer:
      messages = sealing.with_digests(messages, digests)
    sealer = sealing.SegmentSealer(manifest.streams, messages)
    rows.append(sealer.next_segment())
  if signer:  # One stream: the order of the messages is that of the parts.
    found = tuple(d.hex() for d in digests[: len(manifest.digests or ())])
    manifest = manifest._replace(digests=found)
  sealed = manifest_json.seal_manifest(DATA_KEY, manifest)
  private = signer.private if signer else None
  signed = signature.sign(private, DATA_KEY, manifest.id, sealed)
  envelope = keyring.seal_envelope(
    DATA_KEY, [keyring.as_identity(ROOT)], checkpoint=manifest.id
  )
  segment = np.concatenate(rows)
  return {
    "step": manifest.step,
    "metadata": manifest.metadata,
    "name": name,
    "run": run,
    "verify_key": signer and keyring.format_verify_key(signer.public),
    "tree": structure,
    "leaves": [
      [p, str(x.dtype), list(x.shape), kind, x.tobytes().hex()]
      for p, (x, kind) in arrays.items()
    ],
    "header": header.contents(envelope),
    "streams": list(manifest.streams),
    "arrays": {
      "manifest": text(sealed),
      "signature": text(signed),
      "000000": text(segment.tobytes()),
    },
  }


def checkpoints(private: dict[str, Any]) -> Iterator[dict[str, Any]]:
  table = np.arange(12, dtype=np.float32).reshape(4, 3) / 8
  half = np.asarray([[1.5], [-2]], jnp.bfloat16)
  structure = {"dict": [["a", 0], ["b", {"list": [1, None]}]]}
  yield {"case": "two streams"} | checkpoint(
    {"a": (table, "jax"), "b/0": (half, "numpy")},
    structure,
    id="00112233445566778899aabbccddeeff",
    processes=2,
    signer=None,
    origin=None,
  )
  arrays = {
    "rng": (np.asarray([0, 7], np.uint32), "rng:threefry2x32"),
    "w": (np.zeros((0, 3), np.float32), "jax"),
    "x": (np.asarray([True, False]), "jax"),
    "\u00fc": (np.asarray(2.5), "float"),
  }
  names = {"dict": [[name, i] for i, name in enumerate(arrays)]}
  file = OriginalFile("model.safetensors", (0, 1, 2, 3), (("a", "b"),), None)
  yield {"case": "signed, version 2"} | checkpoint(
    arrays,
    names,
    id="ffeeddccbbaa99887766554433221100",
    processes=1,
    signer=private["ed25519"],
    origin=Origin((file,)),
  )
  yield {"case": "named, version 3"} | checkpoint(
    {"w": (table, "jax")},
    {"dict": [["w", 0]]},
    id="0f1e2d3c4b5a69788796a5b4c3d2e1f0",
    processes=1,
    signer=None,
    origin=None,
    name="model-a",
    run="2026-01",
  )


def cases_of_checkpoints(private: dict[str, Any]) -> dict[str, Any]:
  cases = list(checkpoints(private))
  return {"secret": bytes(range(32)).hex(), "cases": cases}
