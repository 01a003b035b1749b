r"""Attack locked models: each scheme against its strongest known attacks.

    python -m experiments.attack --config=configs/attack_deep_lock.py \
      --workdir=runs/attack_deep_lock

It trains and locks the models of `config.schemes`, plays each of
`config.attacks` against every scheme that it applies to, and appends one row
for each pair to WORKDIR/rows.jsonl. Rows that are there are not played again:
stop at any time, add attacks to the config, run the same command to continue.
WORKDIR/attacks.html shows schemes against attacks, score against cost, and what
trying every key would cost. Of a config without attacks, only that is measured.

What to type next:
    --config=configs/matrix.py             all schemes, all attacks, on MNIST
    --config=configs/attack_jigsaw.py      images restored from ciphertexts
    --config=configs/attack_properties.py  what weights reveal of their data
    --config.attacks.X.steps=5000          give an attack more steps
    --only='hpnn/relax.*'                  only these pairs SCHEME/ATTACK
    --multihost                            on every host of a TPU slice
    python -m experiments.main             protect a model first
"""

import functools
from collections.abc import Sequence
from typing import Any

import rich.console
import rich.table
from absl import app, flags
from ml_collections import ConfigDict

import keyjax
from experiments.attacking import plan, playing, restored, search_cost
from experiments.attacking.targets import Targets
from experiments.protection.job import open_job
from experiments.report import attacks as report
from experiments.run import files, multihost
from experiments.run import flags as run_flags
from keyjax import processes
from keyjax.attacks import verdict

Row = dict[str, Any]
flags.adopt_module_key_flags(multihost)
_ONLY = flags.DEFINE_string(
  "only", plan.ALL, "Regular expression of the pairs SCHEME/ATTACK to play."
)


def run(
  config: ConfigDict,
  workdir: str,
  keydir: str = "",
  secret: keyjax.Secret | None = None,
  only: str = plan.ALL,
) -> list[Row]:
  """Play all pairs of schemes and attacks, and return their rows.

  Args:
    config: Config with `schemes` and `attacks`; see `experiments.run.config`.
    workdir: Folder for rows and trained models; it never holds a key.
    keydir: Folder for keys; `<workdir>.keys` by default.
    secret: See `experiments.main.run`.
    only: Regular expression of the pairs `SCHEME/ATTACK` to play.

  Returns:
    The rows; none in processes but the first, which alone gathers them.

  Raises:
    ValueError: If the config or a folder is wrong; the message says how.
    FileNotFoundError: If the data set is not on this machine.
    ProcessError: If another process failed.
  """
  config = plan.with_default(config)
  plan.check(config)
  pairs = plan.pairs(config, only)
  console = rich.console.Console(quiet=not processes.is_first())
  job = open_job(config, workdir, keydir, secret, console.print)
  targets = Targets(
    job,
    versions=plan.needs_versions(config),
    licensees=plan.licensees(config),
  )
  for label, schemes in plan.unfit(config).items():
    console.print(f"{label} does not apply to: {', '.join(schemes)}")
  rows = playing.play_all(config, targets, pairs, console.print, summary)
  folder = job.workdir.path
  page = folder / "attacks.html"
  picture = _draw(config, targets, pairs, rows)
  processes.first_does(lambda: report.write(page, rows))
  if not processes.is_first():
    return []
  scores = [r for r in rows if r["metric"] != search_cost.METRIC]
  prices = [r for r in rows if r["metric"] == search_cost.METRIC]
  if scores:
    console.print(table(scores))
    for title, words in verdicts(scores).items():
      console.print(f"{title}: {words}", markup=False)
  if prices:
    console.print(search_cost.table(prices))
  console.print(f"Rows:    {folder / 'rows.jsonl'}")
  console.print(f"Report:  {page}")
  if picture:
    console.print(f"Picture: {picture}")
  return rows


def _draw(
  config: ConfigDict,
  targets: Targets,
  pairs: Sequence[tuple[str, str]],
  rows: Sequence[Row],
) -> files.AnyPath | None:
  """Draw what pictured attacks restored; return the file, if there is one."""
  strips = [
    (scheme, label, row)
    for (scheme, label), row in zip(pairs, rows, strict=True)
    if config.attacks[label].get("picture", False)
  ]
  if not strips:
    return None
  path = targets.job.workdir.path / "restored.png"
  restored.draw(path, config, targets, strips)
  return path


def summary(row: Row) -> str:
  """Return a row's score in words."""
  if row["value"] is None:
    return str(row["note"])
  if row["metric"] == search_cost.METRIC:
    return f"{row['key_bits']:.1f} bits, 10^{row['value']:.1f} years"
  text = f"{row['metric']} {100 * row['value']:.1f} %"
  right = row.get("right")
  return text + (f" (right key: {100 * right:.1f} %)" if right else "")


def table(rows: Sequence[Row]) -> rich.table.Table:
  """Return every pair with its score, interval and time."""
  made = rich.table.Table(title=f"{rows[0]['dataset']}: attacks on locks")
  for name in ("scheme", "attack", "goal"):
    made.add_column(name, overflow="fold")
  for name in ("score, %", "95 %", "seconds"):
    made.add_column(name, justify="right", overflow="fold")
  for r in rows:
    if r["value"] is None:
      continue
    made.add_row(
      r["title"],
      r["attack_title"],
      r["metric"],
      f"{100 * r['value']:.1f}",
      _interval(r),
      f"{r['cost']['seconds']:.3g}",
    )
  return made


def verdicts(rows: Sequence[Row]) -> dict[str, str]:
  """Return the verdict on each scheme, by its title."""
  by: dict[str, list[Row]] = {}
  for row in rows:
    by.setdefault(row["title"], []).append(row)
  return {
    title: verdict.in_words(own[0]["mechanism"], own[0]["options"], own, rows)
    for title, own in by.items()
  }


def _interval(row: Row) -> str:
  """Return a row's interval; a dash for one key, which has none."""
  if row["low"] == row["high"]:
    return "-"
  return f"{100 * row['low']:.1f} - {100 * row['high']:.1f}"


def main(argv: list[str]) -> None:
  """Run from the command line."""
  play = functools.partial(run, only=_ONLY.value)
  # Processes join before anything asks JAX for its devices.
  run_flags.run_command(argv, play, prepare=multihost.join)


if __name__ == "__main__":
  app.run(main, flags_parser=run_flags.parse_flags)
