r"""What an attacker gets who asks a model, or has its data and recipe.

    python -m experiments.copies --config=configs/copies.py:digits \
      --workdir=runs/digits_copies

It trains victims, each on half of the data, and locks them; trains copies on
what a service answers, with the key, with a wrong one and from the stolen file
alone, against the number of queries; asks dataset inference which models were
made from a victim's data; and builds victims again from three of their four
parts. It appends rows to WORKDIR/copies.jsonl; rows that are there are not
measured again: stop at any time, add replies, run the same command to continue.
WORKDIR/copies.html draws copies against queries; `keyjax card` takes
WORKDIR/copies.json; docs/attacks/copies.md explains the figures.

What to type next:
    --config=configs/copies.py:mnist        CNNs of MNIST
    --config.copies.other=cifar10           ask with these images as well
    --config.copies.parts="('knockoff',)"   only copies by queries
    --config.copies.victims=5               more victims
    --copy=FILE                             the rows, for a document
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import rich.console
import rich.table
from absl import app
from ml_collections import ConfigDict

import keyjax
from experiments.copying import measure, plan, rebuild, victims
from experiments.protection.job import Job, open_job
from experiments.report import copies as report
from experiments.run import copy_flag, files, results, tasks
from experiments.run import flags as run_flags

Row = dict[str, Any]


def run(
  config: ConfigDict,
  workdir: str,
  keydir: str = "",
  secret: keyjax.Secret | None = None,
  copy: str = "",
) -> list[Row]:
  """Measure what a config asks for, and return the rows.

  Args:
    config: Config with `schemes` and `copies`; see
      `experiments.copying.plan.configure`.
    workdir: Folder for rows; it never holds a key.
    keydir: Folder for keys; `<workdir>.keys` by default.
    secret: See `experiments.main.run`.
    copy: File for the rows that a document quotes.

  Raises:
    ValueError: If the config or a folder is wrong; the message says how.
    FileNotFoundError: If a data set is not on this machine.
  """
  console = rich.console.Console()
  say = functools.partial(console.print, markup=False)
  job = _open_job(config, workdir, keydir, secret, say)
  todo = measure.tasks(config, victims.Victims(config, job))
  file = files.path(workdir) / "copies.jsonl"
  found = tasks.measured(todo, file, job.row_base, say, _summary)
  results.write_json(files.path(workdir) / "copies.json", found)
  if copy:
    results.write_json(files.path(copy), found)
  page = files.path(workdir) / "copies.html"
  report.write(page, found)
  console.print(table(found))
  console.print(f"Rows:    {file}")
  console.print(f"Report:  {page}")
  return found


def _open_job(
  config: ConfigDict,
  workdir: str,
  keydir: str,
  secret: keyjax.Secret | None,
  say: Callable[[str], None],
) -> Job:
  plan.check(config)
  other = config.copies.other
  if other:  # Before a workdir is claimed for a config with an error.
    if victims.other_set(config).train_images.ndim != 4:
      raise ValueError(f"copies.other={other}: a data set of images")
  kept = {k: v for k, v in config.items() if k != "copies"}
  job = open_job(ConfigDict(kept), workdir, keydir, secret, say)
  if job.task.metric != "accuracy" or job.dataset.is_text:
    raise ValueError(
      f"dataset={job.dataset.name}: copies here are of classifiers of images, "
      "with one class each"
    )
  half = len(job.dataset.train_labels) // 2
  if config.copies.inputs > half:
    raise ValueError(
      f"copies.inputs={config.copies.inputs}: an attacker's half of the "
      f"data has {half} images"
    )
  for title, changes in config.copies.networks.items():
    try:
      rebuild.guessed(config, job.dataset, changes)
    except (ValueError, TypeError) as error:
      raise ValueError(f"copies.networks: {title!r}: {error}") from error
  return job


def _summary(rows: list[Row]) -> list[str]:
  best = max((r["value"] for r in rows), default=0.0)
  return [f"{len(rows)} rows, at most {best:.3f}"]


def table(rows: Sequence[Row]) -> rich.table.Table:
  """Return what copies reach with most queries, and what is built again."""
  made = rich.table.Table(title="Copies")
  for name in ("model", "condition", "what the attacker has", "how much"):
    made.add_column(name, overflow="fold")
  made.add_column("agreement", justify="right")
  for r in rows:
    if r["metric"] == "agreement" and r["part"] == "rebuild":
      what = f"all but {r['missing']}: {r['guess']}"
      made.add_row(r["title"], r["condition"], what, "", _figure(r))
    elif r["metric"] == "agreement":
      what = f"{r['reply_title']}; {r['set_title']}"
      count = f"{r['queries']:,} queries"
      made.add_row(r["title"], r["condition"], what, count, _figure(r))
    elif r["metric"] == "called_a_copy":
      what = f"dataset inference ({r['method']}): {r['kind_title']}"
      called = f"{r['models']} models"
      made.add_row(r["title"], "", what, called, f"{r['value']:.2f} called")
  return made


def _figure(row: Row) -> str:
  return f"{row['value']:.3f} ({row['low']:.2f} to {row['high']:.2f})"


def main(argv: list[str]) -> None:
  """Run from the command line."""
  run_flags.run_command(argv, functools.partial(run, copy=copy_flag.COPY.value))


if __name__ == "__main__":
  app.run(main, flags_parser=run_flags.parse_flags)
