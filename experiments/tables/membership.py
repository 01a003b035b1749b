"""Tables of docs/attacks/membership.md, from rows of `experiments.privacy`."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.tables import headlines, markdown, survey
from experiments.tables import membership_plain as unlocked
from experiments.tables.membership_plain import area, rate
from keyjax.defenses.private.accountant import in_words

Row = Mapping[str, Any]
_RUNS = (
  "digits",
  "clean",
  "mnist",
  "private",
  "canaries",
)  # Files privacy_RUN.json, if they exist.
_ATTACKS = ("gap", "loss", "label_only", "shokri", "lira_fixed", "rmia")
_BOUND = "epsilon_bound"
_CONDITIONS = {
  "plain": "",
  "right": "right key",
  "wrong": "wrong keys",
  "no_key": "no key",
}


def membership(results: pathlib.Path) -> list[str]:
  """Return tables of locks, attacks and services, for each run.

  Args:
    results: Folder with `privacy_digits.json`, and those of the other runs.
  """
  parts = []
  for name in _RUNS:
    file = results / f"privacy_{name}.json"
    if file.exists():
      parts.append(_of_run(headlines.read(file)))
  rows = headlines.read(results / "privacy_few.json")
  if rows:
    parts.append([*_about(rows), *unlocked.few(rows), "", _origin(rows)])
  parts.append(survey.xor(results))
  made = [line for part in parts if part for line in ("", *part)]
  return made[1:]


def _of_run(rows: Sequence[Row]) -> list[str]:
  made = [
    *_about(rows),
    *_locks([r for r in rows if not r["reply"]]),
    "",
    *unlocked.attacks(rows),
  ]
  replies = [r for r in rows if r["reply"]]
  if replies:
    made += ["", *_replies(rows), "", *unlocked.answers(rows)]
  return [*made, *_bounds(rows), *_guarantees(rows), "", _origin(rows)]


def _about(rows: Sequence[Row]) -> list[str]:
  first = next(r for r in rows if r["attack"])
  return [
    f"**{first['dataset']}**, {first['model']}: {first['examples']:,} "
    f"examples, half of them members; {100 * first['label_noise']:.0f} % of "
    f"the labels are wrong; {first['shadows']} shadow models; "
    f"{first['models']} models are judged.",
    "",
  ]


def _locks(rows: Sequence[Row]) -> list[str]:
  """Return a line for each model and condition, AUCs by attack."""
  titles = {r["attack"]: r["attack_title"] for r in rows}
  shown = [name for name in _ATTACKS if name in titles]
  head = ["model", "accuracy: members; others", "NaN"]
  head += [f"{titles[name]}, AUC" for name in shown]
  head += ["LiRA: TPR at FPR 1 %", "at 0.1 %"]
  audited = any(r["metric"] == _BOUND for r in rows)
  if audited:
    head += ["epsilon: claimed", "at least: LiRA", "RMIA"]
  lines = []
  for title in dict.fromkeys(r["title"] for r in rows):
    for condition, words in _CONDITIONS.items():
      own = {
        (r["attack"], r["metric"]): r
        for r in rows
        if (r["title"], r["condition"]) == (title, condition)
      }
      if own:
        cells = _cells(own, shown) + (_epsilons(own) if audited else [])
        lines.append([f"{title}, {words}".rstrip(", "), *cells])
  return list(markdown.lines(head, lines))


def _cells(own: Mapping[tuple[str, str], Row], shown: Sequence[str]) -> list:
  members, others = own["", "train_accuracy"], own["", "test_accuracy"]
  best = "lira_fixed"
  return [
    f"{100 * members['value']:.1f}; {100 * others['value']:.1f}",
    f"{100 * others['nonfinite']:.0f} %",
    *(area(own[name, "auc"]) for name in shown),
    rate(own[best, "tpr_0.01"]),
    rate(own[best, "tpr_0.001"]),
  ]


def _epsilons(own: Mapping[tuple[str, str], Row]) -> list[str]:
  """Return the epsilon that is claimed, and those that attacks prove."""
  claimed = own["", "test_accuracy"].get("privacy")
  found = [own[name, _BOUND] for name in ("lira_fixed", "rmia")]
  return [
    f"{claimed['epsilon']:.2f}" if claimed else "",
    *(f"{r['value']:.2f} ({r['low']:.2f} to {r['high']:.2f})" for r in found),
  ]


def _bounds(rows: Sequence[Row]) -> list[str]:
  """Return what each attack proves of epsilon, and how often too much.

  An interval over attacks is none: each bound holds at 95 % alone.
  """
  found = [r for r in rows if r["metric"] == _BOUND and "privacy" in r]
  if not found:
    return []
  titles = dict.fromkeys(r["title"] for r in found)
  by = {(r["attack_title"], r["title"]): r for r in found}
  lines = []
  for attack in dict.fromkeys(r["attack_title"] for r in found):
    own = [by[attack, title] for title in titles]
    cells = [f"{r['low']:.2f} to {r['high']:.2f}" for r in own]
    lines.append([attack, *cells])
  counts = []
  for title in titles:
    own = [r for r in found if r["title"] == title]
    bounds = [x > r["privacy"]["epsilon"] for r in own for x in r["values"]]
    counts.append(f"{sum(bounds)} of {len(bounds)}")
  lines.append(["bounds above the claim", *counts])
  return ["", *markdown.lines(["epsilon, at least, by", *titles], lines)]


def _guarantees(rows: Sequence[Row]) -> list[str]:
  """Return what each private training claims, with all that it assumes."""
  found = [in_words(r["privacy"]) for r in rows if "privacy" in r]
  return [""] * bool(found) + [f"- {x}" for x in dict.fromkeys(found)]


def _replies(rows: Sequence[Row]) -> list[str]:
  """Return a line for each thing that a service answers."""
  titles = {r["attack"]: r["attack_title"] for r in rows}
  shown = [name for name in _ATTACKS if name in titles and name != "label_only"]
  head = ["a service answers", *(f"{titles[name]}, AUC" for name in shown)]
  said = {"all probabilities": unlocked.plain(rows)}
  for reply in dict.fromkeys(r["reply"] for r in rows if r["reply"]):
    said[reply] = [r for r in rows if r["reply"] == reply]
  lines = []
  for words, own in said.items():
    areas = {r["attack"]: r for r in own if r["metric"] == "auc"}
    lines.append([words, *(area(areas[name]) for name in shown)])
  return list(markdown.lines(head, lines))


def _origin(rows: Sequence[Row]) -> str:
  row = rows[0]
  commits = ", ".join(dict.fromkeys(r["commit"] for r in rows))
  return (
    f"(`{row['command']}`: means of the judged models, and the widest of their "
    f"95 % intervals by bootstrap over examples; commit {commits}; "
    f"{row['hardware']}; {row['date'][:10]}.)"
  )
