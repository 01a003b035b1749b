"""Copies: what can be rebuilt of a model that only answers, or is half known.

    what to ask            `queries`: noise, mixtures, images of other data
    train on the answers   `knockoff`, many copies side by side
    how alike              `likeness`: agreement, accuracy, weights
    whose model is it      `ownership`: dataset inference

A key protects a file, not a function: behind an API with the right key, a
locked model answers as the plain one does. `any_scheme.extract` is the same
attack as a game, with real images; `substitute` crafts its queries, and
`any_scheme.cryptanalytic` reads the weights off the answers.
Modules are imported when they are first used.

References:
  Tribhuvanesh Orekondy, Bernt Schiele and Mario Fritz, "Knockoff Nets: Stealing
  Functionality of Black-Box Models", CVPR 2019.
"""

from typing import TYPE_CHECKING

from keyjax import lazy

if TYPE_CHECKING:
  from keyjax.attacks.copies import knockoff, likeness, ownership, queries

__all__ = ["knockoff", "likeness", "ownership", "queries"]

__getattr__, __dir__ = lazy.attach(__name__, {})
