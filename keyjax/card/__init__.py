r"""Security cards: what was measured of one locked model, signed.

A card is one JSON document: which scheme, of which class, under which keys (by
their public names), how accurate with and without them, what each attack got
and spent, where and when, the digest of the model's bytes, and the checklist
of Carlini et al. (arXiv 1902.06705).

    rows = read_rows("rows.jsonl") + read_rows("results.json")
    card = make(rows, "deep_lock", model="deep_lock/locked")
    card = sign(card, SigningKey.generate())
    pathlib.Path("card.json").write_bytes(format_card(card))

**Guarantees.** With the signer's verify key: not a byte was changed since. The
same rows give the same bytes. No score stands without an interval, no number is
NaN, the class is the library's own, and what looks like a private key is
refused.

**Known breaks.** A signature says who vouches, not that it is true: whoever
signs can make rows up. Attacks that nobody tried are not on it. An unsigned
card, or one that is checked without a key, proves nothing.

References:
  M. Mitchell et al., "Model Cards for Model Reporting", 2019.
  N. Carlini et al., "On Evaluating Adversarial Robustness", 2019.
"""

from keyjax.card.collect import make, read_rows
from keyjax.card.digest import digest
from keyjax.card.document import (
  Card,
  check,
  check_model,
  format_card,
  parse_card,
  read_card,
  schema,
  sign,
  verify,
)
from keyjax.card.errors import CardError

__all__ = [
  "Card",
  "CardError",
  "check",
  "check_model",
  "digest",
  "format_card",
  "make",
  "parse_card",
  "read_card",
  "read_rows",
  "schema",
  "sign",
  "verify",
]
