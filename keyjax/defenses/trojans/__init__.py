"""Detectors of trojans, and a repair.

    spectral signatures     `spectral_scores`, `largest`: of training data
    activation clustering   `clusters`, `flagged`: of training data
    Neural Cleanse          `neural_cleanse`, `anomaly`: of a model
    STRIP                   `entropies`: of an input
    fine-pruning            `fine_prune`, `dormant_first`, `pruned`: a repair

Pure functions over activations, or over `logits_fn: float[n, ...] -> float[n,
classes]`. None of them proves anything: see their docstrings for what passes.
Activations are those of the layer before the logits (`keyjax.interpret`).

Names are imported when they are first used.
"""

from typing import TYPE_CHECKING

from keyjax import lazy

if TYPE_CHECKING:
  from keyjax.defenses.trojans.clustering import Clusters, clusters, flagged
  from keyjax.defenses.trojans.pruning import (
    Repaired,
    dormant_first,
    fine_prune,
    pruned,
  )
  from keyjax.defenses.trojans.reversal import (
    Reversed,
    anomaly,
    neural_cleanse,
  )
  from keyjax.defenses.trojans.spectral import largest, spectral_scores
  from keyjax.defenses.trojans.strip import entropies

__all__ = [
  "Clusters",
  "Repaired",
  "Reversed",
  "anomaly",
  "clusters",
  "dormant_first",
  "entropies",
  "fine_prune",
  "flagged",
  "largest",
  "neural_cleanse",
  "pruned",
  "spectral_scores",
]

__getattr__, __dir__ = lazy.attach(
  __name__,
  {
    "clustering": ("Clusters", "clusters", "flagged"),
    "pruning": ("Repaired", "dormant_first", "fine_prune", "pruned"),
    "reversal": ("Reversed", "anomaly", "neural_cleanse"),
    "spectral": ("largest", "spectral_scores"),
    "strip": ("entropies",),
  },
)
