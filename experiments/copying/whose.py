"""Dataset inference of models whose origin is known: is it right about them?

    victim        the model itself
    same_data     trained on the victim's data again, from other seeds
    copy          trained on the victim's answers
    independent   trained on the other half of the data, and on no answer

Half of the victim's data, and half of the test images, fit the regressor; the
other halves judge. What independent models get are false alarms.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.copying import figures, plan
from experiments.copying.victims import Victims
from experiments.protection.job import Rows
from experiments.run import results
from keyjax.attacks import fit, intervals
from keyjax.attacks.copies import knockoff, ownership
from keyjax.attacks.game import Examples
from keyjax.attacks.privacy import shadows
from keyjax.scheme import PyTree

LEVEL = 0.05  # A p-value below it is called a copy.
KINDS = {
  "victim": "the victim itself",
  "same_data": "trained again on the victim's data",
  "copy": "trained on the victim's answers",
  "independent": "independent: other data, no answer",
}
# What is measured of an example; the second needs the weights.
METHODS = {
  "blind_walk": "walks in random directions, classes alone",
  "margins": "distances to classes, with the weights",
}
_FURTHER = 1000  # Seeds of suspects are none of a victim's.


class _Halves(NamedTuple):
  """Images that fit a regressor, and those that judge by it."""

  fit: np.ndarray
  judge: np.ndarray


def measure(victims: Victims) -> Rows:
  """Return how many models of each kind are called copies, by each method.

  Args:
    victims: The victims, without a lock.
  """
  found: dict[tuple[str, str], list[ownership.Decision]] = {
    (method, kind): [] for method in METHODS for kind in KINDS
  }
  for number in range(victims.config.copies.victims):
    suspects = _suspects(victims, number)
    for method in METHODS:
      for kind, decision in _decisions(victims, number, method, suspects):
        found[method, kind].append(decision)
  examples = len(_halves(victims, 0)[0].judge)
  return [
    _row(victims, method, kind, own, examples)
    for (method, kind), own in found.items()
  ]


def _decisions(
  victims: Victims,
  number: int,
  method: str,
  suspects: Mapping[str, list[PyTree]],
) -> Iterator[tuple[str, ownership.Decision]]:
  """Yield what a method says of each suspect, with the suspect's kind."""
  private, other = _halves(victims, number)
  distances = _distances(victims, method)
  victim = victims.params(number)
  regressor = ownership.fit(
    distances(victim, private.fit), distances(victim, other.fit)
  )
  for kind, own in suspects.items():
    for params in own:
      yield (
        kind,
        ownership.decide(
          regressor,
          distances(params, private.judge),
          distances(params, other.judge),
        ),
      )


def _halves(victims: Victims, number: int) -> tuple[_Halves, _Halves]:
  """Return the victim's data and data of nobody, in halves of equal size."""
  own = victims.pool.image[victims.halves(number)[0]]
  other = victims.test.image
  rng = np.random.default_rng([victims.seed(number), 3])
  size = min(len(own), len(other)) // 2
  if size < 2:
    raise ValueError(
      "dataset inference needs 4 or more test images; num_test gives "
      f"{len(other)}"
    )
  parts = []
  for images in (own, other):
    rows = rng.permutation(len(images))
    parts.append(_Halves(images[rows[:size]], images[rows[size : 2 * size]]))
  return parts[0], parts[1]


def _distances(
  victims: Victims, method: str
) -> Callable[[PyTree, np.ndarray], np.ndarray]:
  apply_fn = victims.job.model.apply
  if method == "margins":
    return lambda params, x: ownership.margins(apply_fn, params, x)
  return lambda params, x: ownership.blind_walk(apply_fn, params, x)


def _suspects(victims: Victims, number: int) -> dict[str, list[PyTree]]:
  """Return models by kind."""
  count = victims.config.copies.suspects
  halves = victims.halves(number)
  return {
    "victim": [victims.params(number)],
    "same_data": retrained(victims, number, halves[0], count),
    "copy": _copies(victims, number, count),
    "independent": retrained(victims, number, halves[1], count),
  }


def retrained(
  victims: Victims,
  number: int,
  members: np.ndarray,
  count: int,
  *,
  changes: Any = None,
  apply_fn: Any = None,
  init: Any = None,
) -> list[PyTree]:
  """Return plain models that are trained on some of the data.

  Args:
    victims: The victims.
    number: Number of the victim, for the seed, which is another.
    members: bool[n], the training data.
    count: Number of models.
    changes: Fields of `config.train` that differ.
    apply_fn: Forward pass, if it is another network.
    init: Function from a PRNG key to variables, if it is another network.
  """
  recipe, steps = plan.recipe(victims.config, int(members.sum()), changes)
  found = shadows.train(
    apply_fn or victims.job.model.apply,
    init or victims.init,
    victims.pool,
    np.repeat(members[None], count, 0),
    recipe,
    victims.seed(number) + _FURTHER,
    steps=steps,
    each=0,
    chunk=victims.config.copies.side_by_side,
  )
  return _unstacked(found.params, count)


def _copies(victims: Victims, number: int, count: int) -> list[PyTree]:
  """Return copies that asked with noise of the pixels of a few inputs."""
  (service,) = victims.services(number, plan.NONE, "right")
  images = victims.asked(number)["marginal"].image
  said = knockoff.read(victims.answers(service, images)).logits
  recipe: fit.Recipe = plan.recipe(victims.config, len(images))[0]
  found = knockoff.train(
    victims.job.model.apply,
    victims.init,
    Examples(images, said),
    np.ones((count, len(images)), bool),
    recipe,
    victims.seed(number) + _FURTHER,
    steps=victims.config.copies.steps,
    chunk=victims.config.copies.side_by_side,
  )
  return _unstacked(found, count)


def _unstacked(params: PyTree, count: int) -> list[PyTree]:
  return [jax.tree.map(lambda x, i=i: x[i], params) for i in range(count)]


def _row(
  victims: Victims,
  method: str,
  kind: str,
  found: list[ownership.Decision],
  examples: int,
) -> dict[str, Any]:
  """Return the share of models that are called copies, with its interval."""
  called = sum(x.p < LEVEL for x in found)
  low, high = intervals.clopper_pearson(called, len(found))
  return results.row(
    figures.base(victims, plan.NONE, "ownership", "plain"),
    metric="called_a_copy",
    value=called / len(found),
    low=low,
    high=high,
    interval="Clopper-Pearson over models",
    method=method,
    method_title=METHODS[method],
    kind=kind,
    kind_title=KINDS[kind],
    models=len(found),
    level=LEVEL,
    examples=examples,
    p=[x.p for x in found],
    effects=[x.effect for x in found],
  )
