"""Rows of results: a measurement, its command, hardware and date.

`results.json` is a list of flat objects, one per measurement. `FIELDS` lists
the fields that every row has; a row may have more. No row holds key material.
"""

import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from experiments.run import files

FIELDS = (
  "config",  # name of the run
  "dataset",
  "model",
  "scheme",  # label in the config; "plain" for the unprotected model
  "title",  # name of the scheme in reports
  "mechanism",  # name in `keyjax.schemes.registry`, or chain; "" for plain
  "options",  # arguments of the scheme
  "condition",  # plain, right, no_key, wrong, near or api; "" for costs
  # The task's metric, such as accuracy; drop, round_trip, encrypt_seconds, ...
  "metric",
  "value",
  "low",  # end of the 95 % interval, or null
  "high",
  "interval",  # method of the interval
  "command",
  "commit",
  "hardware",
  "date",
)


# From the top of the checkout: all but figures and texts.
_CODE = (
  ":/",
  ":(top,exclude)results",
  ":(top,exclude)docs",
  ":(top,exclude)*.md",
)


def provenance() -> dict[str, str]:
  """Return the command, commit, hardware, versions and date of this run."""
  now = datetime.datetime.now(datetime.UTC)
  return {
    "command": _command(),
    "commit": commit(),
    "hardware": hardware(),
    "jax": jax.__version__,
    "date": now.isoformat(timespec="seconds"),
  }


def _command() -> str:
  spec = getattr(sys.modules.get("__main__"), "__spec__", None)
  program = f"python -m {spec.name}" if spec else pathlib.Path(sys.argv[0]).name
  return " ".join([program, *sys.argv[1:]])


def commit() -> str:
  """Return the commit, with `-dirty` if its code was changed.

  Results, and the documentation that quotes them, are written between runs.
  """
  folder = pathlib.Path(__file__).parent
  git = ["git", "-C", str(folder)]
  try:
    head = subprocess.run(
      [*git, "rev-parse", "--short", "HEAD"],
      capture_output=True,
      text=True,
      check=True,
    ).stdout.strip()
    changed = subprocess.run(
      [*git, "status", "--porcelain", "--untracked-files=no", "--", *_CODE],
      capture_output=True,
      text=True,
      check=True,
    ).stdout.strip()
  except (OSError, subprocess.CalledProcessError):
    return "unknown"
  return head + ("-dirty" if changed else "")


def hardware() -> str:
  """Return the devices and the processor, as `1 x cpu, Xeon, 2 cores`."""
  kind = jax.devices()[0].device_kind
  cores = len(os.sched_getaffinity(0))
  many = "core" if cores == 1 else "cores"
  return f"{jax.device_count()} x {kind}, {_processor()}, {cores} {many}"


def _processor() -> str:
  try:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
  except OSError:
    return platform.machine()
  names = [x.split(":", 1)[1].strip() for x in lines if x.startswith("model n")]
  return names[0] if names else platform.machine()


