r"""What models tell of their training data: plain, locked, and as a service.

    python -m experiments.privacy --config=configs/privacy.py \
      --workdir=runs/privacy

It trains groups of models, each on its own half of a pool of examples, locks
some of them, and asks of each example whether a model was trained on it: with
the key, with wrong ones, with the stolen file alone, and through services that
hide a part of their answers. It appends rows to WORKDIR/privacy.jsonl; rows
that are there are not measured again: stop at any time, add attacks, run the
same command to continue. WORKDIR/privacy.html draws ROC curves by condition;
`keyjax card` takes WORKDIR/privacy.json; docs/attacks/membership.md explains
the figures.

What to type next:
    --config=configs/privacy.py:mnist       CNNs of MNIST
    --config=configs/privacy.py:private     with differential privacy, audited
    --config=configs/privacy.py:canaries    the same with wrong labels
    --config.privacy.attacks="('lira',)"    only this attack
    --config.privacy.attacks="('rmia:4',)"  by 4 shadow models of each example
    --config=configs/privacy.py:few         by 1 to 32 of them
    --config.privacy.targets=10             more models are judged
    --beside=FOLDER                         results of another run below these:
                                            of this command, or of copies
    --copy=FILE                             the rows, for a document
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import rich.console
import rich.table
from absl import app, flags
from ml_collections import ConfigDict

import keyjax
from experiments.membership import measure, models, plan, rows
from experiments.protection.job import Job, open_job
from experiments.report import beside as other_reports
from experiments.report import privacy as report
from experiments.run import copy_flag, files, results, tasks
from experiments.run import flags as run_flags

Row = dict[str, Any]
_BESIDE = flags.DEFINE_multi_string(
  "beside", [], "Folders of other runs, whose results the page shows as well."
)
_COLUMNS = {
  "auc": "AUC",
  "tpr_0.01": "TPR at 1 %",
  "tpr_0.001": "at 0.1 %",
}


def run(
  config: ConfigDict,
  workdir: str,
  keydir: str = "",
  secret: keyjax.Secret | None = None,
  copy: str = "",
  beside: Sequence[str] = (),
) -> list[Row]:
  """Measure what a config asks for, and return the rows.

  Args:
    config: Config with `schemes` and `privacy`; see
      `experiments.membership.plan.configure`.
    workdir: Folder for rows and trained models; it never holds a key.
    keydir: Folder for keys; `<workdir>.keys` by default.
    secret: See `experiments.main.run`.
    copy: File for the rows that a document quotes, without curves.
    beside: Workdirs of other runs of this command or of `experiments.copies`,
      whose results are on the page, below these.

  Raises:
    ValueError: If the config or a folder is wrong; the message says how.
    FileNotFoundError: If the data set is not on this machine.
  """
  other_reports.parts(beside)  # Before anything is trained.
  console = rich.console.Console()
  say = functools.partial(console.print, markup=False)
  job = _open_job(config, workdir, keydir, secret, say)
  todo = measure.tasks(config, models.Models(config, job))
  file = files.path(workdir) / "privacy.jsonl"
  found = tasks.measured(todo, file, job.row_base, say, _summary)
  # Rows of an older release do not state all that they assume.
  found = [rows.stated(config, job, r) | r for r in found]
  results.write_json(files.path(workdir) / "privacy.json", found)
  if copy:
    kept = [{k: v for k, v in r.items() if k != "curves"} for r in found]
    results.write_json(files.path(copy), kept)
  page = files.path(workdir) / "privacy.html"
  if beside:
    other_reports.write(page, report.parts(found), beside)
  else:
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
  kept = {k: v for k, v in config.items() if k != "privacy"}
  job = open_job(ConfigDict(kept), workdir, keydir, secret, say)
  if job.task.metric != "accuracy" or job.dataset.is_text:
    raise ValueError(
      f"dataset={job.dataset.name}: membership attacks here are for images "
      "with one class each"
    )
  images = len(job.dataset.train_labels)
  if config.privacy.pool > images:
    raise ValueError(
      f"privacy.pool={config.privacy.pool}: there are {images} training images"
    )
  return job


def _summary(rows: list[Row]) -> list[str]:
  return [", ".join(f"{r['metric']} {r['value']:.3f}" for r in rows)]


def table(rows: Sequence[Row]) -> rich.table.Table:
  """Return AUCs, and TPRs in percent, with a line for each attack."""
  made = rich.table.Table(title="Who was in the training data")
  for name in ("models", "condition", "attack"):
    made.add_column(name, overflow="fold")
  for name in _COLUMNS.values():
    made.add_column(name, justify="right")
  lines: dict[tuple[str, str, str], dict[str, str]] = {}
  for r in rows:
    if r["metric"] in _COLUMNS:
      place = (r["title"], r["reply"] or r["condition"], r["attack_title"])
      lines.setdefault(place, {})[r["metric"]] = _figure(r)
  for place, figures in lines.items():
    made.add_row(*place, *(figures.get(k, "") for k in _COLUMNS))
  return made


def _figure(row: Row) -> str:
  if row["metric"] == "auc":
    return f"{row['value']:.3f}"
  mark = "" if row["resolved"] else "*"
  return f"{100 * row['value']:.1f}{mark}"


def main(argv: list[str]) -> None:
  """Run from the command line."""
  copy, beside = copy_flag.COPY.value, _BESIDE.value
  run_flags.run_command(argv, functools.partial(run, copy=copy, beside=beside))


if __name__ == "__main__":
  app.run(main, flags_parser=run_flags.parse_flags)
