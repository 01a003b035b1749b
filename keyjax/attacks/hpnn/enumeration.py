"""Every HPNN key that a stolen model may have.

Where the schedule is known the unknowns are key bits, otherwise there is one
sign for each neuron.
"""

import itertools
from collections.abc import Iterator

import numpy as np

from keyjax.attacks.hpnn import sign_model
from keyjax.attacks.views import View
from keyjax.schemes.hpnn import HpnnKey


def all_signs(view: View) -> tuple[int, Iterator[HpnnKey]]:
  """Return the number of keys, and the keys one after the other."""
  problem = sign_model.pose(view)

  def key(signs: tuple[int, ...]) -> HpnnKey:
    values = np.ones(problem.size, np.float32)
    values[problem.free] = signs
    return sign_model.key_of(problem, values)

  signs = itertools.product((1, -1), repeat=len(problem.free))
  return 2 ** len(problem.free), map(key, signs)
