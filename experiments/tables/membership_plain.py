"""Tables of the model without a lock: all attacks, answers, shadow models."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.tables import markdown
from keyjax.attacks import intervals

Row = Mapping[str, Any]
# What a prototype of these experiments measured, with models, members and
# attack models of its own: by name of the run and of the attack.
_PROTOTYPE = {
  "digits_privacy": {
    "gap": "accuracy .655",
    "loss": "AUC .683, accuracy .662",
    "shokri": "AUC .700, accuracy .660, TPR 2.2 and .14 %",
    "lira_fixed": "AUC .853, TPR 28.0 and 17.4 %",
  },
  "clean_privacy": {
    "gap": "accuracy .528",
    "loss": "AUC .569, accuracy .591",
    "shokri": "AUC .629, accuracy .589, TPR 3.2 and .6 %",
    "lira_fixed": "AUC .724, TPR 14.5 and 7.1 %",
  },
}
_FEW_OF_PROTOTYPE = {
  "lira_fixed": (
    ".706; 6.2",
    ".757; 10.1",
    ".790; 16.0",
    ".834; 27.2",
    ".841; 28.7",
  ),
  "rmia": (
    ".685; 7.2",
    ".746; 5.4",
    ".780; 15.3",
    ".804; 23.4",
    ".813; 24.7",
  ),
}
_PAIRED = ("gap", "loss", "shokri", "lira_fixed", "rmia")
_BY_ACCURACY = "shokri"  # By which the prototype judged answers.
_NOTHING = 0.0005  # Of a difference: half of the last digit.


def attacks(rows: Sequence[Row]) -> list[str]:
  """Return a line for each attack on the model without a lock.

  Args:
    rows: Rows of one run of `experiments.privacy`.
  """
  own = _by_attack(plain(rows))
  known = _PROTOTYPE.get(rows[0]["config"], {})
  head = [
    "attack on the model without a lock",
    "AUC",
    "accuracy",
    "TPR at FPR 1 %",
  ]
  head += ["at 0.1 %", *["a prototype"] * bool(known)]
  lines = []
  for name, found in own.items():
    line = [
      found["auc"]["attack_title"],
      area(found["auc"]),
      area(found["balanced_accuracy"]),
      rate(found["tpr_0.01"]),
      rate(found["tpr_0.001"]),
    ]
    lines.append(line + [known.get(name, "")] * bool(known))
  return markdown.lines(head, lines)


def answers(rows: Sequence[Row]) -> list[str]:
  """Return how much less attacks find in each answer, model by model.

  Args:
    rows: Rows of one run, some of them with a `reply`.
  """
  before = _by_attack(plain(rows))
  shown = [name for name in _PAIRED if name in before]
  head = ["differences to all probabilities"]
  for name in shown:
    title = before[name]["auc"]["attack_title"]
    control = ", the control" * (name == "gap")
    head.append(f"{title}{control}: AUC")
  pairs = [(name, "auc") for name in shown]
  if _BY_ACCURACY in shown:
    head.append(f"{before[_BY_ACCURACY]['auc']['attack_title']}: accuracy")
    pairs.append((_BY_ACCURACY, "balanced_accuracy"))
  lines = []
  for reply in dict.fromkeys(r["reply"] for r in rows if r["reply"]):
    after = _by_attack([r for r in rows if r["reply"] == reply])
    cells = [paired(before[x][of], after[x][of]) for x, of in pairs]
    lines.append([reply, *cells])
  return markdown.lines(head, lines)


def paired(first: Row, second: Row) -> str:
  """Return the mean of differences over models, with its 95 % interval.

  Args:
    first: Row with `values`, one for each judged model.
    second: Row of the same models, from which the first is subtracted.

  Example:
    >>> paired({"values": [0.8, 0.9]}, {"values": [0.8, 0.9]})
    '0 in each'
    >>> paired({"values": [0.8, 0.9]}, {"values": [0.8, 0.90001]})
    'below 0.001'
    >>> paired({"values": [0.8, 0.9, 0.7]}, {"values": [0.7, 0.81, 0.59]})
    '-0.100 (-0.125 to -0.075)'
  """
  pairs = zip(first["values"], second["values"], strict=True)
  apart = np.asarray([after - before for before, after in pairs])
  if not apart.any():
    return "0 in each"
  low, high = intervals.mean_interval(apart, (-1.0, 1.0))
  if max(-low, high) < _NOTHING:
    return "below 0.001"
  return f"{apart.mean():+.3f} ({low:+.3f} to {high:+.3f})"


def few(rows: Sequence[Row]) -> list[str]:
  """Return AUC and TPR of attacks by the number of their shadow models.

  Args:
    rows: Rows of `configs/privacy.py:few`.
  """
  own = _by_attack(plain(rows))
  stems = dict.fromkeys(x.split(":")[0] for x in own if ":" in x)
  counts = sorted({int(x.split(":")[1]) for x in own if ":" in x})
  every = f"all {rows[0]['shadows']}"
  head = ["shadow models that judge an example", *map(str, counts), every]
  lines = []
  for stem in stems:
    found = [own.get(f"{stem}:{k}") for k in counts] + [own.get(stem)]
    title = own[stem]["auc"]["attack_title"]
    lines.append(
      [f"{title}: AUC", *(area(x["auc"]) if x else "" for x in found)]
    )
    lines.append(
      [
        f"{title}: TPR at FPR 1 %",
        *(rate(x["tpr_0.01"]) if x else "" for x in found),
      ]
    )
    if stem in _FEW_OF_PROTOTYPE:
      known = _FEW_OF_PROTOTYPE[stem]
      lines.append(["a prototype: AUC; TPR at 1 %, in %", *known, ""])
  return markdown.lines(head, lines)


def plain(rows: Sequence[Row]) -> list[Row]:
  """Return the rows of the model without a lock that answers everything."""
  return [
    r
    for r in rows
    if (r["scheme"], r["training"], r["condition"]) == ("none", "none", "plain")
  ]


def area(row: Row) -> str:
  """Return an AUC, or a balanced accuracy, with its interval.

  Example:
    >>> area({"value": 0.5, "low": 0.4512, "high": 0.6})
    '0.500 (0.45 to 0.60)'
  """
  return f"{row['value']:.3f} ({row['low']:.2f} to {row['high']:.2f})"


def rate(row: Row) -> str:
  """Return a TPR with its interval; a star if its FPR is no example.

  Example:
    >>> rate({"value": 0.241, "low": 0.1, "high": 0.362, "resolved": False})
    '24.1 %* (10 to 36)'
  """
  value, low, high = (100 * row[k] for k in ("value", "low", "high"))
  star = "" if row["resolved"] else "*"
  ends = f"{low:.1f} to {high:.1f}" if high < 10 else f"{low:.0f} to {high:.0f}"
  return f"{value:.1f} %{star} ({ends})"


def _by_attack(rows: Sequence[Row]) -> dict[str, dict[str, Row]]:
  """Return rows by attack and metric; those of the accuracy are left out."""
  found: dict[str, dict[str, Row]] = {}
  for r in rows:
    if r["attack"]:
      found.setdefault(r["attack"], {})[r["metric"]] = r
  return found
