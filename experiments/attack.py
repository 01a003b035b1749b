r"""Attack locked models: each scheme beside its strongest known attack.

    python -m experiments.attack --config=configs/attack_deep_lock.py \
      --workdir=runs/attack_deep_lock

It trains and locks what `config.schemes` lists, plays each of `config.attacks`
against every scheme that it applies to, and appends a row a pair to
WORKDIR/rows.jsonl. A row that is there is not played again: stop whenever you
like, add attacks to the config, go on. WORKDIR/attacks.html shows schemes
against attacks, and score against cost.

What to type next:
    --config=configs/matrix.py       all schemes, all attacks, on MNIST
    --config.attacks.X.steps=5000    give an attack more
    python -m experiments.main       protect a model first
"""

import hashlib
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import rich.console
import rich.table
from absl import app
from ml_collections import ConfigDict

import keyjax
from experiments.attacking.targets import Targets
from experiments.protection import check
from experiments.protection import job as context
from experiments.report import attacks as report
from experiments.run import flags as cli
from experiments.run import results
from experiments.run.config import meaning
from keyjax.attacks import referee, registry
from keyjax.attacks.game import OVER_IMAGES, Attack, Attacker, Budget, Goal


def run(
  config: ConfigDict,
  workdir: str,
  keydir: str = "",
  secret: keyjax.Secret | None = None,
) -> list[dict[str, Any]]:
  """Plays all pairs of schemes and attacks, and returns their rows.

  Args:
    config: with `schemes` and `attacks`; see `experiments.run.config`.
    workdir: for rows and trained models; no key ever lies in it.
    keydir: for keys; `<workdir>.keys` by default.
    secret: see `experiments.main.run`.

  Raises:
    ValueError: the config or a folder is wrong; the message says how.
    FileNotFoundError: the data set is not on this machine.
  """
  check.attacks(config)
  console = rich.console.Console()
  this = context.start(config, workdir, keydir, secret, console.print)
  file = this.workdir.path / "rows.jsonl"
  wants = wants_versions(config), licensees(config)
  rows, targets = results.read_rows(file), Targets(this, *wants)
  plan = list(pairs(config))
  for label, schemes in unfit(config).items():
    console.print(f"{label} does not apply to: {', '.join(schemes)}")
  wanted = [name_of(config, *pair) for pair in plan]
  start, played = time.monotonic(), 0
  for i, (name, (scheme, label)) in enumerate(zip(wanted, plan, strict=True)):
    if name in rows:
      continue
    console.print(f"{i + 1} of {len(plan)}: {scheme}, {label}")
    rows[name] = play(targets, config, scheme, label) | this.base
    rows[name]["row"] = name
    results.append_rows(file, [rows[name]])
    played += 1
    left = sum(x not in rows for x in wanted)
    pace = (time.monotonic() - start) / played
    console.print(
      f"  {said(rows[name])}; about {left * pace / 60:.0f} min left"
    )
  found = [rows[x] for x in wanted]
  page = this.workdir.path / "attacks.html"
  report.write(page, found)
  console.print(table(found))
  console.print(f"Rows:   {file}")
  console.print(f"Report: {page}")
  return found


def pairs(config: ConfigDict) -> Iterator[tuple[str, str]]:
  """Returns (scheme, attack) labels, one scheme after the other."""
  return ((s, label) for s, label, fits in _chosen(config) if fits)


def unfit(config: ConfigDict) -> dict[str, list[str]]:
  """Returns the schemes chosen for an attack that does not apply to them."""
  found: dict[str, list[str]] = {}
  for scheme, label, fits in _chosen(config):
    if not fits:
      found.setdefault(label, []).append(scheme)
  return found


def _chosen(config: ConfigDict) -> Iterator[tuple[str, str, bool]]:
  """Yields the pairs that the config chooses, and whether they fit."""
  for scheme, spec in config.schemes.items():
    for label, attack in config.attacks.items():
      if re.fullmatch(attack.schemes, scheme):
        fits = registry.applies(registry.get(attack.attack), spec.scheme)
        yield scheme, label, fits


def wants_versions(config: ConfigDict) -> bool:
  """Tells whether some attacker holds a base model or another file."""
  attackers = [attacker_of(spec, 1) for spec in config.attacks.values()]
  return any(a.has_base or a.copies for a in attackers)


def licensees(config: ConfigDict) -> dict[str, int]:
  """Returns how many licensees' files some attacker holds, by scheme."""
  most = dict.fromkeys(config.schemes, 0)
  for scheme, label in pairs(config):
    held = attacker_of(config.attacks[label], 1).licensees
    most[scheme] = max(most[scheme], held)
  return most


