"""Conversion of rows of measurements to an unsigned card."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keyjax.card import checklist
from keyjax.card.digest import digest
from keyjax.card.document import KIND, VERSION, check
from keyjax.card.errors import CardError
from keyjax.card.evidence import Found
from keyjax.card.rows import Row, one, runs_of, unique
from keyjax.card.sections import accuracy, attacks, evasion, leaks
from keyjax.errors import KeyringError
from keyjax.keyring.encoding import check_name
from keyjax.schemes.registry import parts, security_class

_PLAIN = "plain"
# A network trained with another defence, or in another way, is another model.
_SAME_MODEL = {"defense": "none", "training": "none"}
_DATA = ("dataset", "source", "classes", "model")


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
    rows: Rows of the experiments' files; those of other schemes are ignored,
      but for what `leaks` compares with.
    scheme: Label of the protection; optional if there is only one.
    model: Locked checkpoint or file that the card is about.
    keys: Public names of keys, `FINGERPRINT` or `VERSION=FINGERPRINT`.
    answers: The owner's answers to the checklist; see `checklist.fill`.

  Raises:
    CardError: If rows are missing or disagree, a score has no interval, a
      privacy figure lacks something that it assumes, or something looks like a
      private key.
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
  rows = [
    r for r in rows if all(r.get(k, v) == v for k, v in _SAME_MODEL.items())
  ]
  of_leaks = leaks.select(rows, label)
  of_scheme = unique(r for r in rows if r.get("scheme") == label)
  own = [r for r in of_scheme if not leaks.is_row(r)]
  plain = [r for r in rows if r.get("scheme") == _PLAIN]
  of_accuracy = [r for r in unique([*plain, *own]) if accuracy.is_row(r)]
  # A row without a number says why.
  of_accuracy = [r for r in of_accuracy if not accuracy.no_number(r)]
  of_accuracy.sort(key=accuracy.order)
  of_inputs = [r for r in own if evasion.is_row(r)]
  of_inputs = [r for r in of_inputs if r.get("value") is not None]
  tried = [r for r in own if attacks.is_row(r) and not evasion.is_row(r)]
  used = [*of_accuracy, *tried, *of_inputs]
  used += [r for found in of_leaks.values() for r in found]
  if not used:
    raise CardError(f"no row of {label!r:.80} has an accuracy or an attack")
  runs = runs_of(used)
  found = Found(
    [accuracy.entry(r, runs) for r in of_accuracy],
    [attacks.entry(r, runs) for r in tried if r.get("value") is not None],
  )
  inputs = [evasion.entry(r, runs) for r in of_inputs]
  told = leaks.section(of_leaks, runs)
  if not (found.accuracy or found.attacks or inputs or told):
    raise CardError(
      f"nothing was measured of {label!r:.80}: no row has an accuracy, or an "
      "attack that was played"
    )
  return {
    "keyjax": KIND,
    "version": VERSION,
    "scheme": _scheme(of_scheme, label),
    "data": _data(used),
    "keys": keys,
    "model": None if model is None else digest(model),
    "runs": runs,
    "accuracy": found.accuracy,
    "attacks": found.attacks,
    **({"evasion": inputs} if inputs else {}),
    **told,
    **_privacy(used),
    "not_played": [
      attacks.not_played(r) for r in tried if r.get("value") is None
    ],
    "checklist": checklist.fill(found, answers),
  }


def _label(rows: Sequence[Row], scheme: str | None) -> str:
  labels = sorted({str(r.get("scheme", "")) for r in rows} - {_PLAIN, ""})
  if scheme is None and len(labels) == 1:
    return labels[0]
  if not labels:
    raise CardError("a card is about one scheme; no row names one")
  if scheme is None or scheme not in labels:
    raise CardError(
      f"a card is about one scheme; these rows have: {', '.join(labels):.300}"
    )
  return scheme


def _scheme(rows: Sequence[Row], label: str) -> dict[str, Any]:
  name, options = one(rows, "mechanism"), one(rows, "options")
  # The title of a recording is that of its network.
  titled = [
    {**r, "title": r["scheme_title"]} if "scheme_title" in r else r
    for r in rows
  ]
  return {
    "label": label,
    "title": one(titled, "title"),
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
  data = {k: one(rows, k) for k in _DATA}
  if any("judged_by" in r for r in rows):  # Rows of older runs do not say it.
    data["metric"] = one(rows, "judged_by")
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


def _privacy(rows: Sequence[Row]) -> dict[str, Any]:
  """Return what training guarantees, or no field if it was not private."""
  private = [r for r in rows if "privacy" in r]
  if not private:
    return {}
  if len(private) < len(rows):
    raise CardError("rows of private and of other models are not of one model")
  return {"privacy": one(rows, "privacy")}
