"""The table of results: several seeds of one config, next to the papers.

    python -m experiments.table runs/table_mnist_0 runs/table_mnist_1

The folders are workdirs of `experiments.main` that differ only in `train.seed`.
The command prints a Markdown table and writes RESULTS/<config>.md and
RESULTS/<config>.json: rows with value, deviation, interval, and how they were
measured.

What to type next:
    --out=DIR                        RESULTS; `results` by default
    --overhead=FILE,FILE             a column: what locks cost steps and passes
    python -m experiments.benchmark overhead --json=FILE    writes that file
    python -m experiments.main       another seed: --config.train.seed=3
"""

import pathlib
from collections.abc import Sequence

from absl import app, flags

from experiments.run import errors, files, results
from experiments.tables import markdown, over_seeds, runs, steps

_OUT = flags.DEFINE_string("out", "results", "Folder for the table.")
_OVERHEAD = flags.DEFINE_list("overhead", [], "Files of that benchmark.")


def main(argv: list[str]) -> None:
  """Run from the command line."""
  with errors.reported():
    folder = pathlib.Path(_OUT.value or "results")
    file, page = write(argv[1:], _OVERHEAD.value, folder)
  print(page)
  print(f"Rows:  {file}\nTable: {file.with_suffix('.md')}")


def write(
  folders: Sequence[str], overhead: Sequence[str], out: pathlib.Path
) -> tuple[pathlib.Path, str]:
  """Write the table of some runs; return the file of its rows, and its page.

  Args:
    folders: Workdirs of the runs.
    overhead: Files of the benchmark; see `experiments.tables.steps.read`.
    out: Folder for the table.
  """
  rows = over_seeds.rows(runs.read(folders))
  timed = steps.read(overhead, rows[0]["config"])
  page = markdown.page(rows, timed)
  out.mkdir(parents=True, exist_ok=True)
  file = out / f"{rows[0]['config']}.json"
  results.write_json(file, rows + timed)
  files.write(file.with_suffix(".md"), page)
  return file, page


if __name__ == "__main__":
  app.run(main)
