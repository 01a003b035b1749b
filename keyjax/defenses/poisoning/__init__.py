"""Defences against poisoned data, before, while and after a model trains.

    before      `neighbours`: labels that the nearest examples contradict
                `confident_learning`: labels that other folds' models contradict
    while       `online`: gates and rollback of a model that learns a stream
                `partitions`: a vote of models, with certificates
    after       `clean_validation`: is the error on suspect data that on trusted
                data? Fisher's exact test

Only `partitions` proves anything. `online` and whatever reads records can
accept those with a valid tag alone: that authenticates who wrote a record, and
not that it is true. Modules are imported when they are first used.
"""

from typing import TYPE_CHECKING

from keyjax import lazy

if TYPE_CHECKING:
  from keyjax.defenses.poisoning import (
    clean_validation,
    confident_learning,
    neighbours,
    online,
    partitions,
  )

__all__ = [
  "clean_validation",
  "confident_learning",
  "neighbours",
  "online",
  "partitions",
]

__getattr__, __dir__ = lazy.attach(__name__, {})
