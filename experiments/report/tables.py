"""Tables of the report."""

from collections.abc import Sequence

from experiments.report import worth
from experiments.report.page import Html, element, flag, section
from experiments.report.svg import THIN, percent
from experiments.report.view import (
  DASH,
  Scheme,
  count,
  interval,
  metric_words,
  nonfinite,
  number,
  points,
  proves_nothing,
  seconds,
  span,
)
from experiments.report.worth import Worth
from experiments.tables import code, leaderboard


def accuracies(plain: Scheme, schemes: Sequence[Scheme]) -> Html | None:
  """Return the table of accuracies: schemes in rows, conditions in columns."""
  if not schemes:
    return None
  keys = {s.row("wrong").get("keys") for s in schemes} - {None}
  wrong = f"{keys.pop()} wrong keys" if len(keys) == 1 else "wrong keys"
  metric = metric_words(schemes)
  head = (
    f"{metric}, %",
    "right key",
    "no key",
    f"{wrong}, mean",
    f"{wrong}, best",
    "api",
    "not finite",
  )
  base = plain.estimate("plain").value
  first = [accuracy(plain, "plain", None), *[cell(DASH)] * 5]
  rows = [_row(plain, first, "no lock")]
  for s in schemes:
    cells = [accuracy(s, c, base) for c in ("right", "no_key", "wrong", "api")]
    cells.insert(3, best(s))
    rows.append(_row(s, [*cells, _not_finite(s)]))
  return section("The numbers", _table(head, rows), _note(note()))


def note() -> str:
  """Return what the small figures of a table of accuracies are."""
  return (
    f"Below a value: its 95{THIN}% interval (over test examples for one key, "
    "over keys for a mean; for the best key the upper end), and its difference "
    "from the plain model. Struck out: mostly NaN, which proves nothing."
  )


def worths(schemes: Sequence[Scheme]) -> Html | None:
  """Return the table of classes, key spaces, breaks, verdicts and attacks."""
  return worth.table(worths_of(schemes)) if schemes else None


def verdicts(schemes: Sequence[Scheme]) -> dict[str, str]:
  """Return the same in words, for a terminal, by the title of each lock."""
  return {w.title: worth.in_words(w) for w in worths_of(schemes)}


def worths_of(schemes: Sequence[Scheme]) -> list[Worth]:
  """Return what is known of locks, against which this run played no attack."""
  measured = leaderboard.measured(code.ROOT / "results")
  found = [
    Worth(
      title=s.title,
      mechanism=str(s.field("mechanism")),
      options=s.field("options") or {},
      bits=s.cost("key_bits"),
    )
    for s in schemes
  ]
  names = (leaderboard.lock_name(w.mechanism, w.options) for w in found)
  return [
    w._replace(measured=measured.get(name, ""))
    for w, name in zip(found, names, strict=True)
  ]


def costs(schemes: Sequence[Scheme]) -> Html | None:
  """Return the table of costs: a row per scheme."""
  if not schemes:
    return None
  head = (
    "cost",
    "key, stored",
    "changed parameters",
    "file after zlib",
    "encrypt",
    "decrypt",
    "decrypts bit for bit",
  )
  note = (
    "Times are medians of five compiled calls on this machine. If a model was "
    "trained under its key, the lock changes no parameter of the file: the key "
    "is part of the function that the weights were trained for."
  )
  rows = [_row(s, _costs(s)) for s in schemes]
  return section("What it costs", _table(head, rows), _note(note))


def _note(text: str) -> Html:
  return element("p", text, class_="soft")


def _table(head: Sequence[str], rows: Sequence[Html]) -> Html:
  names = element("tr", *(element("th", h, scope="col") for h in head))
  table = element("table", element("thead", names), element("tbody", *rows))
  reach = {"role": "region", "tabindex": "0", "aria_label": head[0]}
  return element("div", table, class_="scroll", **reach)


def _row(scheme: Scheme, cells: Sequence[Html], note: str = "") -> Html:
  small = element("small", note) if note else None
  head = element("th", scheme.title, small, scope="row")
  return element("tr", head, *cells, class_=scheme.color)


def cell(
  value: str, *notes: str | None, bad: bool = False, alarm: str = ""
) -> Html:
  """Return a cell: a value above notes."""
  return element(
    "td",
    element("b", value),
    *(element("small", note) for note in notes if note),
    flag(alarm) if alarm else None,
    class_="bad" if bad else None,
  )


def accuracy(s: Scheme, condition: str, plain: float | None) -> Html:
  """Return the cell of a condition: value, interval, change from `plain`."""
  estimate = s.estimate(condition)
  shown = _hundredths(estimate.value)
  if not estimate.proves:
    return cell(shown, "mostly NaN", bad=True)
  drop = number(s.row(condition, "drop").get("value"))
  change = None if drop is None else -drop
  if drop is None and None not in (estimate.value, plain):
    change = 100 * ((estimate.value or 0) - (plain or 0))
  return cell(shown, interval(estimate), points(change))


def best(s: Scheme) -> Html:
  """Return the cell of the best wrong key."""
  row = s.row("wrong")
  shown = _hundredths(number(row.get("max")))
  if proves_nothing(row):
    return cell(shown, "mostly NaN", bad=True)
  high = number(row.get("max_high"))
  return cell(shown, None if high is None else f"up to {percent(high)}")


def _hundredths(share: float | None) -> str:
  return DASH if share is None else f"{100 * share:.2f}"


def _not_finite(s: Scheme) -> Html:
  no_key = nonfinite(s.row("no_key"))
  wrong = nonfinite(s.row("wrong"))
  weights = number(s.row("no_key").get("nonfinite_weights"))
  alarm = "" if s.finite else "argmax of NaN, proves nothing"
  differ = no_key != wrong
  return cell(
    span([no_key, wrong]),
    f"no key: {percent(no_key)}" if differ else None,
    f"wrong keys: {percent(wrong)}" if differ else None,
    f"and {count(weights)} weights" if weights else None,
    alarm=alarm,
  )


def _outside(s: Scheme) -> str | None:
  """Say how many changed weights are outside the range of their layer."""
  outside = s.cost("outside_range")
  if outside is None:
    return None
  text = f"{count(outside)} outside their layer's range"
  times = s.cost("times_range")
  return f"{text}, up to {times:.3g} times" if outside and times else text


def _repeated(s: Scheme) -> str | None:
  """Say how many blocks of the file occur more than once."""
  share = s.cost("repeated_blocks")
  return None if share is None else f"{percent(share)} of blocks repeated"


def _costs(s: Scheme) -> list[Html]:
  key = s.cost("key_bytes")
  same = s.cost("round_trip")
  changed = s.cost("changed_parameters")
  total = s.cost("parameters")
  note = None
  if changed == 0 and "curve" in s.figures:
    note = "trained under the key"
  elif changed is not None and total:
    note = f"of {count(total)} ({percent(changed / total, 2)})"
  exact = DASH if same is None else "yes" if same else "NO"
  return [
    cell(DASH if key is None else f"{count(key)}{THIN}B"),
    cell(count(changed), note, _outside(s)),
    cell(percent(s.cost("compressed_share")), _repeated(s)),
    cell(seconds(s.cost("encrypt_seconds"))),
    cell(seconds(s.cost("decrypt_seconds"))),
    cell(exact),
  ]
