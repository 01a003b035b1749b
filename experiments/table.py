"""The table of results: several seeds of one config, beside the papers.

    python -m experiments.table runs/table_mnist_0 runs/table_mnist_1

The folders are workdirs of `experiments.main` that differ in `train.seed`
alone. It prints a Markdown table and writes RESULTS/<config>.md and
RESULTS/<config>.json, rows with value, deviation, interval, and what they were
measured with.

What to type next:
    --out=DIR                        RESULTS; `results` by default
    python -m experiments.main       another seed: --config.train.seed=3
    python -m experiments.benchmark schemes    overhead of steps and inference
"""

import sys

from absl import app

from experiments import out, results
from experiments.tables import markdown, over_seeds, runs


def main(argv: list[str]) -> None:
  """Runs from the command line; user errors are one line."""
  try:
    rows = over_seeds.rows(runs.read(argv[1:]))
    page, folder = markdown.page(rows), out.folder("results")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{rows[0]['config']}.json"
    results.write_json(file, rows)
    file.with_suffix(".md").write_text(page)
  except (ValueError, OSError) as error:
    sys.exit(f"error: {error}")
  print(page)
  print(f"Rows:  {file}\nTable: {file.with_suffix('.md')}")


if __name__ == "__main__":
  app.run(main)
