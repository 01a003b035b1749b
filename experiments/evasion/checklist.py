"""Checklist for evaluations of robustness, answered from the rows of one.

Reference:
  Nicholas Carlini, Anish Athalye, Nicolas Papernot, Wieland Brendel, Jonas
  Rauber, Dimitris Tsipras, Ian Goodfellow, Aleksander Madry and Alexey Kurakin,
  "On evaluating adversarial robustness", 2019, arXiv:1902.06705.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from experiments.evasion import measure, plan, tasks
from experiments.evasion.comparisons import (
  LACK_KEY,
  Comparison,
  Row,
  attacked,
  between_models,
  by_holder,
  by_setting,
  compare,
  gain,
  of_game,
  uses_gradient,
)

YES, NO, NOT_MEASURED = "yes", "no", "not measured"
_NO_CHANGE = 0.02  # Share of the images.
_LONGER = 1.5  # Ratio of passes of the same attack.
_Answered = tuple[str, str]
_UNKNOWN = NOT_MEASURED, "There are no such rows."


class Answer(NamedTuple):
  """An answer to one question.

  Attributes:
    question: Question of the checklist.
    answer: "yes", "no" or "not measured".
    evidence: Sentence that says what the answer rests on.
  """

  question: str
  answer: str
  evidence: str


def answers(rows: Sequence[Row]) -> list[Answer]:
  """Return the checklist, answered.

  An attack is no stronger than another if it breaks at most 2 % of the images
  more.

  Args:
    rows: Rows of `experiments.robustness`, with the worst cases.

  Example:
    >>> {x.answer for x in answers([])}
    {'not measured'}
  """
  return [Answer(q, *answer(rows)) for q, answer in _QUESTIONS.items()]


def _threat_model(rows: Sequence[Row]) -> _Answered:
  found = attacked(rows)
  if not found:
    return _UNKNOWN
  most: dict[str, float] = {}
  for r in found:
    most[r["norm"]] = max(most.get(r["norm"], 0.0), r["epsilon"])
  sizes = _names(f"{norm} up to {epsilon:g}" for norm, epsilon in most.items())
  holders = _names(plan.HOLDERS[r["condition"]] for r in found)
  return YES, f"Any wrong class; changes of {sizes}; computed {holders}."


def _clean(rows: Sequence[Row]) -> _Answered:
  found = [r for r in of_game(rows, "clean") if r["value"] is not None]
  if not found:
    return _UNKNOWN
  without = _missing(attacked(rows), found)
  if without:
    return NO, f"Not for {without}."
  values = [r["value"] for r in found]
  ends = dict.fromkeys(f"{100 * f(values):.1f}" for f in (min, max))
  return YES, (
    f"{' to '.join(ends)} % of {found[0]['images']} images, over "
    f"{_count(len(found), 'model')}."
  )


def _control(rows: Sequence[Row]) -> _Answered:
  return _no_stronger(
    compare(rows, lambda r, s: r["game"] == "noise" and by_holder(s))
  )


def _iterative(rows: Sequence[Row]) -> _Answered:
  def is_rival(r: Row, s: Row) -> bool:
    many = s["game"] != "fgsm" and uses_gradient(s)
    return many and r["game"] == "fgsm" and r["condition"] == s["condition"]

  return _no_stronger(compare(rows, is_rival))


def _converged(rows: Sequence[Row]) -> _Answered:
  def is_rival(r: Row, s: Row) -> bool:
    alike = all(r[field] == s[field] for field in ("game", "condition"))
    return alike and r["cost"]["queries"] > _LONGER * s["cost"]["queries"]

  return _no_stronger(compare(rows, is_rival))


def _gradient_free(rows: Sequence[Row]) -> _Answered:
  def is_rival(r: Row, s: Row) -> bool:
    return r["game"] != "noise" and not uses_gradient(r) and by_holder(s)

  return _no_stronger(compare(rows, is_rival))


def _transferred(rows: Sequence[Row]) -> _Answered:
  keys = compare(rows, lambda r, s: r["condition"] in LACK_KEY and by_holder(s))
  return _no_stronger(keys + between_models(rows))


def _no_stronger(found: Sequence[Comparison]) -> _Answered:
  """Return whether no attack is stronger than the best of its rivals."""
  if not found:
    return _UNKNOWN
  most, row = max(found, key=lambda x: x.gain)
  count = _count(len(found), "comparison")
  if most <= 0:
    return YES, f"More images were broken in 0 of {count}."
  return NO if most > _NO_CHANGE else YES, (
    f"Up to {100 * most:.1f} points more, in {count}: {row['attack_title']} "
    f"against {_where(row)}."
  )


def _unbounded(rows: Sequence[Row]) -> _Answered:
  return _audit(rows, "unbounded")


def _adaptive(rows: Sequence[Row]) -> _Answered:
  found = attacked(rows)
  if not found:
    return _UNKNOWN
  without = _missing(found, [r for r in found if by_holder(r)])
  if without:
    return NO, f"No gradient with the right key of {without}."
  answer, evidence = _audit(rows, "hidden_steps")
  if answer == NO:
    return NO, evidence
  return YES, (
    "Gradients with the right key, through random and discrete steps (EOT, "
    "BPDA). " + ("Not audited." if answer == NOT_MEASURED else evidence)
  )


def _audit(rows: Sequence[Row], check: str) -> _Answered:
  """Return whether no model failed a check of the audit."""
  found = [r for r in rows if r["metric"] == tasks.AUDIT]
  found = [r for r in found if r["check"] == check]
  if not found:
    return _UNKNOWN
  failed = [r for r in found if r["value"]]
  audits = _count(len(found), "audit")
  if failed:
    return NO, (
      f"Suspicious in {len(failed)} of {audits}, such as {failed[0]['title']}: "
      f"{failed[0]['note']}."
    )
  return YES, f"No sign of the contrary in {audits}."


def _norms(rows: Sequence[Row]) -> _Answered:
  norms = list(dict.fromkeys(r["norm"] for r in attacked(rows)))
  if not norms:
    return _UNKNOWN
  return YES if len(norms) > 1 else NO, f"Measured: {', '.join(norms)}."


def _curve(rows: Sequence[Row]) -> _Answered:
  found = attacked(rows)
  if not found:
    return _UNKNOWN
  sizes: dict[tuple[str, str, str], set[float]] = {}
  for r in found:
    line = (r["model_name"], r["attack"], r["norm"])
    sizes.setdefault(line, set()).add(r["epsilon"])
  models = {line[0] for line, epsilons in sizes.items() if len(epsilons) > 2}
  without = _missing(found, [r for r in found if r["model_name"] in models])
  if without:
    return NO, f"Fewer than three sizes of {without}."
  most = _count(max(map(len, sizes.values())), "size")
  return YES, f"{most} of the same attack, for each model.".capitalize()


def _intervals(rows: Sequence[Row]) -> _Answered:
  found = attacked(rows)
  if not found:
    return _UNKNOWN
  without = [r for r in found if None in (r["low"], r["high"])]
  if without:
    return NO, f"Not for {_names(map(_where, without))}."
  images = [r["images"] for r in found]
  return YES, (
    f"95 % over {min(images)} to {max(images)} images, for each of "
    f"{_count(len(found), 'figure')}; not over training runs."
  )


def _worst_case(rows: Sequence[Row]) -> _Answered:
  united = [r for r in of_game(rows, "worst") if r["members"] > 1]
  if not united:
    return _UNKNOWN
  groups = by_setting(attacked(rows))
  gains = [
    min(gain(row, r) for r in groups[where])
    for where, (row,) in by_setting(united).items()
    if where in groups
  ]
  most = max(r["members"] for r in united)
  return YES, (
    f"An image is broken if any of up to {most} attackers broke it: up to "
    f"{100 * max(gains, default=0.0):.1f} points more than the strongest alone."
  )


def _recorded(rows: Sequence[Row]) -> _Answered:
  if not rows:
    return _UNKNOWN
  commits = sorted({str(r["commit"] or "unknown") for r in rows})
  shown = f"Commit {', '.join(commits)}"
  if any(c == "unknown" or c.endswith("-dirty") for c in commits):
    return NO, f"{shown}: its code may not be what ran."
  return YES, f"{shown}; each row has its command, and the config its seeds."


def _finite(rows: Sequence[Row]) -> _Answered:
  found = [
    r
    for r in rows
    if r["metric"] == measure.ACCURACY and r["images"] and r["game"] != "worst"
  ]
  if not found:
    return _UNKNOWN
  some = [r for r in found if r["value"] is not None and r["nonfinite"]]
  figures = _count(len(found), "figure")
  if not some:
    none = sum(r["value"] is None for r in found)
    return YES, f"{none} of {figures} have no value for that reason."
  row = max(some, key=lambda r: r["nonfinite"] / r["images"])
  return NO, (
    f"{len(some)} of {figures} include logits that were not finite: "
    f"{row['attack_title']} against {_where(row)}, {row['nonfinite']} of "
    f"{row['images']} images."
  )


def _missing(rows: Iterable[Row], others: Iterable[Row]) -> str:
  """Return the titles of the models that only the first rows have."""
  titles = {r["model_name"]: r["title"] for r in rows}
  for r in others:
    titles.pop(r["model_name"], None)
  return ", ".join(titles.values())


def _names(names: Iterable[str]) -> str:
  return ", ".join(dict.fromkeys(names))


def _where(row: Row) -> str:
  return f"{row['title']} at epsilon {row['epsilon']:g}"


def _count(many: int, noun: str) -> str:
  return f"{many} {noun}{'s' if many > 1 else ''}"


_QUESTIONS: dict[str, Callable[[Sequence[Row]], _Answered]] = {
  "Is the threat model stated?": _threat_model,
  "Is accuracy without attack reported?": _clean,
  "Do random changes of the same size break no more?": _control,
  "Does a single step break no more than iterative attacks?": _iterative,
  "Do more steps or starts break no more?": _converged,
  "Does a change without bound break every image?": _unbounded,
  "Do attacks without gradients break no more?": _gradient_free,
  "Do changes from other keys and models break no more?": _transferred,
  "Is the attacker adaptive to the defence?": _adaptive,
  "Is there more than one norm?": _norms,
  "Is accuracy measured against epsilon?": _curve,
  "Do figures have confidence intervals?": _intervals,
  "Is the worst case taken for each image, not the mean?": _worst_case,
  "Are code, seeds and commit recorded?": _recorded,
  "Does no NaN count as robustness?": _finite,
}
