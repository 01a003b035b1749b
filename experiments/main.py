"""KeyJAX's main job: train, lock, ship, restore and judge.

    python -m experiments.main --config=configs/quickstart.py --workdir=runs/a

It trains a plain model and the models that train under a key, locks each with
its scheme, saves locked params with Orbax and keys elsewhere, restores and
decrypts them, checks them bit for bit, and evaluates them with the right key,
none, wrong keys and near keys. It writes WORKDIR/results.json (a row a
measurement) and WORKDIR/report.html, and goes on where it stopped.

What to type next:
    configs/*.py                     each begins with its command and figures
    --config.train.epochs=2          change a field of the config
    --keydir=DIR                     where keys go (default: WORKDIR.keys)
    --secret=file:PATH               bring your own secret (also env:, fd:)
    --multihost                      on every host of a TPU slice
    --coordinator=HOST:PORT --num_processes=N --process_id=I    anywhere else
    python -m experiments.benchmark  speed
"""

from typing import Any

import rich.console
import rich.table
from absl import app, flags, logging
from ml_collections import ConfigDict

import keyjax
from experiments import report
from experiments.protection import job as context
from experiments.protection import pictures, protect
from experiments.report.view import proves_nothing
from experiments.run import ending, results
from experiments.run import flags as cli
from keyjax import parallel

_MULTIHOST = flags.DEFINE_bool(
  "multihost", False, "This is one of the hosts of a TPU slice."
)
_COORDINATOR = flags.DEFINE_string(
  "coordinator", "", "host:port of process 0, to join processes anywhere else."
)
_NUM_PROCESSES = flags.DEFINE_integer(
  "num_processes", 0, "How many processes there are."
)
_PROCESS_ID = flags.DEFINE_integer(
  "process_id", -1, "Which of them this one is, from 0."
)


def run(
  config: ConfigDict,
  workdir: str,
  keydir: str = "",
  secret: keyjax.Secret | None = None,
) -> list[dict[str, Any]]:
  """Runs a config and returns its rows.

  Args:
    config: from a file in `configs/`.
    workdir: for results and checkpoints; no key ever lies in it.
    keydir: for keys; `<workdir>.keys` by default.
    secret: what keys are derived from; by default one that is made and kept
      with the keys. Every process of several brings the same.

  Returns:
    The rows; none in processes but the first, which go when all is trained.

  Raises:
    ValueError: the config or a folder is wrong; the message says how.
    FileNotFoundError: the data set is not on this machine.
    Preempted: the machine is about to go; what was trained is saved.
  """
  console = rich.console.Console(quiet=not parallel.is_first())
  if "attacks" in config:
    console.print("The config's attacks are left to experiments.attack.")
  this = context.start(config, workdir, keydir, secret, console.print)
  folders = this.workdir
  trained = protect.train_plain(this)
  variables = {
    label: protect.train_locked(this, label, spec, trained)
    for label, spec in config.schemes.items()
  }
  shown = {
    label: pictures.train_shown(this, label, spec)
    for label, spec in config.schemes.items()
  }
  if not parallel.is_first():  # From here on nothing waits for others.
    return []
  outcome = protect.judge_plain(this, trained)
  rows, figures = list(outcome.rows), {"plain": outcome.figures}
  for label, spec in config.schemes.items():
    args = this, label, spec, variables[label], outcome.rows, shown[label]
    done = protect.protect(*args)
    rows += done.rows
    figures[label] = done.figures
  results.write_json(folders.path / "results.json", rows)
  page = folders.path / "report.html"
  report.write(page, rows, figures)
  console.print(table(rows))
  console.print(f"Rows:   {folders.path / 'results.json'}")
  console.print(f"Report: {page}")
  console.print(f"Ship:   {folders.path}/<scheme>/locked")
  console.print(f"Keys:   {folders.key_path} (mode 600)")
  return rows


def table(rows: list[dict[str, Any]]) -> rich.table.Table:
  """Returns accuracy by scheme and key, in percent; NaN where most outputs are.

  The argmax of NaN is a class, which would be right now and then.
  """
  out = rich.table.Table(title=f"{rows[0]['dataset']}, test accuracy in %")
  out.add_column("scheme", overflow="fold")
  names = ("right key", "no key", "wrong (mean)", "wrong (max)")
  for name in (*names, "not finite", "key bytes"):
    out.add_column(name, justify="right", overflow="fold", width=7)
  for label in dict.fromkeys(r["scheme"] for r in rows):
    out.add_row(*_cells([r for r in rows if r["scheme"] == label]))
  return out


def _cells(rows: list[dict[str, Any]]) -> list[str]:
  title = rows[0]["title"]
  found = {r["condition"]: r for r in rows if r["metric"] == "accuracy"}
  if "plain" in found:
    return [title, _percent(found["plain"], "value"), *["-"] * 5]
  shown = [_percent(found[c], "value") for c in ("right", "no_key")]
  size = str(results.find(rows, metric="key_bytes")["value"])
  if "wrong" not in found:  # There is no key.
    return [title, *shown, *["-"] * 3, size]
  wrong = found["wrong"]
  shown += [_percent(wrong, name) for name in ("value", "max")]
  seen = wrong["images"] * wrong["keys"]
  return [title, *shown, f"{100 * wrong['nonfinite'] / seen:.1f} %", size]


def _percent(row: dict[str, Any], field: str) -> str:
  return "NaN" if proves_nothing(row) else f"{100 * row[field]:.2f}"


def main(argv: list[str]) -> None:
  """Runs from the command line; user errors are one line."""
  cli.check(argv)
  logging.set_verbosity(logging.ERROR)  # JAX's and Orbax's notes.
  with ending.one_line():
    # Before anything that asks JAX for its devices.
    if _MULTIHOST.value or _COORDINATOR.value:
      where = _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value
      parallel.initialize(*where)
    folders = str(cli.WORKDIR.value), cli.KEYDIR.value
    run(cli.CONFIG.value, *folders, cli.secret())


if __name__ == "__main__":
  app.run(main, flags_parser=cli.parse_flags)
