"""Blocks of README and docs that quote results files, between markers.

<!-- begin attacks: python -m experiments.readme -->
<!-- end attacks -->
"""

import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.run import files, results
from experiments.tables import (
  capability,
  copies,
  headlines,
  homomorphic,
  leaderboard,
  markdown,
  membership,
  over_seeds,
  parity,
  pretrained,
  properties,
  recording,
  robustness,
  speed,
  survey,
)
from keyjax.attacks import verdict

Row = Mapping[str, Any]
_COUNTS = ("changed_parameters", "outside_range")  # Weights of AdvParams.
_BACK = 0.005  # The accuracy is as good as before within half a point.
_BLOCK = re.compile(
  r"(<!-- begin (\w+): [^\n]* -->\n)(.*?)(<!-- end \2 -->)", re.S
)


def write_all(root: pathlib.Path) -> list[pathlib.Path]:
  """Write every block of README and docs; return the files that changed.

  Args:
    root: Folder with README.md, docs/ and results/.

  Raises:
    ValueError: If a file has a block that is unknown here.
  """
  changed = []
  for file in [root / "README.md", *sorted((root / "docs").rglob("*.md"))]:
    text = file.read_text()
    made = fill(text, root / "results")
    if made != text:
      files.write(file, made)
      changed.append(file)
  return changed


def fill(text: str, results: pathlib.Path) -> str:
  """Return a text with its blocks written from the results files."""

  def block(match: re.Match[str]) -> str:
    name = match[2]
    if name not in _BLOCKS:
      raise ValueError(f"unknown block {name!r}; known: {', '.join(_BLOCKS)}")
    lines = "\n".join(_BLOCKS[name](results))
    return f"{match[1]}{lines}\n{match[4]}"

  return _BLOCK.sub(block, text)


def attacks(results: pathlib.Path) -> list[str]:
  """Return the table of attacks over seeds."""
  rows = [
    r
    for r in _played(results, of_owners=False)
    if r["config"] != properties.CONFIG  # They have a page of their own.
  ]
  if not rows:
    return []
  head = (
    "lock",
    "attack",
    "network, seeds",
    "what it gets, %: median (range)",
    "with the key, %",
    "config",
  )
  configs = dict.fromkeys(r["config"] for r in rows)
  return [
    *markdown.lines(head, [_attack(r) for r in rows]),
    "",
    *(
      over_seeds.origin([r for r in rows if r["config"] == x]) for x in configs
    ),
  ]


def _played(results: pathlib.Path, of_owners: bool) -> list[dict[str, Any]]:
  """Return the rows of attackers, or those of an owner with their key."""
  rows = headlines.read(results / "attacks.json")
  return [r for r in rows if (r["condition"] == "right") == of_owners]


def new_key(results: pathlib.Path) -> list[str]:
  """Return the table of what a new key costs, over seeds."""
  rows = _played(results, of_owners=True)
  if not rows:
    return []
  head = (
    "lock",
    "old key, %",
    "how",
    "seconds",
    "new key, %",
    "steps to within half a point of the old key",
  )
  made = [
    [
      row["title"],
      markdown.median(row["right"]),
      row["attack_title"],
      _seconds(row["seconds"]),
      markdown.median(row),
      _regained(row),
    ]
    for row in rows
  ]
  return [*markdown.lines(head, made), "", over_seeds.origin(rows)]


def in_range(results: pathlib.Path) -> list[str]:
  """Return the table of AdvParams with and without bounds, over seeds."""
  table = _table_rows(results, "table_mnist")
  played = [
    r
    for r in headlines.read(results / "attacks.json")
    if r["config"] == "attack_adv_range"
  ]
  # Labels in the table, and as attacks name them.
  pairs = (("adv_params", "unbounded"), ("in_range", "in_range"))
  own = [{_place(r): r for r in table if r["scheme"] == x} for x, _ in pairs]
  hit = [
    {r["attack_title"]: r for r in played if r["scheme"] == x} for _, x in pairs
  ]
  if not all((*own, *hit)):
    return []
  counts = [
    [_span([int(x) for x in rows[name, ""]["values"]]) for name in _COUNTS]
    for rows in own
  ]
  made = [
    [
      "changed weights; of these outside their layer's range",
      *map("; ".join, counts),
    ],
    ["no key", *(markdown.share(rows["accuracy", "no_key"]) for rows in own)],
    *(
      [name, *(markdown.median(rows[name]) for rows in hit)] for name in hit[0]
    ),
  ]
  head = ("", "unbounded, `theta = 0.5`", "in range")
  return [
    *markdown.lines(head, made),
    "",
    *map(over_seeds.origin, (table, played)),
  ]


def _place(row: Row) -> tuple[str, str]:
  return row["metric"], row["condition"]


def batch_norm(results: pathlib.Path) -> list[str]:
  """Return the table of fine-tuning batch norm alone, by lock and attack."""
  played = headlines.read(results / "attacks.json")
  rows = [r for r in played if r["config"] == "attack_batch_norm"]
  if not rows:
    return []
  names = dict.fromkeys(r["attack_title"] for r in rows)
  made = []
  for own in _by_scheme(rows):
    by = {r["attack_title"]: markdown.median(r) for r in own}
    right = markdown.median(own[0]["right"])
    made.append([own[0]["title"], *(by.get(x, "") for x in names), right])
  head = ["", *names, "right key"]
  return [*markdown.lines(head, made), "", over_seeds.origin(rows)]


