"""Membership inference: was an example among a model's training data?

    no model of one's own   `baselines` (gap, loss), `label_only` (robustness)
    shadow models           `shadows` trains them; `shokri`, `lira`, `rmia`
    judged by               `roc` (curves), `leakage` (figures with intervals)
    while it trains         `gradients`: examples from a worker's gradient

Every attack on membership returns `scores: float64[n]`, greater for a member;
NaN where the target's answer was NaN, which `roc` counts and never lets help.
They read answers of the target, so each runs under every condition that a key
creates.
Modules are imported when they are first used.

References:
  Reza Shokri et al., "Membership inference attacks against machine learning
  models", IEEE S&P 2017. Nicholas Carlini et al., "Membership inference attacks
  from first principles", IEEE S&P 2022: why accuracy alone misleads.
"""

from typing import TYPE_CHECKING

from keyjax import lazy

if TYPE_CHECKING:
  from keyjax.attacks.privacy import (
    baselines,
    gradients,
    label_only,
    leakage,
    lira,
    procedures,
    rmia,
    roc,
    shadows,
    shokri,
    signals,
    stacked,
  )

__all__ = [
  "baselines",
  "gradients",
  "label_only",
  "leakage",
  "lira",
  "procedures",
  "rmia",
  "roc",
  "shadows",
  "shokri",
  "signals",
  "stacked",
]

__getattr__, __dir__ = lazy.attach(__name__, {})
