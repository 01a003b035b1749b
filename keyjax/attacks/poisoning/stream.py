"""A burst of wrong labels in the stream that a model goes on learning from.

Needs: writing records of the stream for some time, as users of Tay could.
"""

from typing import Any

import jax
import numpy as np

from keyjax import labelled
from keyjax.arguments import describe, whole_number
from keyjax.attacks.poisoning import label_flips
from keyjax.attacks.poisoning.label_flips import Flipped


def burst(
  labels: Any,
  classes: int,
  *,
  share: float,
  start: int,
  stop: int,
  together: bool = True,
  rng: jax.Array,
) -> Flipped:
  """Give a share of the records another label, between two steps.

  Attackers who act together teach one wrong class for each right one, the next
  one; labels at random cancel out.

  Args:
    labels: int[steps, batch].
    classes: Number of classes.
    share: Share of the records of these steps.
    start: First step.
    stop: Step after the last.
    together: Whether wrong labels are the next class, not one at random.
    rng: JAX PRNG key.

  Returns:
    Labels and which of them are wrong, [steps, batch].

  Raises:
    ValueError: If labels are of another form, or the steps are out of range.

  Example:
    >>> found = burst(np.zeros((4, 2), int), 3, share=1.0, start=1, stop=3,
    ...   rng=jax.random.key(0))
    >>> found.flipped.sum(1).tolist()
    [0, 2, 2, 0]
  """
  before = np.asarray(labels)
  if before.ndim != 2 or not before.size:
    raise ValueError(f"labels are {describe(before)}: pass int[steps, batch]")
  start = whole_number(start, "start", least=0)
  stop = whole_number(stop, "stop")
  if not start < stop <= len(before):
    raise ValueError(
      f"start={start}, stop={stop}: steps from 0 to {len(before)}, in order"
    )
  whole = labelled.labels(before.reshape(-1), classes).reshape(before.shape)
  part = whole[start:stop].reshape(-1)
  found = label_flips.at_random(part, share, classes, rng=rng)
  wrong = np.where(found.flipped, (part + 1) % classes, part)
  after = whole.copy()
  new = wrong if together else found.label
  after[start:stop] = new.reshape(stop - start, -1)
  return Flipped(after, after != whole)
