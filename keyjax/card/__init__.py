r"""Security cards: signed measurements of one locked model.

A card is one JSON document. It states the scheme and its security class, the
keys (by their public names), the accuracy with and without them, what each
attack achieved at what cost, what such models tell of their training data,
where and when this was measured, the digest of the model's bytes, and the
checklist of Carlini et al. (arXiv 1902.06705).

    rows = read_rows("rows.jsonl") + read_rows("results.json")
    card = make(rows, "deep_lock", model="deep_lock/locked")
    card = sign(card, SigningKey.generate())
    pathlib.Path("card.json").write_bytes(format_card(card))

**Guarantees.** A card that verifies under the signer's public key has not
changed since it was signed. The same rows give the same bytes. Every score has
an interval, a privacy figure has all that it assumes, no number is NaN, the
security class is the one that the scheme's own file declares, and anything that
looks like a private key is refused.

**Known breaks.** A signature states who vouches for a card, not that it is
true: the signer can invent rows. The class of a scheme that is not registered
where the card is read is the card's own statement: `unknown_mechanisms` names
such schemes. Attacks that were not tried are not on it. An unsigned card, or
one that is checked without a key, proves nothing.

References:
  M. Mitchell et al., "Model Cards for Model Reporting", 2019.
  N. Carlini et al., "On Evaluating Adversarial Robustness", 2019.
"""

from keyjax.card.collect import make
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
  unknown_mechanisms,
  verify,
)
from keyjax.card.errors import CardError
from keyjax.card.rows import read_rows

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
  "unknown_mechanisms",
  "verify",
]
