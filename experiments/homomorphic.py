r"""Inference on encrypted inputs: a server that answers what it cannot see.

    python -m experiments.homomorphic --config=configs/homomorphic.py \
      --workdir=runs/homomorphic

It trains a small network of digits whose activation is a quadratic, seals it
for a server in another process, encrypts test digits with CKKS, asks the
server, and compares the decrypted answers with the plain network's. The same
for a linear regression, and a layer under Paillier. It appends rows to
WORKDIR/homomorphic.jsonl, and skips parts and seeds that are there.
docs/homomorphic.md explains the figures. It needs keyjax[homomorphic].

What to type next:
    --config.parts="('regression',)"       only this part
    --config.network.hidden="(16,16)"      another network: two squares
    --config.network.queries=20            fewer questions
    --copy=FILE                            the figures, for a document
"""

import functools
from collections.abc import Iterator
from typing import Any

import rich.console
import rich.table
from absl import app
from ml_collections import ConfigDict

import keyjax
from experiments.encrypted import figures, measure
from experiments.run import copy_flag, files, notes, results
from experiments.run import flags as run_flags
from experiments.tables import homomorphic as table
from keyjax import extras

Row = dict[str, Any]


def run(
  config: ConfigDict,
  workdir: str,
  keydir: str = "",
  secret: keyjax.Secret | None = None,
  copy: str = "",
) -> list[Row]:
  """Measure what a config asks for, and return the figures over seeds.

  Args:
    config: Config from `configs/homomorphic.py`.
    workdir: Folder for rows.
    keydir: Not used: keys are made for a run, and not kept.
    secret: Not used either.
    copy: Another file for the figures.

  Raises:
    ValueError: If a field of the config is out of range.
    KeyringError: If a package is missing.
  """
  del keydir, secret
  console = rich.console.Console()
  note = notes.with_seconds(console)

  for module in ("tenseal", "phe"):
    extras.library(module, "homomorphic")
  todo = measure.tasks(config, note)
  folder = files.path(workdir)
  folder.mkdir(parents=True, exist_ok=True)
  file = folder / "homomorphic.jsonl"

  def done(name: str, new: list[Row], left: int) -> None:
    del new
    part, seed, _ = name.split("/")
    note(f"{part}: seed {seed} is done, {left} left")

  found = figures.over_seeds(results.resume(file, todo, done))
  if copy:
    results.write_json(files.path(copy), found)
  console.print(*tables(found))
  console.print(f"Rows:    {file}")
  return found


def tables(rows: list[Row]) -> Iterator[rich.table.Table]:
  """Yield a table of each part: figures over seeds."""
  for title in table.titles(rows):
    own = table.find(rows, title)
    made = rich.table.Table(title=table.heading(own[0]).replace("*", ""))
    made.add_column("figure")
    made.add_column("mean (range over seeds)", justify="right")
    for row in own:
      made.add_row(table.in_words(row), table.cell(row))
    yield made


def main(argv: list[str]) -> None:
  """Run from the command line."""
  run_flags.run_command(argv, functools.partial(run, copy=copy_flag.COPY.value))


if __name__ == "__main__":
  app.run(main, flags_parser=run_flags.parse_flags)
