"""Blocks of README and docs that quote results files, between markers.

<!-- begin attacks: python -m experiments.readme -->
<!-- end attacks -->
"""

import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.run import files
from experiments.tables import headlines

Row = Mapping[str, Any]
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


def _lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
  whole = [head, ["---"] * len(head), *rows]
  return ["| " + " | ".join(cells) + " |" for cells in whole]


def attacks(results: pathlib.Path) -> list[str]:
  """Return the table of attacks over seeds."""
  rows = headlines.read(results / "attacks.json")
  if not rows:
    return []
  head = (
    "lock",
    "attack",
    "network, seeds",
    "what it gets, %: median (range)",
    "with the key, %",
    "config, commit",
  )
  hardware = dict.fromkeys(x for r in rows for x in r["hardware"])
  dates = sorted(x[:10] for r in rows for x in r["date"])
  return [
    *_lines(head, [_attack(r) for r in rows]),
    "",
    f"{'; '.join(hardware)}; {dates[0]} to {dates[-1]}.",
  ]


def _attack(row: Row) -> list[str]:
  right = _range(row["right"]) if "right" in row else ""
  made = f"`{row['config']}`, {', '.join(dict.fromkeys(row['commit']))}"
  where = f"{row['network']}; {len(row['seeds'])}"
  return [row["title"], row["attack_title"], where, _gets(row), right, made]


def _gets(row: Row) -> str:
  words = [_range(row)]
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


def _range(row: Row) -> str:
  """Return `95.9 (95.6 to 96.1)`, in percent."""
  value, low, high = (f"{100 * row[k]:.1f}" for k in ("value", "low", "high"))
  return value if low == high else f"{value} ({low} to {high})"


_BLOCKS: dict[str, Callable[[pathlib.Path], list[str]]] = {"attacks": attacks}
