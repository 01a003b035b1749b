"""The report's words: headline, conditions, provenance."""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.report.page import Html, definitions, element, section
from experiments.report.svg import THIN, percent
from experiments.report.view import (
  DASH,
  Scheme,
  best_guess,
  count,
  how_many,
  interval,
  metric_words,
  number,
  span,
  values,
  word,
)
from keyjax.attacks import verdict
from keyjax.defenses.private.accountant import in_words
from keyjax.schemes import registry

_CONDITIONS = {
  "plain": "The model before any lock, on all test images: what there is to "
  "lose.",
  "right key": "The locked file, stored, restored and used with its key: what "
  "the owner keeps. A model trained under its key may be worse than the plain "
  "one; that is a price of the lock.",
  "no key": "The locked file used as it is: what an attacker gets who copies "
  "the file and does nothing else.",
  "wrong keys": "The locked file with made-up keys, from other secrets; for "
  "AdvParams, with every position wrong. Look at the best: an attacker keeps "
  "the best.",
  "near keys": "Keys a few bits, swaps or positions off the right one. They "
  "cannot be made without it; they show whether a search would notice that it "
  "gets closer.",
  "api": "A server that holds the key answers every query as well as with the "
  "right key. Keys protect files, not functions: whoever may query can "
  "also learn from the answers.",
  "not finite": "The share of outputs that are NaN or infinite. The answer is "
  "then the argmax of NaN, the same class for every image: it looks like "
  "chance and proves nothing.",
}

_LIMITS = (
  "One trained model per scheme; intervals are over images or keys, not over "
  "training runs. The wrong keys are guesses, not attacks: an attacker who "
  "trains, or looks for unusual weights, may do better. The interval of the "
  "best key does not account for its choice among many. This page contains no "
  "key."
)


def heading(plain: Scheme, schemes: Sequence[Scheme]) -> str:
  """Return the page's headline."""
  dataset = _field(plain, schemes, "dataset") or "unnamed data"
  if not schemes:
    return f"A plain model on {dataset}"
  locks = how_many(len(schemes), "lock")
  return f"{locks[0].upper()}{locks[1:]} on {dataset}, measured"


def _field(plain: Scheme, schemes: Sequence[Scheme], name: str) -> str:
  return next((str(s.field(name)) for s in (plain, *schemes) if s.rows), "")


def head(plain: Scheme, schemes: Sequence[Scheme]) -> Html:
  """Return the headline, the summary and its four numbers."""
  config = _field(plain, schemes, "config")
  sentences = [
    *_verdict(schemes),
    _about_plain(plain, schemes),
    *_about_locks(schemes),
  ]
  tiles = [tile(*texts) for texts in _tiles(plain, schemes)]
  return element(
    "header",
    element("p", f"KeyJAX · {config}", class_="eyebrow"),
    element("h1", heading(plain, schemes)),
    element("p", " ".join(sentences), class_="lead"),
    element("div", *tiles, class_="tiles"),
  )


def over_seeds(
  rows: Sequence[Mapping[str, Any]], title: str, lead: str
) -> Html:
  """Return the headline of figures over seeds.

  Args:
    rows: Figures, with their number of seeds.
    title: What was measured.
    lead: What it shows.
  """
  seeds = dict.fromkeys(f"{r['seeds']} seeds" for r in rows)
  return element(
    "header",
    element("p", " · ".join(["KeyJAX", *seeds]), class_="eyebrow"),
    element("h1", title),
    element("p", lead, class_="lead"),
  )


def _about_plain(plain: Scheme, schemes: Sequence[Scheme]) -> str:
  estimate = plain.estimate("plain")
  around = interval(estimate)
  model = _field(plain, schemes, "model")
  size = plain.cost("parameters")
  unit = plain.field("unit_of_labels") or "images"
  return (
    f"The plain model ({model}, {count(size)} parameters) {_reaches(plain)} "
    f"{count(number(plain.row('plain').get('images')))} test {unit}"
    + (f" (95{THIN}% interval: {around})." if around else ".")
  )


def _reaches(plain: Scheme) -> str:
  value = percent(plain.estimate("plain").value)
  if plain.metric == "accuracy":
    return f"is right on {value} of"
  return f"has a {metric_words([plain])} of {value} on"


