"""Tables of docs/homomorphic.md, from figures of `experiments.homomorphic`."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.tables import headlines, markdown

Row = Mapping[str, Any]
METRICS = {
  "accuracy": "accuracy, plain",
  "accuracy_relu": "accuracy with ReLU, plain",
  "accuracy_encrypted": "accuracy on what was asked",
  "agreement": "same class as plain",
  "r2": "R^2, plain",
  "r2_encrypted": "R^2, encrypted",
  "max_error": "largest error",
  "largest_output": "largest plain output",
  "seconds": "seconds a question",
  "client_cpu_seconds": "client, CPU s a question",
  "encrypt_cpu_seconds": "client encrypts, CPU s",
  "server_cpu_seconds": "server, CPU s a question",
  "decrypt_cpu_seconds": "client decrypts, CPU s",
  "setup_cpu_seconds": "client's keys, CPU s",
  "question_bytes": "bytes of a question",
  "answer_bytes": "bytes of an answer",
  "public_bytes": "bytes of keys, once",
  "degree": "degree of the ring",
  "modulus_bits": "bits of the modulus",
}


def homomorphic(results: pathlib.Path) -> list[str]:
  """Return a table of everything that was asked under encryption.

  Args:
    results: Folder with `homomorphic.json`.
  """
  rows = headlines.read(results / "homomorphic.json")
  made: list[str] = []
  for title in titles(rows):
    own = find(rows, title)
    made += ["", heading(own[0]), ""]
    cells = [[in_words(row), cell(row)] for row in own]
    made += markdown.lines(("", "mean (range over seeds)"), cells)
  return [*made[1:], "", origin(rows)] if made else []


def heading(row: Row) -> str:
  """Return what was asked, and how often."""
  asked = row["queries"]
  count = f"{asked} questions" if asked > 1 else "1 question"
  return f"**{row['title']}**, {row['model']}; {count} a seed."


def cell(row: Mapping[str, Any]) -> str:
  """Return a value, and its range where it has one.

  Example:
    >>> cell({"value": 0.125, "low": 0.1, "high": 0.15, "metric": "r2"})
    '0.125 (0.1 to 0.15)'
  """
  numbers = [_number(row[k], row["metric"]) for k in ("value", "low", "high")]
  value, low, high = numbers
  return value if value == low == high else f"{value} ({low} to {high})"


def _number(value: float, metric: str) -> str:
  if metric.endswith("bytes"):
    return f"{value:,.0f}"
  return f"{value:.4g}" if metric in _EXACT else f"{value:.2g}"


_EXACT = (
  "accuracy",
  "accuracy_relu",
  "accuracy_encrypted",
  "agreement",
  "r2",
  "r2_encrypted",
  "degree",
  "modulus_bits",
)


def find(rows: Sequence[Mapping[str, Any]], title: str) -> list[Row]:
  """Return the figures of a title, in the order of `METRICS`."""
  own = {r["metric"]: r for r in rows if r["title"] == title}
  return [dict(own[m]) for m in METRICS if m in own]


def titles(rows: Sequence[Mapping[str, Any]]) -> list[str]:
  """Return what was measured, each once."""
  return list(dict.fromkeys(r["title"] for r in rows))


def origin(rows: Sequence[Mapping[str, Any]]) -> str:
  """Return where figures come from, in brackets."""
  row = rows[0]
  commits = dict.fromkeys(x for r in rows for x in r["commit"].split(", "))
  dates = dict.fromkeys(r["date"][:10] for r in rows)
  seeds = ", ".join(map(str, row["seeds"]))
  return (
    f"(`{row['command']}`; seeds {seeds}; commit {', '.join(commits)}; "
    f"{row['hardware']}; {', '.join(dates)}.)"
  )


def in_words(row: Mapping[str, Any]) -> str:
  """Return the name of a row's metric for people."""
  return METRICS.get(row["metric"], str(row["metric"]))
