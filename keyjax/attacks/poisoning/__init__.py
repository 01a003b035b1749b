"""Poisoning: what an attacker who writes training data does to a model.

    wrong labels            `label_flips`: at random, or of a pair of classes
    one point against an SVM `svm`: gradient ascent (Biggio et al. 2012)
    training that stalls    `contradictions`: inputs with two labels
    a stream                `stream`: bursts of wrong labels
    too little of a class   `bias`: and the recall of each class
    right labels            `collision`, `gradient_matching`
    triggers                `trojans`: an input that a trained model obeys

The attacker changes examples before training; what is trained is up to the
owner, by any program. A lock or a key changes nothing here: the owner trains.
Defences are in `keyjax.defenses`. Modules are imported when they are first
used.
"""

from typing import TYPE_CHECKING

from keyjax import lazy

if TYPE_CHECKING:
  from keyjax.attacks.poisoning import (
    bias,
    collision,
    contradictions,
    gradient_matching,
    label_flips,
    stream,
    svm,
    trojans,
  )

__all__ = [
  "bias",
  "collision",
  "contradictions",
  "gradient_matching",
  "label_flips",
  "stream",
  "svm",
  "trojans",
]

__getattr__, __dir__ = lazy.attach(__name__, {})
