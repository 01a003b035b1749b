r"""Models that nobody here trained, locked: with the key, without, with others.

    python -m experiments.pretrained --config=configs/pretrained.py \
      --workdir=runs/pretrained

Sentence embeddings (all-MiniLM-L6-v2), faces (MTCNN) and text (PP-OCRv4) from
packages of PyPI, which docs/published.md says how to install. It locks each
model with each lock, appends rows to WORKDIR/pretrained.jsonl, and skips models
and locks that are there.

What to type next:
    --config.subjects="('faces',)"         only this model
    --config.locks="('deep_lock',)"        only this lock
    --config.wrong_keys=16                 more wrong keys
    --copy=FILE                            the rows, for a document
"""

import functools
from collections.abc import Iterator
from typing import Any

import rich.console
import rich.table
from absl import app
from ml_collections import ConfigDict

import keyjax
from experiments.published import measure
from experiments.run import copy_flag, files, notes, results
from experiments.run import flags as run_flags

Row = dict[str, Any]
_CONDITIONS = ("plain", "right", "no_key", "wrong")


def run(
  config: ConfigDict,
  workdir: str,
  keydir: str = "",
  secret: keyjax.Secret | None = None,
  copy: str = "",
) -> list[Row]:
  """Measure what a config asks for, and return the rows.

  Args:
    config: Config from `configs/pretrained.py`.
    workdir: Folder for rows.
    keydir: Not used: keys are made for a run, and not kept.
    secret: Not used either.
    copy: Another file for the rows.

  Raises:
    ValueError: If a field is out of range, or a package is missing.
  """
  del keydir, secret
  console = rich.console.Console()
  note = notes.with_seconds(console)

  todo = measure.jobs(config, note)
  folder = files.path(workdir)
  folder.mkdir(parents=True, exist_ok=True)
  file = folder / "pretrained.jsonl"

  def done(name: str, new: list[Row], left: int) -> None:
    del new
    note(f"{name.rpartition('/')[0]} is done, {left} left")

  found = results.resume(file, todo, done)
  if copy:
    results.write_json(files.path(copy), found)
  console.print(*tables(found))
  console.print(f"Rows:    {file}")
  return found


def tables(rows: list[Row]) -> Iterator[rich.table.Table]:
  """Yield a table of each model and figure: locks by condition."""
  pairs = dict.fromkeys((r["subject"], r["metric"]) for r in rows)
  for subject, metric in pairs:
    own = [r for r in rows if (r["subject"], r["metric"]) == (subject, metric)]
    made = rich.table.Table(title=f"{subject}: {metric}")
    made.add_column("lock")
    for name in _CONDITIONS:
      made.add_column(name, justify="right")
    for title in dict.fromkeys(r["title"] for r in own):
      cells = [
        f"{results.find(own, title=title, condition=name)['value']:.3f}"
        for name in _CONDITIONS
      ]
      made.add_row(title, *cells)
    yield made


def main(argv: list[str]) -> None:
  """Run from the command line."""
  run_flags.run_command(argv, functools.partial(run, copy=copy_flag.COPY.value))


if __name__ == "__main__":
  app.run(main, flags_parser=run_flags.parse_flags)
