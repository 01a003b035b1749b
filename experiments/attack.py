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
    python -m experiments.main             protect a model first
"""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import rich.console
import rich.table
from absl import app, flags
from ml_collections import ConfigDict

import keyjax
from experiments.attacking import (
  plan,
  property_inference,
  restored,
  search_cost,
)
from experiments.attacking.games import Games
from experiments.attacking.property_inference import PropertyInference
from experiments.attacking.search_cost import SearchCost
from experiments.attacking.targets import Targets
from experiments.protection.job import open_job
from experiments.report import attacks as report
from experiments.run import files, results
from experiments.run import flags as run_flags

Row = dict[str, Any]
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

  Raises:
    ValueError: If the config or a folder is wrong; the message says how.
    FileNotFoundError: If the data set is not on this machine.
  """
  config = plan.with_default(config)
  plan.check(config)
  pairs = plan.pairs(config, only)
  console = rich.console.Console()
  job = open_job(config, workdir, keydir, secret, console.print)
  targets = Targets(
    job,
    versions=plan.needs_versions(config),
    licensees=plan.licensees(config),
  )
  for label, schemes in plan.unfit(config).items():
    console.print(f"{label} does not apply to: {', '.join(schemes)}")
  file = job.workdir.path / "rows.jsonl"
  rows = _play_all(config, targets, pairs, file, console.print)
  page = job.workdir.path / "attacks.html"
  report.write(page, rows)
  scores = [r for r in rows if r["metric"] != search_cost.METRIC]
  prices = [r for r in rows if r["metric"] == search_cost.METRIC]
  if scores:
    console.print(table(scores))
  if prices:
    console.print(search_cost.table(prices))
  picture = _draw(config, targets, pairs, rows)
  console.print(f"Rows:    {file}")
  console.print(f"Report:  {page}")
  if picture:
    console.print(f"Picture: {picture}")
  return rows


def _play_all(
  config: ConfigDict,
  targets: Targets,
  pairs: Sequence[tuple[str, str]],
  file: files.AnyPath,
  say: Callable[[str], None],
) -> list[Row]:
  """Play the pairs that have no row yet; return the rows of all pairs."""
  rows = results.read_rows(file)
  games = Games(config, targets)
  measurements: dict[str, Callable[[str, str], Row]] = {
    search_cost.NAME: SearchCost(config, targets),
    property_inference.NAME: PropertyInference(config, targets),
  }
  names = [plan.row_name(config, *pair) for pair in pairs]
  start = time.monotonic()
  played = 0
  for i, (name, (scheme, label)) in enumerate(zip(names, pairs, strict=True)):
    if name in rows:
      continue
    say(f"{i + 1} of {len(pairs)}: {scheme}, {label}")
    play = measurements.get(config.attacks[label].attack, games)
    rows[name] = play(scheme, label) | targets.job.row_base | {"row": name}
    results.append_rows(file, [rows[name]])
    played += 1
    left = sum(x not in rows for x in names)
    pace = (time.monotonic() - start) / played
    say(f"  {summary(rows[name])}; about {left * pace / 60:.0f} min left")
  return [rows[x] for x in names]


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
      f"{100 * r['low']:.1f} - {100 * r['high']:.1f}",
      f"{r['cost']['seconds']:.3g}",
    )
  return made


def main(argv: list[str]) -> None:
  """Run from the command line."""
  run_flags.run_command(argv, functools.partial(run, only=_ONLY.value))


if __name__ == "__main__":
  app.run(main, flags_parser=run_flags.parse_flags)