def _verdict(schemes: Sequence[Scheme]) -> list[str]:
  """Say first of which locks a break is known: accuracies do not show it."""
  known = {
    s.title: verdict.known(str(s.field("mechanism")), s.field("options") or {})
    for s in schemes
    if s.field("mechanism")
  }
  locks = {k: v for k, v in known.items() if v.security_class != registry.NONE}
  if not locks:
    return []
  holds = [title for title, stated in locks.items() if not stated.broken]
  broken = len(locks) - len(holds)
  if not holds:
    subject = "The lock" if broken == 1 else f"Each of the {word(broken)} locks"
    return [f"{subject} has a known break."]
  named = f"{how_many(len(holds), 'lock')} ({'; '.join(holds)})"
  if not broken:
    return [f"No break is known of {named}."]
  has = "has" if broken == 1 else "have"
  return [
    f"No break is known of {named}; the other {word(broken)} {has} a known "
    "break."
  ]


def _about_locks(schemes: Sequence[Scheme]) -> list[str]:
  if not schemes:
    return ["Nothing was locked, so there is nothing to report about locks."]
  no_key = values(schemes, "no_key")
  best = best_guess(schemes)
  metric = metric_words(schemes)
  first = f"With the right key, {metric} is {span(values(schemes, 'right'))}"
  if no_key:
    first += f"; without a key {span(no_key)}"
  if best:
    first += f"; the best wrong key reaches {percent(best[0])}"
    first += f" ({best[1].title})" if len(schemes) > 1 else ""
  return [first + ".", _caveat(schemes)]


def _caveat(schemes: Sequence[Scheme]) -> str:
  """Return what not to conclude, and whether decryption is exact."""
  broken = [s.title for s in schemes if s.cost("round_trip") != 1]
  exact = "every file decrypted to the original, bit for bit"
  if broken:
    exact = f"not shown to decrypt bit for bit: {'; '.join(broken)}"
  not_finite = sum(not s.finite for s in schemes)
  if not not_finite:
    return f"{exact[0].upper()}{exact[1:]}."
  subject = f"{word(not_finite)} of {how_many(len(schemes), 'lock')}"
  return (
    f"{subject[0].upper()}{subject[1:]} answered mostly NaN "
    f"without the right key, which proves nothing and is in no range here; "
    f"{exact}."
  )


def _tiles(
  plain: Scheme, schemes: Sequence[Scheme]
) -> list[tuple[str, str, str]]:
  estimate = plain.estimate("plain")
  around = f"95{THIN}%: {interval(estimate) or DASH}"
  tiles = [("plain model", percent(estimate.value), around)]
  if not schemes:
    return tiles
  right = values(schemes, "right")
  no_key = values(schemes, "no_key")
  best = best_guess(schemes)
  finite = how_many(len(no_key), "lock")
  if len(no_key) < len(schemes):
    finite = f"{len(no_key)} of {len(schemes)} locks; the others return NaN"
  guess = (percent(best[0]), best[1].title) if best else (DASH, "all NaN")
  return [
    *tiles,
    ("right key", span(right), how_many(len(right), "lock")),
    ("no key", span(no_key), finite),
    ("best wrong key", *guess),
  ]


def tile(name: str, value: str, note: str) -> Html:
  """Return a number of the page's head, between its name and a note."""
  return element(
    "div",
    element("span", name),
    element("b", value),
    element("span", note),
    class_="tile",
  )


def conditions(schemes: Sequence[Scheme]) -> Html | None:
  """Return definitions of the conditions."""
  if not schemes:
    return None
  return section("What the conditions mean", definitions(_CONDITIONS.items()))


def provenance(
  rows: Sequence[Mapping[str, Any]], limits: str = _LIMITS
) -> Html:
  """Return where the numbers come from, and their limits."""
  names = {"jax": "JAX", "source": "data"}
  shown = []
  for field in ("command", "commit", "hardware", "jax", "date", "source"):
    found = [str(r[field]) for r in rows if r.get(field)]
    if field == "date":
      found = [_date(x) for x in found]
    if found:
      text: str = " · ".join(dict.fromkeys(found))
      code = field in ("command", "commit")
      name = names.get(field, field)
      shown.append((name, element("code", text) if code else text))
  private = [in_words(r["privacy"]) for r in rows if "privacy" in r]
  if private:
    shown.append(("privacy", " · ".join(dict.fromkeys(private))))
  return section(
    "Where this comes from, and its limits", limits, definitions(shown)
  )


def _date(text: str) -> str:
  try:
    when = datetime.datetime.fromisoformat(text)
  except ValueError:
    return text
  return when.strftime(f"{when.day} %B %Y, %H:%M %Z").rstrip()
