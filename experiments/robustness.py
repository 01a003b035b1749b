r"""How models withstand changed inputs: schemes and defences against attacks.

    python -m experiments.robustness --config=configs/robustness.py \
      --workdir=runs/robustness

It trains the models of the config (plain, each scheme, each defence, schemes
with defences), attacks each as the holder of its key, of none, or of queries
would, always judged on the model that is served, audits the gradients, and
measures the config's studies of published claims. It appends one row for each
figure to WORKDIR/robustness.jsonl; rows that are there are not measured again:
stop at any time, add attacks, run the same command to continue. `keyjax card`
takes WORKDIR/robustness.json, which has the worst cases over attackers too.
WORKDIR/robustness.html shows accuracy against epsilon, the worst case, what
each attack costs, images with their changes, and the checklist of "On
evaluating adversarial robustness", answered from the rows.

What to type next:
    --config=configs/robustness.py:mnist      the same on MNIST
    --config=configs/survey_evasion.py        the survey's claims, 3 seeds
    --models='hpnn/.*'                        only these models SCHEME/DEFENSE
    --config.robustness.images=1000           more images
    python -m experiments.attack              attacks on locks
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import rich.console
import rich.table
from absl import app, flags
from ml_collections import ConfigDict

import keyjax
from experiments import studies
from experiments.claims import measure as claims
from experiments.evasion import measure, plan, tasks
from experiments.protection.job import Job, open_job
from experiments.report import robustness as report
from experiments.run import copy_flag, files, pictures, results
from experiments.run import flags as run_flags
from experiments.run import tasks as run_tasks
from experiments.tables import survey

Row = dict[str, Any]
_MODELS = flags.DEFINE_string(
  "models", plan.ALL, "Regular expression of the models SCHEME/DEFENSE."
)


def run(
  config: ConfigDict,
  workdir: str,
  keydir: str = "",
  secret: keyjax.Secret | None = None,
  only: str = plan.ALL,
  copy: str = "",
) -> list[Row]:
  """Measure what a config asks for, and return the rows.

  Args:
    config: Config with `schemes` and `robustness`; see
      `experiments.evasion.plan.configure`.
    workdir: Folder for rows and trained models; it never holds a key.
    keydir: Folder for keys; `<workdir>.keys` by default.
    secret: See `experiments.main.run`.
    only: Regular expression of the models `SCHEME/DEFENSE`.
    copy: File for the rows that a document quotes, studies over their seeds.

  Raises:
    ValueError: If the config or a folder is wrong; the message says how.
    FileNotFoundError: If the data set is not on this machine.
  """
  plan.check(config)
  claims.check("robustness", config, studies.get)
  plan.models(config, only)  # Checks the pattern.
  console = rich.console.Console()
  say = functools.partial(console.print, markup=False)
  folder = files.path(workdir)
  jobs = _open_jobs(config, folder, keydir, secret, say)
  dataset = jobs[plan.NONE].dataset
  todo = tasks.of_models(config, jobs, folder, only)
  todo += claims.tasks("robustness", config, studies.get, dataset, folder)
  found = run_tasks.measured(
    todo,
    folder / "robustness.jsonl",
    jobs[plan.NONE].row_base,
    say,
    lambda rows: map(tasks.summary, rows),
  )
  found += measure.worst_cases(found)
  results.write_json(folder / "robustness.json", found)
  if copy:
    others = [r for r in found if r["metric"] != survey.METRIC]
    results.write_json(files.path(copy), others + survey.over_seeds(found))
  page = folder / "robustness.html"
  report.write(page, found, pictures.read(folder))
  for made in (table(found), claims.table(found)):
    if made.row_count:
      console.print(made)
  console.print(f"Rows:    {folder / 'robustness.jsonl'}")
  console.print(f"Report:  {page}")
  return found


def _open_jobs(
  config: ConfigDict,
  folder: files.AnyPath,
  keydir: str,
  secret: keyjax.Secret | None,
  say: Callable[[str], None],
) -> dict[str, Job]:
  """Return the job of each defence, in a folder of its own."""
  keys = keydir or f"{folder}.keys"
  return {
    label: open_job(
      plan.defended(config, label), str(folder / label), keys, secret, say
    )
    for label in plan.defense_labels(config)
  }


def table(rows: Sequence[Row]) -> rich.table.Table:
  """Return the robust accuracies, in percent."""
  made = rich.table.Table(title="Accuracy on changed inputs")
  for name in ("model", "attack", "computed"):
    made.add_column(name, overflow="fold")
  for name in ("epsilon", "accuracy, %", "95 %", "seconds"):
    made.add_column(name, justify="right", overflow="fold")
  for r in rows:
    if r["metric"] == measure.ACCURACY and r["value"] is not None:
      made.add_row(
        r["title"],
        r["attack_title"],
        plan.HOLDERS.get(r["condition"], "-"),
        f"{r['epsilon']:g} {r['norm']}",
        f"{100 * r['value']:.1f}",
        f"{100 * r['low']:.1f} - {100 * r['high']:.1f}",
        f"{r['cost']['seconds']:.3g}",
      )
  return made


def main(argv: list[str]) -> None:
  """Run from the command line."""
  play = functools.partial(run, only=_MODELS.value, copy=copy_flag.COPY.value)
  run_flags.run_command(argv, play)


if __name__ == "__main__":
  app.run(main, flags_parser=run_flags.parse_flags)