def name_of(config: ConfigDict, scheme: str, label: str) -> str:
  """Returns a row's name: a hash of all that its figures depend on."""
  said = meaning(config)
  whole = {
    k: v for k, v in said.items() if k not in ("schemes", "attacks", "name")
  }
  whole |= {"scheme": said["schemes"][scheme], "attack": said["attacks"][label]}
  text = json.dumps(whole, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def play(
  targets: Targets, config: ConfigDict, scheme: str, label: str
) -> dict[str, Any]:
  """Plays one pair and returns its row."""
  spec, attack = (
    config.attacks[label],
    registry.get(config.attacks[label].attack),
  )
  target = targets.get(scheme)
  attacker = attacker_of(spec, len(target.train.label))
  if attacker.has_base and target.base is None:
    result = None
  elif spec.trials:
    decoys = attack.goal == Goal.DISTINGUISH
    fresh = targets.anew(scheme, spec.trials, decoys)
    result = referee.trials(attack, fresh, attacker, _budget(spec))
  else:
    grid = spec.grid.settings or attack.grid
    result = referee.sweep(attack, target, attacker, _budget(spec), grid)
  made = row(config, scheme, label, attack, attacker, result)
  if attack.goal == Goal.FUNCTION:
    made["right"] = targets.right(scheme).value
  return made


def attacker_of(spec: ConfigDict, num_train: int) -> Attacker:
  """Returns the attacker of an attack in a config."""
  fields = dict(spec.attacker)
  if spec.fraction:
    fields["images"] = max(1, round(spec.fraction * num_train))
  return Attacker(**fields)


def _budget(spec: ConfigDict) -> Budget:
  return Budget(steps=spec.steps, points=spec.points)


def row(
  config: ConfigDict,
  scheme: str,
  label: str,
  attack: Attack,
  attacker: Attacker,
  result: referee.AttackResult | None,
) -> dict[str, Any]:
  """Returns a row: the game, the score with its interval, cost and curve."""
  spec = config.attacks[label]
  fields = results.names(scheme, config.schemes[scheme]) | {
    "attack": label,
    "attack_title": spec.title,
    "game": attack.name,
    "condition": _condition(config, scheme, attack),
    "metric": str(attack.goal),
    "attacker": vars(attacker),
    "fraction": spec.fraction,
    "budget": vars(_budget(spec)) | {"trials": spec.trials},
  }
  # An attack that claims nothing, and says why.
  note = result.details.get("note") if result else "there is no base model"
  if result is None or note:
    return results.row(fields, value=None, note=note)
  return results.row(
    fields,
    value=result.score.value,
    low=result.score.low,
    high=result.score.high,
    interval=_interval(attack, spec),
    cost=result.cost._asdict(),
    curve=[
      p.cost._asdict()
      | {"value": p.score.value, "low": p.score.low, "high": p.score.high}
      for p in result.curve
    ],
    details=dict(result.score.details) | dict(result.details),
    setting=dict(result.setting),
  )


def _condition(config: ConfigDict, scheme: str, attack: Attack) -> str:
  """Returns the condition: a file that is not locked is plain to anybody."""
  unlocked = config.schemes[scheme].scheme == "identity"
  return "plain" if unlocked and attack.condition != "api" else attack.condition


def _interval(attack: Attack, spec: ConfigDict) -> str:
  if spec.trials:
    return f"Clopper-Pearson over {spec.trials} games"
  if attack.goal in OVER_IMAGES:
    return "Clopper-Pearson over images, Bonferroni over settings"
  return "one game: exact"


def said(row: dict[str, Any]) -> str:
  """Returns a row's score in words."""
  if row["value"] is None:
    return row["note"]
  text = f"{row['metric']} {100 * row['value']:.1f} %"
  right = row.get("right")
  return text + (f" (right key: {100 * right:.1f} %)" if right else "")


def table(rows: list[dict[str, Any]]) -> rich.table.Table:
  """Returns every pair with its score, interval and time."""
  out = rich.table.Table(title=f"{rows[0]['dataset']}: attacks on locks")
  for name in ("scheme", "attack", "goal"):
    out.add_column(name, overflow="fold")
  for name in ("score, %", "95 %", "seconds"):
    out.add_column(name, justify="right", overflow="fold")
  for r in rows:
    if r["value"] is None:
      continue
    out.add_row(
      r["title"],
      r["attack_title"],
      r["metric"],
      f"{100 * r['value']:.1f}",
      f"{100 * r['low']:.1f} - {100 * r['high']:.1f}",
      f"{r['cost']['seconds']:.3g}",
    )
  return out


def main(argv: list[str]) -> None:
  """Runs from the command line."""
  cli.serve(argv, run)


if __name__ == "__main__":
  app.run(main, flags_parser=cli.parse_flags)
