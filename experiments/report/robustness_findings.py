"""Findings about robustness: audits, transfer, the checklist, studies."""

from collections.abc import Sequence

from experiments.evasion import checklist, tasks
from experiments.report import claims
from experiments.report.page import Html, element, flag, section
from experiments.report.robustness_tables import cell, table
from experiments.report.robustness_view import Row, estimate
from experiments.report.svg import percent
from experiments.report.view import DASH, count, interval

_CHECKS = {
  "zero_gradients": "gradients are zero",
  "single_step": "one step breaks more",
  "black_box": "queries break more",
  "unbounded": "some withstand any change",
  "noise": "random changes break more",
  "rescaled_loss": "another loss breaks more",
  "hidden_steps": "hidden steps",
}


def audits(rows: Sequence[Row]) -> Html | None:
  """Return models against checks of the audit."""
  found = [r for r in rows if r["metric"] == tasks.AUDIT]
  if not found:
    return None
  checks = list(dict.fromkeys(r["check"] for r in found))
  titles = {r["model_name"]: r["title"] for r in found}
  cells = {(r["model_name"], r["check"]): r for r in found}
  body = [
    (title, [_check(cells.get((name, c))) for c in checks])
    for name, title in titles.items()
  ]
  head = ["model", *(_CHECKS.get(c, c) for c in checks)]
  return section(
    "Are gradients masked?",
    "An attack that fails because its gradients are useless proves nothing. "
    f"Each check is on {count(found[0]['images'])} images, at epsilon "
    f"{found[0]['epsilon']:g}; it is suspicious if the 95 % interval of the "
    "share of images that speak for masking is above the tolerance.",
    table("audit", head, body, "words", 1000),
  )


def _check(row: Row | None) -> Html:
  if row is None:
    return element("td", DASH)
  note = element("small", row["note"])
  around = interval(estimate(row))
  shown = element("small", around) if around else None
  if row["value"]:
    return element("td", flag("masked"), shown, note)
  return element("td", "no sign", shown, note)


def transfer(rows: Sequence[Row]) -> Html | None:
  """Return the matrix of errors: from model to model, for each epsilon."""
  found = [r for r in rows if r["metric"] == tasks.TRANSFER]
  if not found:
    return None
  sizes = dict.fromkeys(r["epsilon"] for r in found)
  made: list[Html] = []
  for size in sizes:
    own = [r for r in found if r["epsilon"] == size]
    made += [element("h3", f"epsilon {size:g}"), _matrix(own)]
  return section(
    "Changes that transfer",
    "Share of images that the model of the column gets wrong when they were "
    "changed against the model of the row, without a change of the attack; "
    "below, the 95 % interval. Errors on unchanged images count. Rows that are "
    "no model are controls.",
    *made,
  )


def _matrix(rows: Sequence[Row]) -> Html:
  targets = {r["model_name"]: r["title"] for r in rows}
  sources = {r["source_name"]: r["source_title"] for r in rows}
  cells = {(r["source_name"], r["model_name"]): r for r in rows}
  body = [
    (title, [_error(cells.get((name, target))) for target in targets])
    for name, title in sources.items()
  ]
  return table("transfer", ["from", *targets.values()], body, "heat")


def _error(row: Row | None) -> Html:
  if row is None or row["value"] is None:
    return element("td", row["note"] if row else DASH, class_="none")
  found = estimate(row)
  return cell(
    percent(found.value),
    interval(found),
    style=f"--heat: {row['value']:.3f}",
  )


def answers(rows: Sequence[Row]) -> Html:
  """Return the checklist."""
  body = [
    (
      x.question,
      [
        element("td", flag("no") if x.answer == checklist.NO else x.answer),
        element("td", x.evidence),
      ],
    )
    for x in checklist.answers(rows)
  ]
  return section(
    "Checklist",
    "Of Carlini et al., “On evaluating adversarial robustness” (2019), "
    "answered from the rows. To break no more is to break at most 2 % of the "
    "images more, of those that both attacks have seen.",
    table("checklist", ("question", "answer", "evidence"), body, "words"),
  )


def studies(rows: Sequence[Row]) -> Html | None:
  """Return the studies of published claims, over their seeds."""
  groups = claims.by_study(rows)
  if not groups:
    return None
  made: list[Html] = []
  for members in groups.values():
    made += [
      element("h3", members[0]["study_title"]),
      element("p", members[0]["sentence"]),
      claims.figures(members),
    ]
  return section("Published claims, measured", claims.OVER_SEEDS, *made)
