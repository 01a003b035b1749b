"""Rows by scheme, and numbers as text."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from experiments.report.charts import Estimate, Near
from experiments.report.style import NUM_COLORS
from experiments.report.svg import THIN, percent
from experiments.run import results
from keyjax.card.sections.accuracy import MOSTLY_NONFINITE

DASH = "–"
_MINUS = "\N{MINUS SIGN}"
_WORDS = "no one two three four five six seven eight nine ten".split()


class Scheme(NamedTuple):
  """Rows and figures of one protection.

  Attributes:
    label: Label in the config.
    color: Class of its colour.
    rows: Rows of the scheme.
    figures: Figures that `protect` made for charts; any may be absent.
  """

  label: str
  color: str
  rows: Sequence[Mapping[str, Any]]
  figures: Mapping[str, Any]

  @property
  def title(self) -> str:
    """Name for people."""
    return str(self.field("title") or self.label)

  def field(self, name: str) -> Any:
    """Return a field that all its rows share, such as the data set."""
    return self.rows[0].get(name, "") if self.rows else ""

  def row(self, condition: str, metric: str = "") -> Mapping[str, Any]:
    """Return the first such row, or an empty one.

    Args:
      condition: Condition of the row.
      metric: Its metric; by default the one that judges.
    """
    metric = metric or self.metric
    for row in self.rows:
      if row.get("condition") == condition and row.get("metric") == metric:
        return row
    return {}

  @property
  def metric(self) -> str:
    """Name of the metric that judges, such as accuracy."""
    return results.metric(self.rows[0]) if self.rows else "accuracy"

  def cost(self, metric: str) -> float | None:
    """Return a value that belongs to no condition."""
    return number(self.row("", metric).get("value"))

  def estimate(self, condition: str) -> Estimate:
    """Return the metric that judges, such as an accuracy."""
    row = self.row(condition)
    return Estimate(
      value=number(row.get("value")),
      low=number(row.get("low")),
      high=number(row.get("high")),
      proves=not proves_nothing(row),
    )

  @property
  def finite(self) -> bool:
    """Whether accuracies without the right key mean anything."""
    return all(self.estimate(c).proves for c in ("no_key", "wrong"))

  @property
  def near(self) -> list[Near]:
    """Accuracies of keys near the right one, nearest first."""
    rows = {r.get("distance"): r for r in self.rows if "distance" in r}
    found = [
      Near(
        p["distance"],
        # Figures of older runs have another name.
        numbers(p.get("values") or p.get("accuracies")),
        not proves_nothing(rows.get(p["distance"], {})),
      )
      for p in self.figures.get("near") or []
    ]
    return sorted(p for p in found if p.accuracies)


def group(
  rows: Sequence[Mapping[str, Any]], figures: Mapping[str, Mapping[str, Any]]
) -> tuple[Scheme, list[Scheme]]:
  """Return the plain model, and the schemes in the order of their rows."""
  labels = [x for x in dict.fromkeys(r["scheme"] for r in rows) if x != "plain"]

  def scheme(label: str, color: int) -> Scheme:
    own = [r for r in rows if r["scheme"] == label]
    return Scheme(label, f"s{color}", own, figures.get(label) or {})

  colors = [i % (NUM_COLORS - 1) + 1 for i in range(len(labels))]
  schemes = [scheme(x, i) for x, i in zip(labels, colors, strict=True)]
  return scheme("plain", 0), schemes


def number(value: Any) -> float | None:
  """Return a finite number, or None.

  Example:
    >>> [number(x) for x in (1, float("nan"), None, "2")]
    [1.0, None, None, None]
  """
  if isinstance(value, int | float) and math.isfinite(value):
    return float(value)
  return None


def numbers(values: Iterable[Any] | None) -> list[float]:
  """Return the finite numbers among values."""
  return [x for x in map(number, values or []) if x is not None]


def nonfinite(row: Mapping[str, Any]) -> float | None:
  """Return the share of outputs that are not finite."""
  bad = number(row.get("nonfinite"))
  seen = (number(row.get("images")) or 0) * (number(row.get("keys")) or 1)
  return None if bad is None or not seen else bad / seen


def proves_nothing(row: Mapping[str, Any]) -> bool:
  """Return whether an accuracy is mostly the argmax of NaN."""
  return (nonfinite(row) or 0) >= MOSTLY_NONFINITE


def chance(rows: Sequence[Mapping[str, Any]]) -> float | None:
  """Return what guessing gives, if rows have the number of classes."""
  if rows and rows[0].get("chance") is not None:
    return number(rows[0]["chance"]) or None
  classes = number(rows[0].get("classes")) if rows else None
  return 1 / classes if classes else None


def metric_words(schemes: Sequence[Scheme]) -> str:
  """Return the name of the metric that judges, for people."""
  return results.in_words(schemes[0].metric if schemes else "accuracy")


def values(schemes: Sequence[Scheme], condition: str) -> list[float]:
  """Return the accuracies that prove something."""
  found = [s.estimate(condition) for s in schemes]
  return [e.value for e in found if e.proves and e.value is not None]


def best_guess(schemes: Sequence[Scheme]) -> tuple[float, Scheme] | None:
  """Return the largest accuracy of any wrong key, and its scheme."""
  found = [
    (top, s)
    for s in schemes
    if s.estimate("wrong").proves
    and (top := number(s.row("wrong").get("max"))) is not None
  ]
  return max(found, key=lambda x: x[0]) if found else None


def count(value: float | None) -> str:
  """Return a whole number.

  Example:
    >>> count(22602)
    '22,602'
  """
  return DASH if value is None else f"{value:,.0f}"


def word(many: int) -> str:
  """Return a small number as a word."""
  return _WORDS[many] if many < len(_WORDS) else str(many)


def how_many(many: int, noun: str) -> str:
  """Return a number and a noun.

  Example:
    >>> [how_many(n, "lock") for n in (1, 9, 12)]
    ['one lock', 'nine locks', '12 locks']
  """
  return f"{word(many)} {noun}{'s' if many != 1 else ''}"


def points(value: float | None) -> str | None:
  """Return a change in points of accuracy.

  Example:
    >>> [points(x) for x in (1.25, -20.0, 0.0, None)]
    ['+1.2 points', '−20.0 points', '±0.0 points', None]
  """
  if value is None:
    return None
  shown = f"{abs(value):.1f}"
  sign = "±" if shown == "0.0" else "+" if value > 0 else _MINUS
  return f"{sign}{shown} points"


def span(shares: Sequence[float | None]) -> str:
  """Return the smallest and the largest share, in percent.

  Example:
    >>> span([0.5, 0.25, 0.3]).replace(THIN, " ")
    '25.0 to 50.0 %'
  """
  known = numbers(shares)
  if not known:
    return DASH
  low, high = percent(min(known)), percent(max(known))
  return high if low == high else f"{low.removesuffix(THIN + '%')} to {high}"


def interval(estimate: Estimate) -> str | None:
  """Return an estimate's interval, in percent, if it has one with a width."""
  if None in (estimate.low, estimate.high) or estimate.low == estimate.high:
    return None
  return span([estimate.low, estimate.high])


def seconds(value: float | None) -> str:
  """Return a time in a suitable unit.

  Example:
    >>> [seconds(x).replace(THIN, " ") for x in (2.0, 0.0123, 47e-6)]
    ['2 s', '12.3 ms', '47 µs']
  """
  if value is None:
    return DASH
  for size, unit in ((1, "s"), (1e-3, "ms")):
    if value >= size:
      return f"{value / size:.3g}{THIN}{unit}"
  return f"{value * 1e6:.3g}{THIN}µs"
