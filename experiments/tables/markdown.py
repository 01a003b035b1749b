"""Rows over seeds as a Markdown table, with one line per scheme."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.run import results
from experiments.tables import steps
from keyjax.attacks import verdict

Row = Mapping[str, Any]
_HEAD = (
  "scheme",
  "right key, %",
  "no key, %",
  "wrong keys, %: mean; largest",
  "drop, points: no key; wrong keys",
  "class",
  "key space, bits",
  "changed parameters",
  "encrypt; decrypt, ms",
  "times plain: training step; forward pass; opened ahead",
  "not finite",
  "verdict",
  "papers report, %",
)


def page(rows: Sequence[Row], timed: Sequence[Row] = ()) -> str:
  """Return the table, an explanation, and where it comes from.

  Args:
    rows: Result of `experiments.tables.over_seeds.rows`.
    timed: Result of `experiments.tables.steps.read`.
  """
  first = rows[0]
  seeds = ", ".join(map(str, first["seeds"]))
  lines = [
    f"# {first['config']}: {first['dataset']}, {first['model']}, "
    f"train.seed {seeds}",
    "",
    *_metric_note(first),
    *table(rows, timed),
    "",
    *_notes(rows, timed),
  ]
  return "\n".join(lines) + "\n"


def _metric_note(row: Row) -> list[str]:
  metric = results.metric(row)
  if metric == "accuracy":
    return []
  return [f"Models are judged by {results.in_words(metric)}.", ""]


def table(rows: Sequence[Row], timed: Sequence[Row] = ()) -> list[str]:
  """Return the lines of the table; see `page`."""
  labels = dict.fromkeys(row["scheme"] for row in rows)
  shown = [_HEAD, ["---"] * len(_HEAD)]
  shown += [
    _cells([r for r in rows if r["scheme"] == x], steps.cell(timed, x))
    for x in labels
  ]
  return ["| " + " | ".join(cells) + " |" for cells in shown]


def _cells(rows: Sequence[Row], overhead: str) -> list[str]:
  by = {(r["metric"], r["condition"]): r for r in rows}
  metric = results.metric(rows[0])
  title = rows[0]["title"]
  papers = rows[0]["papers"] or "-"
  if (metric, "plain") in by:
    plain = share(by[metric, "plain"], interval=True)
    return [title, plain, *["-"] * (len(_HEAD) - 3), papers]
  no_key = by[metric, "no_key"]
  wrong = by.get((metric, "wrong"))
  # Without a key, none is wrong.
  found = [no_key, wrong] if wrong else [no_key]
  return [
    title,
    share(by[metric, "right"], interval=True),
    share(no_key, interval=True),
    _wrong(wrong) if wrong else "-",
    "; ".join(_drop(by, x) for x in found),
    verdict.known(rows[0]["mechanism"], rows[0]["options"]).security_class,
    key_space(rows),
    _changed(by),
    _times(by),
    overhead,
    _not_finite(found),
    verdict.in_words(rows[0]["mechanism"], rows[0]["options"]),
    papers,
  ]


def key_space(rows: Sequence[Row]) -> str:
  """Return the bits of a scheme's key space, over seeds; `-` if unknown."""
  return bits(
    [x for r in rows if r["metric"] == "key_bits" for x in r["values"]]
  )


def bits(found: Sequence[float]) -> str:
  """Return the sizes of key spaces as a range; `-` if unknown.

  Example:
    >>> bits([148.0, 157.58]), bits([])
    ('148 to 157.6', '-')
  """
  if not found:
    return "-"
  low = f"{min(found):.1f}".removesuffix(".0")
  high = f"{max(found):.1f}".removesuffix(".0")
  return low if low == high else f"{low} to {high}"


def _wrong(row: Row) -> str:
  return share(row, interval=True) + (
    "" if _is_nan(row) else f"; {100 * row['max']:.1f}"
  )


def share(row: Row, interval: bool = False) -> str:
  """Return `99.21 ± 0.05` in percent, with its interval if asked, or words."""
  if _is_nan(row):
    return "NaN on all"
  return _spread(row if interval else {**row, "low": None}, 100, 2)


def _drop(by: Mapping[tuple[str, str], Row], accuracy: Row) -> str:
  row = by["drop", accuracy["condition"]]
  return "-" if _is_nan(accuracy) else _spread(row, 1, 1)


def _is_nan(row: Row) -> bool:
  """Return whether no output is finite: then accuracy means nothing."""
  return row["nonfinite"] == row["seen"]


def _spread(row: Row, scale: float, digits: int) -> str:
  text = f"{scale * row['value']:.{digits}f}"
  if row["sd"] is None:
    return text
  text += f" ± {scale * row['sd']:.{digits}f}"
  if row["low"] is None:
    return text
  return f"{text} [{scale * row['low']:.1f}, {scale * row['high']:.1f}]"


