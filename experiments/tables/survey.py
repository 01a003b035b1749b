"""Tables of published claims, from rows of `experiments.robustness`."""

import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from experiments.tables import headlines, markdown

METRIC = "study"  # Of rows of studies.
# Of one seed, or of one machine.
_NOT_UNITED = ("seed", "row", "seconds", "source")
_IMAGES = {"digits": "digits", "mnist": "MNIST"}
_APPROXIMATED = {"tilt": "simulated taps", "bits": "random blocks"}

Row = Mapping[str, Any]


def survey(results: pathlib.Path) -> list[str]:
  """Return each study's claim, and its figures on every set of images."""
  return _claims(results, _IMAGES)


def approximation(results: pathlib.Path) -> list[str]:
  """Return the claims about functions that networks approximate."""
  return _claims(results, _APPROXIMATED)


def xor(results: pathlib.Path) -> list[str]:
  """Return the claim about networks that compute an XOR, and its figures."""
  rows = headlines.read(results / "survey_xor.json")
  return _claimed(rows, {"bits": "random bits"})


def poisoning(results: pathlib.Path) -> list[str]:
  """Return each study of poisoned data without a trigger, and its figures."""
  return _claims(results, _IMAGES, "poisoning", lambda x: not _is_trojan(x))


def trojans(results: pathlib.Path) -> list[str]:
  """Return each study of triggers, and its figures."""
  return _claims(results, _IMAGES, "poisoning", _is_trojan)


def _is_trojan(study: str) -> bool:
  return study.startswith("trojan_")


def _claims(
  results: pathlib.Path,
  names: Mapping[str, str],
  source: str = "survey",
  shown: Callable[[str], bool] = lambda study: True,
) -> list[str]:
  rows = [
    row
    for name in names
    for row in headlines.read(results / f"{source}_{name}.json")
    if shown(row["study"])
  ]
  return _claimed(rows, names)


def _claimed(rows: Sequence[Row], names: Mapping[str, str]) -> list[str]:
  """Return the claims of some rows, with titles of their data sets."""
  studies = {row["study"]: row for row in rows}
  made: list[str] = []
  for study, first in sorted(studies.items(), key=lambda x: order(x[0])):
    made += [f"**{_stopped(first['study_title'])}** {first['sentence']}", ""]
    own = in_tables([r for r in rows if r["study"] == study])
    made += [*_table(own, names), ""]
  runs = {(r["command"], r["commit"]): r for r in reversed(rows)}
  return [*made, *map(_origin, runs.values())]


def _stopped(title: str) -> str:
  return title if title.endswith("?") else f"{title}."


def over_seeds(rows: Sequence[Row]) -> list[dict[str, Any]]:
  """Return each figure of the studies over its seeds: mean, least, greatest."""
  groups: dict[tuple[str, str], list[Row]] = {}
  for row in rows:
    if row["metric"] == METRIC:
      groups.setdefault((row["study"], row["title"]), []).append(row)
  return [_united(members) for members in groups.values()]


def in_tables(rows: Sequence[Row]) -> list[Row]:
  """Return the figures that tables have: those that are not only drawn."""
  return [r for r in rows if not r.get("drawn")]


def _united(members: Sequence[Row]) -> dict[str, Any]:
  values = [r["value"] for r in members]
  first = {k: v for k, v in members[0].items() if k not in _NOT_UNITED}
  return first | {
    "value": sum(values) / len(values),
    "low": min(values),
    "high": max(values),
    "interval": "least and greatest over seeds",
    "seeds": [r["seed"] for r in members],
    # Only shares have an interval over images.
    "unit": "%" if any(r["interval"] for r in members) else "",
  }


# The order of the survey's sections; other studies follow.
_SECTIONS = (
  "single_step",
  "iterative",
  "saliency",
  "least_change",
  "universal_change",
  "physical",
  "adversarial_training",
  "distillation",
  "saturation",
  "input_filters",
  "similar_queries",
  "smoothing",
  "fooling",
  "substitute",
  "techniques",
  "xor_transfer",
  "keyed_transfer",
  "keyed_evasion",
  "label_flips",
  "svm",
  "convergence",
  "stream",
  "bias",
  "clean_validation",
  "label_checks",
  "partitions",
  "clean_label",
)


def order(study: str) -> tuple[int, str]:
  """Return what sorts studies: the survey's sections, then the others."""
  known = study in _SECTIONS
  return (_SECTIONS.index(study) if known else len(_SECTIONS)), study


def _table(rows: Sequence[Row], titles: Mapping[str, str]) -> Iterator[str]:
  """Return figures by data set: means, with ranges over seeds."""
  by = {(r["title"], r["dataset"]): r for r in rows}
  names = dict.fromkeys(r["title"] for r in rows)
  sets = [name for name in titles if any(r["dataset"] == name for r in rows)]
  head = ["figure"]
  for name in sets:
    head += [titles[name], "elsewhere"]
  cells = []
  for name in names:
    line = [name]
    for dataset in sets:
      row = by.get((name, dataset))
      line += [_spread(row), row["target"]] if row else ["", ""]
    cells.append(line)
  yield from markdown.lines(head, cells)


def _spread(row: Row) -> str:
  """Return `41.2 % (41.0 to 41.5)`, or a number as it is."""
  spread = [row[k] for k in ("value", "low", "high")]
  if row["unit"]:
    value, low, high = (f"{100 * x:.1f}" for x in spread)
    value += " %"
  else:
    value, low, high = map(_number, spread)
  return value + ("" if low == high else f" ({low} to {high})")


def _number(value: float) -> str:
  """Return three digits, and five of a confidence near 1."""
  if 0.99 < value < 1:
    return f"{value:.5f}"
  return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def _origin(row: Row) -> str:
  return (
    f"- `{row['command']}`: {len(row['seeds'])} seeds; commit {row['commit']}; "
    f"{row['hardware']}; {row['date'][:10]}; means and ranges over seeds."
  )
