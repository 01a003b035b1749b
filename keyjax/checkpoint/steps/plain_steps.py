"""Plain steps: an item is what Orbax's CheckpointManager writes for it."""

from typing import Any

import orbax.checkpoint as ocp

from keyjax.checkpoint import plain
from keyjax.checkpoint.errors import (
  CheckpointContentError,
  CheckpointError,
  read_error,
)
from keyjax.checkpoint.steps import items as step_items
from keyjax.checkpoint.steps import texts
from keyjax.checkpoint.steps.items import ITERATOR, JSON, TREE, Item
from keyjax.checkpoint.steps.step_metadata import StepMetadata, read_metrics
from keyjax.checkpoint.storage import locations

METRICS = "metrics"  # As Orbax calls the item, and the file in it.
_JSON_FILE = "metadata"
_STEP_FILE = "_CHECKPOINT_METADATA"


class _Frozen:
  """The state that an iterator had, for Grain's handler."""

  def __init__(self, state: str):
    self._state = state.encode("utf-8")

  def get_state(self) -> bytes:
    """Return the state."""
    return self._state


def _save_args(item: Item) -> Any:
  if item.kind == TREE:
    return plain.save_args(item.value)
  if item.kind == JSON:
    return ocp.args.JsonSave(texts.parse_json(item.value, "an item"))
  return item.args(_Frozen(item.value))


class PlainStep:
  """A step on a disk or in a bucket."""

  def __init__(self, path: Any):
    """Find its items.

    Raises:
      FileNotFoundError: If it is not there.
      CheckpointError: If it cannot be read.
    """
    self.path = path
    if not locations.is_whole(path):
      raise FileNotFoundError(f"no checkpoint at {path}")
    locations.refuse_special_files(path)
    self.items = self._find_items()

  @property
  def metadata(self) -> StepMetadata:
    """What it records."""
    return StepMetadata(
      items=self.items,
      metrics=self._metrics(),
      custom_metadata=self._custom(),
    )

  def _find_items(self) -> dict[str, str]:
    with locations.bucket_errors(self.path):
      names = sorted(one.name for one in self.path.iterdir())
      kinds = {
        name: _kind_of(self.path / name)
        for name in names
        if step_items.is_item_name(name)
      }
    return {name: kind for name, kind in kinds.items() if kind}

  def _metrics(self) -> dict[str, int | float] | None:
    file = self.path / METRICS / METRICS
    return read_metrics(_read_json(file), self.path)

  def _custom(self) -> dict[str, Any]:
    found = _read_json(self.path / _STEP_FILE)
    custom = found.get("custom_metadata") if isinstance(found, dict) else None
    return custom if isinstance(custom, dict) else {}

  def read(self, name: str, target: Any) -> Any:
    """Read an item; `target` is what to restore a tree like, or an iterator."""
    kind = self.items[name]
    what = f"item {name} of {self.path}"
    if kind == TREE:
      what = f"could not read step {self.path.name}"
      return plain.read_plain(self.path / name, target, what=what)
    if kind == JSON:
      return _read_json(self.path / name / _JSON_FILE)
    file = self.path / name / f"{texts.own_process_name()}.json"
    text = _read_text(file)
    if text is None:
      raise CheckpointContentError(f"{what} was saved by other processes")
    return texts.set_state(target, text, what)


def _kind_of(path: Any) -> str:
  """Return the kind of an item by its files; empty if it is none."""
  if not path.is_dir():
    return ""
  if (path / "_METADATA").is_file():
    return TREE
  if (path / _JSON_FILE).is_file():
    return JSON
  is_iterator = any(one.name.startswith("process_") for one in path.iterdir())
  return ITERATOR if is_iterator else ""


def _read_text(file: Any) -> str | None:
  """Return the text of a file; None if there is none."""
  try:
    with locations.bucket_errors(file):
      return file.read_bytes().decode("utf-8") if file.is_file() else None
  except CheckpointError:
    raise
  except (OSError, UnicodeDecodeError) as error:
    raise read_error(f"could not read {file}", error) from None


def _read_json(file: Any) -> Any:
  text = _read_text(file)
  return None if text is None else texts.parse_json(text, str(file))


class PlainSteps:
  """The plain steps of a folder."""

  def __init__(self, folder: Any):
    """Say where they are."""
    self._folder = folder

  def can_open(self) -> bool:
    """Return whether steps can be read: it takes no keys."""
    return True

  def handlers(self) -> None:
    """Return no handlers: Orbax knows those of each item by its arguments."""

  def save_args(
    self, step: int, items: dict[str, Item], metadata: StepMetadata
  ) -> dict[str, Any]:
    """Return the arguments with which Orbax saves a step."""
    del step  # It is the name of the folder.
    args = {name: _save_args(item) for name, item in items.items()}
    if metadata.metrics:
      args[METRICS] = ocp.args.JsonSave(metadata.metrics)
    return {
      "args": ocp.args.Composite(**args),
      "custom_metadata": metadata.custom_metadata or None,
    }

  def open(self, step: int) -> PlainStep:
    """Open a step.

    Raises:
      FileNotFoundError, CheckpointError: If it cannot be read.
    """
    return PlainStep(self._folder / str(step))
