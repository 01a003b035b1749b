"""Conversion of rows of measurements to an unsigned card."""

import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from keyjax.card import checklist
from keyjax.card.digest import digest
from keyjax.card.document import KIND, VERSION, check
from keyjax.card.errors import CardError
from keyjax.card.evidence import Found
from keyjax.errors import KeyringError
from keyjax.keyring.encoding import check_name, dump
from keyjax.schemes.registry import parts, security_class

Row = Mapping[str, Any]
CONDITIONS = ("plain", "right", "api", "no_key", "wrong")
_PLAIN = "plain"
_ROBUST = "robust accuracy"
_UNDEFENDED = "none"
_RUN = ("command", "commit", "hardware", "date", "jax")
_DATA = ("dataset", "source", "classes", "model")
_INTERVAL = ("value", "low", "high", "interval")
_COUNTS = ("images", "keys", "nonfinite", "max", "max_high", "min")
_MAX_BYTES = 1 << 28
# From this share of NaN or infinite outputs an accuracy is an argmax of NaN.
MOSTLY_NONFINITE = 0.5


def read_rows(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
  """Read `results.json`, a list of rows, or `rows.jsonl`, one row per line.

  Raises:
    CardError: If it contains something else, or NaN.
    OSError: If it cannot be read.
  """
  path = pathlib.Path(path)
  if path.stat().st_size > _MAX_BYTES:
    raise CardError(f"{path} is too large for a file of rows")
  try:
    text = path.read_text("utf-8").strip()
    if text.startswith("["):
      rows = _load(text)
    else:
      rows = [_load(line) for line in text.splitlines()]
  except (ValueError, RecursionError):
    rows = None
  if not rows or not all(isinstance(row, dict) for row in rows):
    raise CardError(f"{path} holds no rows, or a number that is not JSON")
  return rows


def _load(text: str) -> Any:
  return json.loads(text, parse_constant=_refuse)


def _refuse(constant: str) -> NoReturn:
  raise ValueError(constant)


def make(
  rows: Sequence[Row],
  scheme: str | None = None,
  *,
  model: str | os.PathLike[str] | None = None,
  keys: Iterable[str] = (),
  answers: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
  """Return the card of one protection.

  The same rows in another order give the same card.

  Args:
    rows: Rows of `results.json` and `rows.jsonl`; those of other schemes are
      ignored.
    scheme: Label of the protection; optional if there is only one.
    model: Locked checkpoint or file that the card is about.
    keys: Public names of keys, `FINGERPRINT` or `VERSION=FINGERPRINT`.
    answers: The owner's answers to the checklist; see `checklist.fill`.

  Raises:
    CardError: If rows are missing or disagree, a score has no interval, or
      something looks like a private key.
    OSError: If the model cannot be read.
  """
  names = [_key(text) for text in sorted(set(keys))]
  try:
    card = _card(rows, scheme, model, names, answers or {})
  except CardError:
    raise
  except (AttributeError, LookupError, TypeError, ValueError):
    raise CardError(
      "the rows have fields of other types than KeyJAX writes"
    ) from None
  check(card)
  return card


def _card(
  rows: Sequence[Row],
  scheme: str | None,
  model: str | os.PathLike[str] | None,
  keys: Sequence[Mapping[str, str]],
  answers: Mapping[str, Any],
) -> dict[str, Any]:
  """Return a card whose form was not checked yet; see `make`."""
  label = _label(rows, scheme)
  of_scheme = _unique(
    r
    for r in rows
    if r.get("scheme") == label
    # A network trained with another defence is another model.
    and r.get("defense", _UNDEFENDED) == _UNDEFENDED
  )
  plain = [r for r in rows if r.get("scheme") == _PLAIN]
  accuracy_rows = [
    r
    for r in _unique([*plain, *of_scheme])
    if r.get("metric") == r.get("judged_by", "accuracy")
    and r.get("condition") in CONDITIONS
    and "attack" not in r
  ]
  accuracy_rows.sort(key=lambda r: CONDITIONS.index(r["condition"]))
  evasion_rows = [r for r in of_scheme if r.get("metric") == _ROBUST]
  evasion_rows = [r for r in evasion_rows if r.get("value") is not None]
  attack_rows = [
    r for r in of_scheme if "attack" in r and r.get("metric") != _ROBUST
  ]
  used = accuracy_rows + attack_rows + evasion_rows
  if not used:
    raise CardError(f"no row of {label!r:.80} has an accuracy or an attack")
  runs = _unique({k: r.get(k, "") for k in _RUN} for r in used)
  accuracy = [_accuracy(r, runs) for r in accuracy_rows]
  attacks = [
    _attack(r, runs) for r in attack_rows if r.get("value") is not None
  ]
  return {
    "keyjax": KIND,
    "version": VERSION,
    "scheme": _scheme(of_scheme, label),
    "data": _data(used),
    "keys": keys,
    "model": None if model is None else digest(model),
    "runs": runs,
    "accuracy": accuracy,
    "attacks": attacks,
    **_evasion(evasion_rows, runs),
    **_privacy(used),
    "not_played": [
      {"attack": r["attack"], "note": str(r.get("note", ""))}
      for r in attack_rows
      if r.get("value") is None
    ],
    "checklist": checklist.fill(Found(accuracy, attacks), answers),
  }


def _unique(rows: Iterable[Row]) -> list[Row]:
  """Return rows without repetition, in an order independent of the input."""
  try:
    return [json.loads(x) for x in sorted({dump(dict(r)) for r in rows})]
  except KeyringError as error:
    raise CardError(f"a row is not evidence: {error}") from None


def _label(rows: Sequence[Row], scheme: str | None) -> str:
  labels = sorted({str(r.get("scheme", "")) for r in rows} - {_PLAIN, ""})
  if scheme is None and len(labels) == 1:
    return labels[0]
  if scheme is None or scheme not in labels:
    raise CardError(
      f"a card is about one scheme; these rows have: {', '.join(labels):.300}"
    )
  return scheme


def _one(rows: Sequence[Row], field: str) -> Any:
  """Return the value of a field on which all rows must agree."""
  found = _unique({field: row[field]} for row in rows if field in row)
  if len(found) != 1:
    problem = "disagree on" if found else "do not have"
    raise CardError(f"the rows {problem} {field!r}: use rows of one release")
  return found[0][field]


def _scheme(rows: Sequence[Row], label: str) -> dict[str, Any]:
  name, options = _one(rows, "mechanism"), _one(rows, "options")
  return {
    "label": label,
    "title": _one(rows, "title"),
    **_key_space(rows),
    "parts": [
      {"mechanism": n, "options": o, "class": security_class(n, o)}
      for n, o in _parts(name, options)
    ],
  }


def _key_space(rows: Sequence[Row]) -> dict[str, float]:
  """Return the bits of the smallest key space that the rows counted, if any."""
  found = [r["value"] for r in rows if r.get("metric") == "key_bits"]
  found += [r["key_bits"] for r in rows if r.get("key_bits") is not None]
  return {"key_bits": min(found)} if found else {}


def _parts(name: str, options: Any) -> list[tuple[str, dict[str, Any]]]:
  try:
    return parts(name, options)
  except (TypeError, ValueError):
    raise CardError("the rows of a chain do not list its parts") from None


def _data(rows: Sequence[Row]) -> dict[str, Any]:
  data = {k: _one(rows, k) for k in _DATA}
  if any("judged_by" in r for r in rows):  # Rows of older runs do not say it.
    data["metric"] = _one(rows, "judged_by")
  return data


def _key(text: str) -> dict[str, str]:
  version, equals, fingerprint = text.rpartition("=")
  try:
    check_name(fingerprint, "the fingerprint of a key")
    if equals:
      check_name(version, "the version of a key")
  except KeyringError as error:
    raise CardError(str(error)) from None
  return {"fingerprint": fingerprint, "version": version}


def _require(row: Row, fields: Iterable[str], what: str) -> dict[str, Any]:
  missing = [k for k in fields if row.get(k) is None]
  if missing:
    raise CardError(f"{what} has no {missing[0]!r}: it is not evidence")
  return {k: row[k] for k in fields}


def _accuracy(row: Row, runs: Sequence[Row]) -> dict[str, Any]:
  what = f"the accuracy of {row['condition']!r:.80}"
  counts = {k: row[k] for k in _COUNTS if k in row}
  score = _require(row, ("condition", *_INTERVAL), what)
  return score | counts | _run(row, runs)


def _attack(row: Row, runs: Sequence[Row]) -> dict[str, Any]:
  what = f"the attack {row['attack']!r:.80}"
  names = ("attack", "attack_title", "game", "condition")
  effort = ("attacker", "budget", "cost", "curve", "setting", "details")
  attack = _require(row, (*names, *_INTERVAL, *effort), what)
  if row.get("right") is not None:
    attack["right"] = row["right"]
  attack["title"] = attack.pop("attack_title")
  attack["goal"] = row.get("metric")
  return attack | _run(row, runs)


def _evasion(rows: Sequence[Row], runs: Sequence[Row]) -> dict[str, Any]:
  """Return the accuracies on adversarial inputs, or no field without any."""
  names = ("attack", "attack_title", "norm", "epsilon", "condition", "images")
  found = []
  for row in rows:
    what = f"the attack {row['attack']!r:.80}"
    kept = _require(row, (*names, *_INTERVAL), what)
    kept["title"] = kept.pop("attack_title")
    kept["queries"] = row["cost"]["queries"]
    found.append(kept | _run(row, runs))
  return {"evasion": found} if found else {}


def _privacy(rows: Sequence[Row]) -> dict[str, Any]:
  """Return what training guarantees, or no field if it was not private."""
  private = [r for r in rows if "privacy" in r]
  if not private:
    return {}
  if len(private) < len(rows):
    raise CardError("rows of private and of other models are not of one model")
  return {"privacy": _one(rows, "privacy")}


def _run(row: Row, runs: Sequence[Row]) -> dict[str, int]:
  return {"run": runs.index({k: row.get(k, "") for k in _RUN})}
