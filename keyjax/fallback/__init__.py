"""Stop and ask: a model that answers where it may, and else asks a person.

    asking            `ask`, with a rule: `unless(max_softmax, above=0.9)`
    confidences       `max_softmax`, `margin`, `negative_entropy`,
                      `negative_energy`; `best_over_deferral` of a model that
                      learned to defer, by `deferral_loss`
    thresholds        `conformal_threshold`, `certified_threshold`
    what they cost    `risk_coverage`, `aurc`, `coverage_at_risk`
    wrong keys        `wrong_key`

An authentication tag decides first, exactly: sealed weights (`keyjax.seal`,
`keyjax.checkpoint`) do not open with a wrong key, and nothing is left to run.
Where a tag is checked inside `jit`, `ask` takes the result as `authentic`.
Schemes without a tag run with any key. Of them only confidences are known, of
which everything here but the tag is a test, with an error of its own.

**Guarantees.**

- Logits that are not finite ask, whatever the rule; without a valid tag every
  input asks.
- The next input is answered wrongly with a probability of `risk` at most, over
  the draw of it and of the calibration inputs (`conformal_threshold`).
- With a probability of 1 - `delta` over the calibration inputs, the share of
  inputs that are answered wrongly is `risk` at most (`certified_threshold`).
- With the right key `wrong_key` returns a p-value of p or less with a
  probability of p at most.

The last three hold for any model and any confidence, if inputs are
exchangeable with those of the calibration.

**Known breaks.**

- Confidence is no protection against an attacker: adversarial and fooling
  inputs are answered, wrongly, with nearly full confidence
  (`keyjax.attacks.evasion`, `keyjax.attacks.fooling`).
- Other inputs than those of the calibration, such as noisier ones, break the
  guarantee, and nothing shows it.
- Hard inputs look like a wrong key to `wrong_key`: test it on inputs that were
  kept for that, not on those of users.
- A wrong key under which the model is as accurate and as sure, such as one bit
  of many flipped, looks like the right one.
- Whoever has the file runs it without the rule.
"""

from typing import TYPE_CHECKING

from keyjax import lazy

if TYPE_CHECKING:
  from keyjax.fallback.asking import Asked, ask, unless
  from keyjax.fallback.confidences import (
    margin,
    max_softmax,
    negative_energy,
    negative_entropy,
  )
  from keyjax.fallback.curves import (
    Curve,
    Operation,
    aurc,
    coverage_at_risk,
    risk_coverage,
  )
  from keyjax.fallback.deferral import best_over_deferral, deferral_loss
  from keyjax.fallback.key_test import wrong_key
  from keyjax.fallback.thresholds import (
    certified_threshold,
    conformal_threshold,
  )

__all__ = [
  "Asked",
  "Curve",
  "Operation",
  "ask",
  "aurc",
  "best_over_deferral",
  "certified_threshold",
  "conformal_threshold",
  "coverage_at_risk",
  "deferral_loss",
  "margin",
  "max_softmax",
  "negative_energy",
  "negative_entropy",
  "risk_coverage",
  "unless",
  "wrong_key",
]

__getattr__, __dir__ = lazy.attach(
  __name__,
  {
    "asking": ("Asked", "ask", "unless"),
    "confidences": (
      "margin",
      "max_softmax",
      "negative_energy",
      "negative_entropy",
    ),
    "curves": (
      "Curve",
      "Operation",
      "aurc",
      "coverage_at_risk",
      "risk_coverage",
    ),
    "deferral": ("best_over_deferral", "deferral_loss"),
    "key_test": ("wrong_key",),
    "thresholds": ("certified_threshold", "conformal_threshold"),
  },
)
