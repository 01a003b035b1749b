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
  number,
  span,
  values,
  word,
)

_CONDITIONS = {
  "plain": "The model before any lock, on all test images: what there is to "
  "lose.",
  "right key": "The locked file, stored, restored and used with its key: what "
  "the owner keeps. A model trained under its key may be worse than the plain "
  "one; that is a price of the lock.",
  "no key": "The locked file used as it is: what somebody gets who copies the "
  "file and does nothing else.",
  "wrong keys": "The locked file with made-up keys: of other secrets or, for "
  "AdvParams, with every position wrong. Look at the best, for a thief keeps "
  "the best.",
  "near keys": "Keys a few bits, swaps or positions off the right one. Nobody "
  "can make them without it; they show whether a search could feel its way.",
  "api": "A server that holds the key answers anybody, with the right key’s "
  "accuracy. Keys protect files, not functions: who may ask may also learn "
  "from the answers.",
  "not finite": "The share of outputs that hold NaN or infinity. The answer is "
  "then the argmax of NaN, the same class for every image: it looks like "
  "chance and proves nothing.",
}

_LIMITS = (
  "One trained model per scheme; intervals are over images or keys, not over "
  "training runs. The wrong keys are guesses, not attacks: a thief who trains, "
  "or who looks for odd weights, may do better. The best of many keys is "
  "chosen from them, which its interval does not know. This page holds no key."
)


def heading(plain: Scheme, schemes: Sequence[Scheme]) -> str:
  """Returns the page's headline."""
  dataset = _field(plain, schemes, "dataset") or "unnamed data"
  if not schemes:
    return f"A plain model on {dataset}"
  locks = how_many(len(schemes), "lock")
  return f"{locks[0].upper()}{locks[1:]} on {dataset}, measured"


def _field(plain: Scheme, schemes: Sequence[Scheme], name: str) -> str:
  return next((str(s.field(name)) for s in (plain, *schemes) if s.rows), "")


def head(plain: Scheme, schemes: Sequence[Scheme]) -> Html:
  """Returns the headline, the summary and its four numbers."""
  config = _field(plain, schemes, "config")
  sentences = [_about_plain(plain, schemes), *_about_locks(schemes)]
  tiles = [_tile(*texts) for texts in _tiles(plain, schemes)]
  return element(
    "header",
    element("p", f"KeyJAX · {config}", class_="eyebrow"),
    element("h1", heading(plain, schemes)),
    element("p", " ".join(sentences), class_="lead"),
    element("div", *tiles, class_="tiles"),
  )


def _about_plain(plain: Scheme, schemes: Sequence[Scheme]) -> str:
  estimate = plain.estimate("plain")
  around = interval(estimate)
  model = _field(plain, schemes, "model")
  size = plain.cost("parameters")
  return (
    f"The plain model ({model}, {count(size)} parameters) is right on "
    f"{percent(estimate.value)} of "
    f"{count(number(plain.row('plain').get('images')))} test images"
    + (f" (95{THIN}% interval: {around})." if around else ".")
  )


def _about_locks(schemes: Sequence[Scheme]) -> list[str]:
  if not schemes:
    return ["Nothing was locked, so nothing is said about locks."]
  bare, best = values(schemes, "no_key"), best_guess(schemes)
  first = f"With the right key, accuracy is {span(values(schemes, 'right'))}"
  if bare:
    first += f"; without a key {span(bare)}"
  if best:
    first += f"; the best wrong key reaches {percent(best[0])}"
    first += f" ({best[1].title})" if len(schemes) > 1 else ""
  return [first + ".", _caveat(schemes)]


def _caveat(schemes: Sequence[Scheme]) -> str:
  """Says what not to conclude, and whether decryption is exact."""
  broken = [s.title for s in schemes if s.cost("round_trip") != 1]
  exact = "every file decrypted to the original, bit for bit"
  if broken:
    exact = f"not shown to decrypt bit for bit: {'; '.join(broken)}"
  blind = sum(not s.finite for s in schemes)
  if not blind:
    return f"{exact[0].upper()}{exact[1:]}."
  them = f"{word(blind)} of {how_many(len(schemes), 'lock')}"
  return (
    f"{them[0].upper()}{them[1:]} answered mostly NaN "
    f"without the right key, which proves nothing and counts in no range here; "
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
  bare, best = values(schemes, "no_key"), best_guess(schemes)
  seen = how_many(len(bare), "lock")
  if len(bare) < len(schemes):
    seen = f"{len(bare)} of {len(schemes)} locks; the rest say NaN"
  kept = values(schemes, "right")
  guess = (percent(best[0]), best[1].title) if best else (DASH, "all say NaN")
  return [
    *tiles,
    ("right key", span(kept), how_many(len(kept), "lock")),
    ("no key", span(bare), seen),
    ("best wrong key", *guess),
  ]


def _tile(name: str, value: str, note: str) -> Html:
  name_, note_ = element("span", name), element("span", note)
  return element("div", name_, element("b", value), note_, class_="tile")


def conditions(schemes: Sequence[Scheme]) -> Html | None:
  """Says in plain words what was compared."""
  if not schemes:
    return None
  return section("What the conditions mean", definitions(_CONDITIONS.items()))


def provenance(
  rows: Sequence[Mapping[str, Any]], limits: str = _LIMITS
) -> Html:
  """Says where the numbers come from, and how far they go."""
  names = {"jax": "JAX", "source": "data"}
  shown = []
  for field in ("command", "commit", "hardware", "jax", "date", "source"):
    found = [str(r[field]) for r in rows if r.get(field)]
    if field == "date":
      found = [_date(x) for x in found]
    if found:
      said: str = " · ".join(dict.fromkeys(found))
      code = field in ("command", "commit")
      name = names.get(field, field)
      shown.append((name, element("code", said) if code else said))
  return section(
    "Where this comes from, and how far it goes", limits, definitions(shown)
  )


def _date(text: str) -> str:
  try:
    when = datetime.datetime.fromisoformat(text)
  except ValueError:
    return text
  return when.strftime(f"{when.day} %B %Y, %H:%M %Z").rstrip()