def _seconds(values: Sequence[float]) -> str:
  low, high = (f"{x:.2g}" for x in (min(values), max(values)))
  return low if low == high else f"{low} to {high}"


def _regained(row: Row) -> str:
  """Return the steps until the accuracy is back, of all seeds."""
  found = [
    next((step for step, value in curve if value >= right - _BACK), None)
    for curve, right in zip(row["curves"], row["right"]["values"], strict=True)
  ]
  reached = [x for x in found if x is not None]
  if not reached:
    return f"not after {max(step for step, _ in row['curves'][0]):,}"
  never = len(found) - len(reached)
  return _span(reached) + (f"; {never} of {len(found)} never" if never else "")


def _attack(row: Row) -> list[str]:
  right = markdown.median(row["right"]) if "right" in row else ""
  made = f"`{row['config']}`"
  where = f"{row['network']}; {len(row['seeds'])}"
  return [row["title"], row["attack_title"], where, _gets(row), right, made]


def _gets(row: Row) -> str:
  words = [markdown.median(row)]
  if "games" in row:
    games = row["games"]
    low, high = (f"{100 * games[k]:.1f}" for k in ("low", "high"))
    words = [f"{games['won']:,} of {games['of']:,} games [{low}, {high}]"]
  if "bits" in row:
    found = [right for right, _ in row["bits"]]
    acting = {bits for _, bits in row["bits"]}
    words.append(f"{_span(found)} of {_span(sorted(acting))} bits")
  if row["condition"] == "api" and any(row["queries"]):
    words.append(f"{_span(row['queries'])} queries")
  return "; ".join(words)


def _span(counts: Sequence[int]) -> str:
  low = min(counts)
  high = max(counts)
  return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def judge(results: pathlib.Path) -> list[str]:
  """Return the short table of MNIST, with classes and verdicts."""
  rows = _table_rows(results, "table_mnist")
  counted = any(r["metric"] == "key_bits" for r in rows)
  space = ("key space, bits",) if counted else ()
  head = ("lock", "class", *space, "right key", "no key", "64 wrong keys")
  made = []
  for own in _by_scheme(rows):
    options = own[0]["options"]
    stated = verdict.known(own[0]["mechanism"], options)
    plain = own[0]["scheme"] == "plain"
    bits = [markdown.key_space(own)] if counted else []
    made.append(
      [
        "none" if plain else own[0]["title"],
        "" if plain else stated.security_class,
        *(["" for _ in bits] if plain else bits),
        *_accuracies(own),
        "" if plain else verdict.in_words(own[0]["mechanism"], options),
      ]
    )
  return [
    *markdown.lines([*head, "verdict"], made),
    "",
    over_seeds.origin(rows),
  ]


def accuracy(results: pathlib.Path) -> list[str]:
  """Return the tables of accuracies of all data sets, one below the other."""
  names = ("table_mnist", "table_gtsrb", "table_cifar10")
  return _under_keys([_table_rows(results, name) for name in names])


def scenes(results: pathlib.Path) -> list[str]:
  """Return the tables of the segmenter and the detector of scenes."""
  names = ("segmentation", "detection")
  return _under_keys([_table_rows(results, name) for name in names])


def _under_keys(found: Sequence[Sequence[Row]]) -> list[str]:
  """Return what every lock of some tables does to the metric of its task."""
  found = [rows for rows in found if rows]
  if not found:
    return []
  head = ("data, model", "lock", "right key", "no key", "64 wrong keys")
  made = []
  for rows in found:
    where = f"{rows[0]['dataset']}, {rows[0]['model']}"
    for own in _by_scheme(rows):
      plain = own[0]["scheme"] == "plain"
      made.append(
        [where, "none" if plain else own[0]["title"], *_accuracies(own)]
      )
  return [*markdown.lines(head, made), "", *map(over_seeds.origin, found)]


def _table_rows(results: pathlib.Path, name: str) -> list[dict[str, Any]]:
  rows = headlines.read(results / f"{name}.json")
  return [r for r in rows if "seeds" in r]  # Others time steps.


def _by_scheme(rows: Sequence[Row]) -> list[list[Row]]:
  labels = dict.fromkeys(r["scheme"] for r in rows)
  return [[r for r in rows if r["scheme"] == x] for x in labels]


def _accuracies(own: Sequence[Row]) -> list[str]:
  by = {r["condition"]: r for r in own if results.judges(r)}
  first = by.get("plain") or by["right"]
  rest = [by.get("no_key"), by.get("wrong")]
  return [
    markdown.share(first),
    *(markdown.share(r) if r else "" for r in rest),
  ]


_BLOCKS: dict[str, Callable[[pathlib.Path], list[str]]] = {
  "accuracy": accuracy,
  "attacks": attacks,
  "batch_norm": batch_norm,
  "capability": capability.capability,
  "copies": copies.copies,
  "data": speed.data,
  "homomorphic": homomorphic.homomorphic,
  "in_range": in_range,
  "leaderboard": leaderboard.leaderboard,
  "judge": judge,
  "membership": membership.membership,
  "new_key": new_key,
  "parity": parity.parity,
  "peers": speed.peers,
  "poisoning": survey.poisoning,
  "trojans": survey.trojans,
  "pretrained": pretrained.pretrained,
  "properties": properties.properties,
  "recording": recording.recording,
  "robustness": robustness.robustness,
  "scenes": scenes,
  "speed": speed.speed,
  "survey": survey.survey,
  "approximation": survey.approximation,
}
