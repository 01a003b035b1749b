"""What every row of `measure.lock` says: of which lock, from which program."""

import datetime
import importlib.metadata
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from keyjax.arguments import describe
from keyjax.attacks.game import Target
from keyjax.schemes import registry as schemes


def base(target: Target, classes: int) -> dict[str, Any]:
  """Return what every row says: where it comes from, and of which lock."""
  now = datetime.datetime.now(datetime.UTC)
  task = target.task
  return {
    "config": pathlib.Path(program()).stem,
    "classes": classes,
    "chance": task.chance(classes) if task.logits else 0.0,
    "scheme": target.name,
    "mechanism": target.name,
    "options": as_json(_told(target.name, target.options)),
    "judged_by": task.metric,
    "is_share": task.is_share,
    "commit": f"keyjax {importlib.metadata.version('keyjax')}",
    "hardware": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    "jax": jax.__version__,
    "date": now.isoformat(timespec="seconds"),
  }


def program() -> str:
  """Return the name of the program, without arguments: some are secrets."""
  name = pathlib.Path(sys.argv[0]).name if sys.argv else ""
  return "python" if name in ("", "-", "-c", "-m") else name


def _told(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
  """Return the options of a scheme without private ones."""
  if name == "chain":
    return {"parts": [[n, _told(n, o)] for n, o in options["parts"]]}
  private = schemes.get(name).private_options
  return {k: v for k, v in options.items() if k not in private}


def as_json(value: Any) -> Any:
  """Return a value as JSON has it: no NaN, and of other types their name.

  Arrays and bytes are not written out: they may be keys.
  """
  if isinstance(value, Mapping):
    return {str(k): as_json(v) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [as_json(x) for x in value]
  if isinstance(value, np.generic):
    value = value.item()
  if isinstance(value, float):
    return value if np.isfinite(value) else None
  if value is None or isinstance(value, str | int):
    return value
  return describe(value)
