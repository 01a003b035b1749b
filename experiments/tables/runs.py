"""Several runs of one config, which differ only in their seed."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from experiments.run import files, results
from experiments.run.workdir import difference


class Run(NamedTuple):
  """One run: its folder, seed, config without the seed, and rows."""

  folder: files.AnyPath
  seed: int
  config: dict[str, Any]
  rows: list[dict[str, Any]]


def read(folders: Sequence[str]) -> list[Run]:
  """Read runs, by seed.

  Args:
    folders: Workdirs of the runs.

  Raises:
    ValueError: If a folder has no finished run, the runs differ in more than
      the seed, or two have the same seed; the message names the folders.
  """
  if not folders:
    raise ValueError("name the workdirs of one config's runs")
  runs = sorted(map(read_one, folders), key=lambda r: r.seed)
  first = runs[0]
  for before, run in zip(runs, runs[1:], strict=False):
    if run.config != first.config:
      where = difference(first.config, run.config)
      raise ValueError(
        f"{first.folder} and {run.folder} are not runs of one config: they "
        f"differ at {where}"
      )
    if run.seed == before.seed:
      raise ValueError(
        f"{before.folder} and {run.folder} have the same train.seed={run.seed}"
      )
  return runs


def read_one(name: str) -> Run:
  """Read the folder of one run.

  Raises:
    ValueError: If it has no finished run.
  """
  folder = files.path(name)
  for name in ("run.json", "results.json"):
    if not (folder / name).exists():
      raise ValueError(f"{folder} has no {name}: name folders of finished runs")
  try:
    config = json.loads((folder / "run.json").read_text())["config"]
    rows = json.loads((folder / "results.json").read_text())
    seed = config["train"].pop("seed")
    if not rows or any(set(results.FIELDS) - set(row) for row in rows):
      raise ValueError("no rows")
  except (OSError, ValueError, KeyError, TypeError):
    raise ValueError(f"{folder} is not the folder of a run") from None
  config.pop("data_dir", None)  # The same data may be in several folders.
  # Near keys are not in the table.
  config.get("evaluate", {}).pop("distance_keys", None)
  return Run(folder, seed, config, rows)