def row(base: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
  """Return a row.

  Args:
    base: Provenance and names.
    **fields: What was measured.
  """
  empty: dict[str, Any] = dict.fromkeys(FIELDS, "")
  empty |= {"options": {}, "low": None, "high": None}
  return empty | dict(base) | fields


def number(
  base: Mapping[str, Any], metric: str, value: float
) -> dict[str, Any]:
  """Return the row of one number without an interval."""
  return row(base, metric=metric, value=value)


def metric(row: Mapping[str, Any]) -> str:
  """Return the metric by which the task of a row judges models.

  Example:
    >>> metric({}), metric({"judged_by": "miou"})
    ('accuracy', 'miou')
  """
  return str(row.get("judged_by") or "accuracy")


_WORDS = {
  "ap50": "AP50",
  "cosine": "cosine similarity",
  "miou": "mean IoU",
  "retrieval": "own text first",
  "word_accuracy": "word accuracy",
}


def in_words(metric: str) -> str:
  """Return the name of a metric for people.

  Example:
    >>> in_words("miou"), in_words("accuracy")
    ('mean IoU', 'accuracy')
  """
  return _WORDS.get(metric, metric)


def judges(row: Mapping[str, Any]) -> bool:
  """Return whether a row has the metric by which its task judges models."""
  return bool(row["metric"] == metric(row))


def names(label: str, spec: ConfigDict) -> dict[str, Any]:
  """Return the fields that identify a protection in its rows."""
  # As they are read back: tuples become lists.
  options = json.loads(json.dumps(dict(spec.args), default=str))
  return {
    "scheme": label,
    "title": spec.title,
    "mechanism": spec.scheme,
    "options": options,
  }


def write_json(path: files.AnyPath, value: Any) -> None:
  """Write JSON atomically."""
  files.write(path, json.dumps(value, indent=1) + "\n")


def read_json(path: files.AnyPath) -> Any:
  """Read JSON that `write_json` wrote.

  Raises:
    ValueError: If the file is damaged; the message names it.
    OSError: If it cannot be read.
  """
  try:
    return json.loads(path.read_text())
  except ValueError:
    raise ValueError(
      f"{path} is damaged; delete it, and it is made again"
    ) from None


def read_rows(file: files.AnyPath) -> dict[str, dict[str, Any]]:
  """Return the rows of a file by name, and drop a last line cut short.

  Raises:
    ValueError: If a whole line is not a row; the message names file and line.
  """
  if not file.exists():
    return {}
  lines = file.read_text(errors="replace").splitlines(keepends=True)
  whole = [line for line in lines if line.endswith("\n")]
  rows = {}
  for number, line in enumerate(whole, 1):
    try:
      row = json.loads(line)
      rows[row["row"]] = row
    except (ValueError, KeyError, TypeError):
      raise ValueError(
        f"{file}: line {number} is damaged; delete it, and it is measured again"
      ) from None
  if len(whole) < len(lines):
    files.write(file, "".join(whole))
  return rows


def lines(rows: Sequence[Mapping[str, Any]]) -> str:
  """Return rows as JSON, one per line."""
  return "".join(json.dumps(row) + "\n" for row in rows)


def append_rows(file: files.AnyPath, rows: Sequence[Mapping[str, Any]]) -> None:
  """Append rows to a file, one per line; all of them or none."""
  text = lines(rows)
  if len(rows) == 1:  # A line that was cut short has no line end.
    files.append(file, text)
  else:
    files.write(file, (file.read_text() if file.exists() else "") + text)


def resume(
  file: files.AnyPath,
  todo: Mapping[str, Callable[[], Iterable[Mapping[str, Any]]]],
  done: Callable[[str, list[dict[str, Any]], int], None],
) -> list[dict[str, Any]]:
  """Measure the tasks that have no rows in a file; return the rows of all.

  The rows of a task are written together, once it is done: what is stopped goes
  on with the task that it was in.

  Args:
    file: Rows, one per line.
    todo: Functions that measure, by the name of a task.
    done: Called after each task with its name, its rows and how many are left.
  """
  rows = read_rows(file)
  missing = [name for name in todo if f"{name}/0" not in rows]
  for left, name in zip(reversed(range(len(missing))), missing, strict=True):
    new = [{**r, "row": f"{name}/{i}"} for i, r in enumerate(todo[name]())]
    rows |= {r["row"]: r for r in new}
    append_rows(file, new)
    done(name, new, left)
  return [r for name, r in rows.items() if name.rpartition("/")[0] in todo]


def find(rows: Sequence[Mapping[str, Any]], **fields: Any) -> dict[str, Any]:
  """Return the first row with these fields.

  Raises:
    KeyError: If there is none.
  """
  for candidate in rows:
    if all(candidate.get(k) == v for k, v in fields.items()):
      return dict(candidate)
  raise KeyError(f"no row with {fields}")
