"""Steps of a `Manager`: the files of a plain one, and what one records."""

import functools
import json
import pathlib
import tempfile
from typing import Any

import grain

from keyjax.checkpoint.steps.plain_steps import PlainSteps
from keyjax.checkpoint.steps.step_metadata import from_manifest, to_manifest
from keyjax.errors import ArgumentError, CheckpointError
from tests.fuzz.mutate import (
  change_bytes,
  change_json,
  either,
  is_object,
  where,
)
from tests.fuzz.target import Target
from tests.fuzz.weight_targets import content
from tests.golden import archives

_STEP = 2
_RECORD = {
  "items": {"config": "json", "data": "iterator", "params": "tree"},
  "metrics": {"accuracy": 0.5, "loss": 3},
  "custom_metadata": {"by": "fuzz", "steps": [1, None]},
}


@functools.cache
def _run() -> pathlib.Path:
  folder = pathlib.Path(tempfile.mkdtemp())
  return archives.unpacked("319eb01_manager", folder) / "plain"


def _files() -> list[bytes]:
  """Return each file of the step: its path, a line break, and its bytes."""
  step = _run() / str(_STEP)
  files = sorted(path for path in step.rglob("*") if path.is_file())
  # Other targets read the files of a tree.
  own = [path for path in files if path.relative_to(step).parts[0] in _OWN]
  return [
    f"{path.relative_to(step)}\n".encode() + path.read_bytes() for path in own
  ]


_OWN = ("_CHECKPOINT_METADATA", "config", "data", "metrics")


def read_files(data: bytes) -> Any:
  """Return the items and the metadata of a step one of whose files changed."""
  path, _, new = data.partition(b"\n")
  names = [one.partition(b"\n")[0] for one in _files()]
  if path not in names:
    raise CheckpointError("another file than those of the step")
  file = _run() / str(_STEP) / path.decode()
  old = file.read_bytes()
  file.write_bytes(new)
  try:
    step = PlainSteps(_run()).open(_STEP)
    iterator = iter(grain.MapDataset.source([1, 2, 3]).to_iter_dataset())
    found = [step.read(name, None) for name in ("config", "params")]
    step.read("data", iterator)
    return [content(found[1]), json.dumps([found[0], step.metadata])]
  finally:
    file.write_bytes(old)


def _change_file(rng: Any, data: bytes, others: Any) -> bytes:
  path, _, old = data.partition(b"\n")
  change = change_bytes
  if old.startswith(b"{") and rng.random() < 0.5:
    change = where(is_object, change_json)
  files = [x.partition(b"\n")[2] for x in others]
  return path + b"\n" + change(rng, old, [x for x in files if is_object(x)])


def read_record(data: bytes) -> Any:
  """Return what a manifest records of a step."""
  try:
    record = json.loads(data)
  except (ValueError, RecursionError):
    raise CheckpointError("not JSON") from None
  found = from_manifest({"keyjax.step": record}, "a step")
  again = to_manifest(found) or {}
  assert from_manifest(again, "a step") == found
  return json.dumps(found)


def _records() -> list[bytes]:
  parts = [{name: value} for name, value in _RECORD.items()]
  return [json.dumps(x).encode() for x in (_RECORD, *parts)]


TARGETS = [
  Target(
    name="plain_step",
    read=read_files,
    seeds=_files,
    refusals=(CheckpointError, ArgumentError, FileNotFoundError),
    change=_change_file,
    slow=True,
  ),
  Target(
    name="step_record",
    read=read_record,
    seeds=_records,
    refusals=(CheckpointError,),
    change=either(where(is_object, change_json), change_bytes),
  ),
]
