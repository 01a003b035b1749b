"""Rows as the experiments write them, and cards made of them."""

import copy
import json

from experiments.attacking import games
from experiments.attacking import rows as attack_rows
from experiments.run import config as configs
from experiments.run import results
from keyjax import card as cards
from keyjax.attacks import registry
from keyjax.attacks.game import Cost, Score
from keyjax.attacks.referee import AttackResult, Point

BASE = {
  "command": "python -m experiments.attack --config=configs/tiny.py",
  "commit": "0123abc",
  "hardware": "1 x cpu, 2 cores",
  "jax": "0.10.2",
  "date": "2026-11-22T13:00:00+00:00",
  "config": "tiny",
  "dataset": "digits",
  "model": "mlp",
  "classes": 10,
  "source": "made here",
}


def config():
  """Return a config with two schemes and three attacks."""
  made = configs.base()
  configs.set_schemes(
    made,
    counter=configs.scheme("deep_lock", "hardened", schedule="counter"),
    both=configs.scheme(
      "chain", "two", parts=(("hpnn", {}), ("deep_lock", {}))
    ),
  )
  configs.set_attacks(
    made,
    tune=configs.attack("fine_tune", "tuning", images=8, steps=20, points=2),
    known=configs.attack("known_plaintext", "known", known_weights=4, trials=9),
    base=configs.attack("base_model", "a base", has_base=True),
  )
  return made


def accuracy(names, condition, value, keys=1):
  """Return a row of `experiments.main`."""
  return results.row(
    BASE | names,
    condition=condition,
    metric="accuracy",
    value=value,
    low=value - 0.05,
    high=value + 0.05,
    interval="Clopper-Pearson over images",
    images=100,
    keys=keys,
    nonfinite=0,
  )


def attack(made, scheme, label, value):
  """Return a row of `experiments.attack`, made by its own code."""
  spec = made.attacks[label]
  game = registry.get(spec.attack)
  attacker = attack_rows.attacker_of(spec, 100)
  if value is None:
    note = "there is no base model"
    return games.game_row(made, scheme, label, game, attacker, note) | BASE
  low = Score(value / 2, value / 2.1, value / 1.9)
  last = Score(value, max(value - 0.1, 0.0), min(value + 0.1, 1.0))
  points = [Point(Cost(steps=9), low), Point(Cost(steps=20), last)]
  details = {"settings": 2}
  found = AttackResult(last, points[-1].cost, points, details, {"rate": 0.1})
  return games.game_row(made, scheme, label, game, attacker, found) | BASE


def evasion(names, value, **fields):
  """Return a row of `experiments.robustness`."""
  row = results.row(
    BASE | names,
    metric="robust accuracy",
    attack="pgd",
    attack_title="PGD",
    condition="right",
    defense="none",
    norm="linf",
    epsilon=0.1,
    images=100,
    value=value,
    low=value and value - 0.05,
    high=value and value + 0.05,
    interval="Clopper-Pearson over images",
    cost={"seconds": 1.0, "queries": 80.0},
  )
  return row | fields


def rows():
  """Return the rows of two schemes and of the plain model."""
  made, plain = config(), {"scheme": "plain", "title": "plain"}
  out = [accuracy(plain, "plain", 0.9)]
  for label in ("counter", "both"):
    names = results.names(label, made.schemes[label])
    out += [
      accuracy(names, "right", 0.9),
      accuracy(names, "no_key", 0.1),
      accuracy(names, "wrong", 0.1, keys=4),
      attack(made, label, "tune", 0.5),
      attack(made, label, "known", 0.0),
      attack(made, label, "base", None),
    ]
  out.append(results.row(BASE | names, metric="key_bytes", value=32))
  return out


def write_rows(folder):
  """Write both files; return their paths."""
  found = rows()
  lines = "".join(json.dumps(r) + "\n" for r in found if "attack" in r)
  (folder / "rows.jsonl").write_text(lines)
  rest = [r for r in found if "attack" not in r]
  (folder / "results.json").write_text(json.dumps(rest))
  return folder / "rows.jsonl", folder / "results.json"


def one_card():
  """Return a card of a scheme with keys and an answer."""
  return cards.make(
    rows(),
    "counter",
    keys=["team/2=aes:0123-4567", "team/1=aes:89ab-cdef"],
    answers={"release": {"answer": "yes", "because": "Apache-2.0"}},
  )


def paths(value, at=()):
  """Return the paths of all leaves of a document."""
  inner = None
  if isinstance(value, dict):
    inner = value.items()
  elif isinstance(value, list):
    inner = enumerate(value)
  if not inner:
    return [at]
  return [p for k, v in inner for p in paths(v, (*at, k))]


def put(document, path, value):
  """Return a copy with one leaf replaced."""
  changed = copy.deepcopy(document)
  get(changed, path[:-1])[path[-1]] = value
  return changed


def get(document, path):
  for step in path:
    document = document[step]
  return document


def other(value):
  """Return another value of the same type, as a forger would."""
  if isinstance(value, bool):
    return not value
  if isinstance(value, int | float):
    return value + 1
  if isinstance(value, str):
    return value[:-1] + ("B" if value.endswith("A") else "A")
  return {"more": 1} if isinstance(value, dict) else ["more"]
