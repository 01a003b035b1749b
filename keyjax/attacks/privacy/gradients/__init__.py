"""Gradient leakage: the examples of a batch, from the gradient of its loss.

    what is observed      `observed`: gradient functions, checks
    dense first layer     `dense`: a division gives the input exactly
    labels                `labels`: signs (iDLG), counts
    any network           `matching`, by `recipes`: DLG, iDLG, inverting
    judged by             `scores`: PSNR, SSIM, and a control

Who sees the gradient of a worker in distributed training sees a function of its
examples; these attacks look for examples with that gradient. They need the
weights at which it was computed, and the function: under a lock, its key too,
unless the examples are wanted only as the network saw them.

References:
  Zhu, Liu, Han, "Deep leakage from gradients", NeurIPS 2019 (DLG). Zhao,
  Mopuri, Bilen, "iDLG: improved deep leakage from gradients", arXiv:2001.02610.
  Geiping, Bauermeister, Droege, Moeller, "Inverting gradients - how easy is it
  to break privacy in federated learning?", NeurIPS 2020.
"""

from typing import TYPE_CHECKING

from keyjax import lazy

if TYPE_CHECKING:
  from keyjax.attacks.privacy.gradients import (
    dense,
    descent,
    labels,
    matching,
    observed,
    recipes,
    scores,
  )

__all__ = [
  "dense",
  "descent",
  "labels",
  "matching",
  "observed",
  "recipes",
  "scores",
]

__getattr__, __dir__ = lazy.attach(__name__, {})
