"""Collusion: licensees of the same weights compare their files.

Each licensee has the same model under another secret. What a lock does not
change of a weight shows in every file, and what it changes in one file only is
outvoted by the others: the attack on fingerprints, where the files carry
marks, works on locks that change few weights.

AdvParams changes tens of weights, in layers that the secret draws: wherever two
secrets did not choose the same weight, the vote is right. Keyed noise changes
the sign and mantissa of every chosen weight by a keystream, which no number of
files under other keys averages out. Ciphertext of a counter mode has nothing in
common with that of another key; for the published key schedule see
`schedule_difference`, which needs two files and no vote.

It has no meaning for schemes that a model trains under (HPNN, SHF, NP, FFX):
other keys mean other weights, not the same weights locked differently.

References:
  Boneh, Shaw, "Collusion-Secure Fingerprinting for Digital Data", IEEE Trans.
  Information Theory 44(5), 1998: the marking assumption, and majority attacks.
"""

from collections.abc import Callable, Iterator

import jax
import numpy as np

from keyjax import tree
from keyjax.attacks import registry
from keyjax.attacks.game import (
  Attacker,
  Budget,
  Claim,
  Cost,
  Goal,
  Model,
)
from keyjax.attacks.views import View
from keyjax.scheme import PyTree

FLOATS = ("adv_params", "keyed_noise")


@registry.register(
  "collude_weights",
  Goal.WEIGHTS,
  (*FLOATS, "deep_lock"),
  Attacker(knows_scheme=False, licensees=1),
)
def collude_weights(view: View, budget: Budget) -> Iterator[Claim]:
  """Take the majority of every weight, over more and more files: a curve."""
  for count in sizes(view):
    claim = together(view, count, vote)
    yield Claim(claim, Cost(steps=count), {"licensees": count})


@registry.register(
  "collude",
  Goal.FUNCTION,
  FLOATS,
  Attacker(knows_scheme=False, licensees=1),
  tuple({"how": how} for how in ("vote", "median", "mean")),
)
def collude(view: View, budget: Budget, how: str = "vote") -> Iterator[Claim]:
  """Run the combination of more and more files: a curve.

  Args:
    view: At least the file and another licensee's.
    budget: Unused: every file costs the same.
    how: Combination, `vote`, `median`, `mean` or `middle` (of the smallest and
      the largest value), weight by weight.
  """
  rule = _RULES[how]
  for count in sizes(view):
    params = view.floats(tree.as_floats(together(view, count, rule), view.like))
    claim = Model(params, view.apply_fn)
    yield Claim(claim, Cost(steps=count), {"licensees": count})


def sizes(view: View) -> list[int]:
  """Return 0, 1, 2, 4, ... up to the number of other licensees' files."""
  most = len(view.licensed)
  powers = [2**i for i in range(most.bit_length())]
  return sorted({0, *powers, most})


def together(
  view: View, count: int, rule: Callable[[np.ndarray], np.ndarray]
) -> PyTree:
  """Combine the stolen file with `count` others, leaf by leaf.

  Args:
    view: View with the files.
    count: Number of other files.
    rule: Function from the files' values of a leaf, [count + 1, ...], to one
      value, [...].
  """
  files = (view.locked, *view.licensed[:count])
  return jax.tree.map(lambda *x: rule(np.stack([*map(np.asarray, x)])), *files)


def vote(values: np.ndarray) -> np.ndarray:
  """Return the value that most files have, bit for bit.

  In a tie the smallest magnitude wins: a weight that a lock pushed is far from
  the others. NaN comes last.

  Args:
    values: [files, ...], floats or ciphertext.

  Example:
    >>> vote(np.float32([[1, 9, 5], [1, 2, 3], [8, 2, 4]])).tolist()
    [1.0, 2.0, 3.0]
  """
  size = np.abs(values.astype(np.float64))
  order = np.argsort(size, axis=0, kind="stable")
  values = np.take_along_axis(values, order, 0)
  words = values.view(f"u{values.dtype.itemsize}")
  counts = np.stack([(words == w).sum(0) for w in words])
  best = counts.argmax(0)[None]  # The first in a tie.
  return np.take_along_axis(values, best, 0)[0]


def _median(values: np.ndarray) -> np.ndarray:
  middle = np.median(values.astype(np.float32), axis=0)
  return np.asarray(middle.astype(values.dtype))


def _mean(values: np.ndarray) -> np.ndarray:
  return np.asarray(values.astype(np.float32).mean(0).astype(values.dtype))


def _middle(values: np.ndarray) -> np.ndarray:
  wide = values.astype(np.float32)
  return np.asarray((wide.min(0) / 2 + wide.max(0) / 2).astype(values.dtype))


_RULES = {"vote": vote, "median": _median, "mean": _mean, "middle": _middle}
