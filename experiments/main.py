"""The main job of KeyJAX: train, lock, ship, restore and judge.

    python -m experiments.main --config=configs/quickstart.py --workdir=runs/a

It trains a plain model and the models that train under a key, locks each with
its scheme, saves locked params with Orbax and keys elsewhere, restores and
decrypts them, compares them bit for bit, and evaluates them with the right
key, without a key, with wrong keys and with near keys. It writes
WORKDIR/results.json (one row per measurement) and WORKDIR/report.html, and
resumes where it stopped.

What to type next:
    configs/*.py                     each begins with its command and figures
    --config.train.epochs=2          change a field of the config
    --keydir=DIR                     folder for keys (default: WORKDIR.keys)
    --secret=file:PATH               bring your own secret (also env:, fd:)
    --multihost                      on every host of a TPU slice
    --coordinator=HOST:PORT --num_processes=N --process_id=I    anywhere else
    python -m experiments.attack     attacks on locks; interpret: their layers
    python -m experiments.table      several seeds; benchmark: speed
"""

from typing import Any

import rich.console
import rich.table
from absl import app, flags
from ml_collections import ConfigDict

import keyjax
from experiments import report
from experiments.protection import protect
from experiments.protection.job import open_job
from experiments.report import elsewhere, tables
from experiments.report.view import group, proves_nothing
from experiments.run import flags as run_flags
from experiments.run import multihost, results
from keyjax import processes
from keyjax.defenses.private.accountant import in_words as privacy_in_words

flags.adopt_module_key_flags(multihost)


def run(
  config: ConfigDict,
  workdir: str,
  keydir: str = "",
  secret: keyjax.Secret | None = None,
) -> list[dict[str, Any]]:
  """Run a config and return its rows.

  Args:
    config: Config from a file in `configs/`.
    workdir: Folder for results and checkpoints; no key is ever stored in it.
    keydir: Folder for keys; `<workdir>.keys` by default.
    secret: Secret that keys are derived from; by default one is generated and
      stored with the keys. Several processes must bring the same one.

  Returns:
    The rows; none in processes but the first, which alone writes.

  Raises:
    ValueError: If the config or a folder is wrong; the message says how.
    FileNotFoundError: If the data set is not on this machine.
    ProcessError: If another process failed.
    Preempted: If the machine is about to be taken away; what was trained is
      saved.
  """
  console = rich.console.Console(quiet=not processes.is_first())
  if "attacks" in config:
    console.print("Attacks in the config are for experiments.attack.")
  job = open_job(config, workdir, keydir, secret, console.print)
  plain_variables = protect.train_plain(job)
  variables = {
    label: protect.train_locked(job, label, plain_variables)
    for label in job.locks
  }
  plain = protect.judge_plain(job, plain_variables)
  metric = job.task.metric
  value = results.find(plain.rows, metric=metric)["value"]
  rows = list(plain.rows)
  figures = {"plain": plain.figures}
  for label in job.locks:
    outcome = protect.protect(job, label, variables[label], value)
    rows += outcome.rows
    figures[label] = outcome.figures
  folder = job.workdir.path

  def write() -> None:
    results.write_json(folder / "results.json", rows)
    report.write(folder / "report.html", rows, figures)

  processes.first_does(write)
  if not processes.is_first():
    return []
  console.print(table(rows))
  schemes = group(rows, {})[1]
  for title, words in tables.verdicts(schemes).items():
    console.print(f"{title}: {words}", markup=False)
  if note := elsewhere.mnist(schemes):
    console.print(note, markup=False)
  if "privacy" in rows[0]:
    words = privacy_in_words(rows[0]["privacy"])
    console.print(f"Privacy: {words}", markup=False)
  console.print(f"Rows:   {folder / 'results.json'}")
  console.print(f"Report: {folder / 'report.html'}")
  console.print(f"Ship:   {folder}/<scheme>/locked")
  console.print(f"Keys:   {job.workdir.key_path} (mode 600)")
  return rows


def table(rows: list[dict[str, Any]]) -> rich.table.Table:
  """Return metrics, such as accuracies, in percent, by scheme and key.

  NaN where most logits are not finite: the argmax of NaN is a class, and right
  now and then.
  """
  made = rich.table.Table(title=_title(rows[0]))
  made.add_column("scheme", overflow="fold")
  names = ("right key", "no key", "wrong (mean)", "wrong (max)")
  for name in (*names, "not finite", "key bits"):
    made.add_column(name, justify="right", overflow="fold", width=7)
  for label in dict.fromkeys(r["scheme"] for r in rows):
    made.add_row(*_cells([r for r in rows if r["scheme"] == label]))
  return made


def _title(row: dict[str, Any]) -> str:
  return f"{row['dataset']}, test {results.in_words(results.metric(row))} in %"


def _cells(rows: list[dict[str, Any]]) -> list[str]:
  title = rows[0]["title"]
  by_condition = {r["condition"]: r for r in rows if results.judges(r)}
  if "plain" in by_condition:
    return [title, _percent(by_condition["plain"], "value"), *["-"] * 5]
  right = _percent(by_condition["right"], "value")
  no_key = _percent(by_condition["no_key"], "value")
  space = [r["value"] for r in rows if r["metric"] == "key_bits"]
  key_bits = f"{space[0]:.1f}" if space else "-"
  if "wrong" not in by_condition:  # There is no key.
    return [title, right, no_key, "-", "-", "-", key_bits]
  wrong = by_condition["wrong"]
  nonfinite = wrong["nonfinite"] / (wrong["images"] * wrong["keys"])
  return [
    title,
    right,
    no_key,
    _percent(wrong, "value"),
    _percent(wrong, "max"),
    f"{100 * nonfinite:.1f} %",
    key_bits,
  ]


def _percent(row: dict[str, Any], field: str) -> str:
  return "NaN" if proves_nothing(row) else f"{100 * row[field]:.2f}"


def main(argv: list[str]) -> None:
  """Run from the command line."""
  # Processes join before anything asks JAX for its devices.
  run_flags.run_command(argv, run, prepare=multihost.join)


if __name__ == "__main__":
  app.run(main, flags_parser=run_flags.parse_flags)