def _times(by: Mapping[tuple[str, str], Row]) -> str:
  if not max(by["changed_parameters", ""]["values"]):
    return "-"  # A model that trains under its key has nothing to encrypt.
  times = (by[f"{x}crypt_seconds", ""]["value"] for x in ("en", "de"))
  return "; ".join(f"{1e3 * x:.2g}" for x in times)


def _number(row: Row) -> str:
  """Return a count, or the range of one that depends on the seed."""
  low = min(row["values"])
  high = max(row["values"])
  return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _changed(by: Mapping[tuple[str, str], Row]) -> str:
  whole = by["parameters", ""]["value"]
  changed = by["changed_parameters", ""]
  if min(changed["values"]) == whole:
    text = f"all {whole:,.0f}"
  else:
    text = f"{_number(changed)} of {whole:,.0f}"
  outside = by.get(("outside_range", ""))
  if not outside:
    return text
  text += f"; {_number(outside)} outside their layer's range"
  if not max(outside["values"]):
    return text
  most = max(by["times_range", ""]["values"])
  return f"{text}, up to {most:.3g} times its largest"


def _not_finite(found: Sequence[Row]) -> str:
  """Return which outputs are not finite: the argmax of NaN is class 0."""
  names = ("no key", "wrong keys")
  shown = [_outputs(x, row) for x, row in zip(names, found, strict=False)]
  weights = found[0].get("nonfinite_weights", [0])
  if max(weights):
    shown.append(f"weights: {min(weights):,} to {max(weights):,}")
  return "; ".join(x for x in shown if x) or "none"


def _outputs(name: str, row: Row) -> str:
  bad = row["nonfinite"]
  seen = row["seen"]
  if not bad:
    return ""
  share = "on all" if bad == seen else f"on {100 * bad / seen:.2g} %"
  return f"{name}: NaN {share}"


def _notes(rows: Sequence[Row], timed: Sequence[Row]) -> list[str]:
  first = rows[0]
  keys = max(r.get("keys", 0) for r in rows)
  several = len(first["seeds"]) > 1
  how = (
    "Mean ± standard deviation over seeds, and the 95 % interval of the mean "
    "(Student t over seeds)"
    if several
    else "One seed: no deviation and no interval"
  )
  return [
    f"{how}. The seed sets initial weights, order and augmentation; every run "
    "has its own keys. The first line is the unprotected model. Wrong "
    f"keys: {keys} per seed, the mean and the largest of all. NaN: logits that "
    "are NaN or infinite, whose argmax is no prediction, and weights that are, "
    "read without the key, as the range over seeds. Times are medians over "
    "seeds. Papers: in brackets the source of the figures, and the network if "
    "it is another one; a dash where no figure for this data set was found.",
    "",
    "Commands (folders without their parents):",
    "",
    *(f"    {x}" for x in dict.fromkeys(first["command"])),
    "",
    f"Commits {_set(rows, 'commit')}; JAX {_set(rows, 'jax')}; "
    f"{_set(rows, 'hardware')}; {min(_dates(rows))} to {max(_dates(rows))}.",
    *_timing_notes(timed),
  ]


def _timing_notes(timed: Sequence[Row]) -> list[str]:
  if not timed:
    return []
  made = dict.fromkeys(
    f"`{r['command']}`, commit {r['commit']}, {r['hardware']}, {r['date'][:16]}"
    for r in timed
  )
  return [
    "",
    "Steps and passes, of the same network: medians of the ratios to plain in "
    "each round, with quartiles. A forward pass of 128 images decrypts inside, "
    "or (ahead) takes weights that were decrypted once; int8 weights become "
    "floats in either. A lock that trains plain costs a training step nothing. "
    f"{'; '.join(made)}.",
  ]


def _set(rows: Sequence[Row], name: str) -> str:
  return ", ".join(dict.fromkeys(x for r in rows for x in r[name]))


def _dates(rows: Sequence[Row]) -> list[str]:
  return [x[:16] for r in rows for x in r["date"]]


def median(row: Row) -> str:
  """Return a row's median and range over seeds, in percent.

  Example:
    >>> median({"value": 0.959, "low": 0.956, "high": 0.961})
    '95.9 (95.6 to 96.1)'
  """
  value, low, high = (f"{100 * row[k]:.1f}" for k in ("value", "low", "high"))
  return value if low == high else f"{value} ({low} to {high})"


def lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
  """Return the lines of a table."""
  whole = [head, ["---"] * len(head), *rows]
  return ["| " + " | ".join(cells) + " |" for cells in whole]
