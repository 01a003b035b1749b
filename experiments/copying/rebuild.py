"""A model from three of its four parts: network, recipe, data, weights.

The survey says that three of them give the fourth. Here each part is missing in
turn, and is replaced by a guess: weights by training again, data by other data,
the network and the recipe by those of the config.
"""

import functools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments import data, models
from experiments.copying import figures, plan
from experiments.copying.victims import Victims
from experiments.copying.whose import retrained
from experiments.protection.job import Rows
from keyjax.attacks.copies import likeness
from keyjax.attacks.privacy import stacked
from keyjax.scheme import ApplyFn, PyTree


class _Built(NamedTuple):
  """A model that was built again."""

  params: PyTree
  apply_fn: ApplyFn
  same_network: bool


def measure(victims: Victims, scheme: str) -> Rows:
  """Return how alike the models are that were built again.

  Against locked models, an attacker has data, network and recipe, and no key:
  they train without a lock.

  Args:
    victims: The victims.
    scheme: Label of the protection.
  """
  found: dict[tuple[str, str], list[_Built]] = {}
  built = _locked
  if scheme == plan.NONE:
    guesses = victims.config.copies.networks.items()
    networks = {title: _Network(victims, x) for title, x in guesses}
    built = functools.partial(_plain, networks=networks)
  for number in range(victims.config.copies.victims):
    for missing, guess, model in built(victims, number):
      found.setdefault((missing, guess), []).append(model)
  return [
    row
    for (missing, guess), own in found.items()
    for row in _rows(victims, scheme, missing, guess, own)
  ]


def _locked(victims: Victims, number: int) -> Iterator[tuple[str, str, _Built]]:
  own = victims.halves(number)[0]
  (again,) = retrained(victims, number, own, 1)
  apply_fn = victims.job.model.apply
  yield (
    "weights and key",
    "another seed, no lock",
    _Built(again, apply_fn, False),
  )


def _plain(
  victims: Victims, number: int, networks: Mapping[str, "_Network"]
) -> Iterator[tuple[str, str, _Built]]:
  """Yield what is missing, what stands for it, and the model."""
  apply_fn = victims.job.model.apply
  own, theirs = victims.halves(number)
  same = victims.train_again(number)
  yield "weights", "trained again, the same seed", _Built(same, apply_fn, True)
  again = functools.partial(retrained, victims, number, count=1)
  (other,) = again(own)
  yield "weights", "trained again, another seed", _Built(other, apply_fn, True)
  (swapped,) = again(theirs)
  name = "weights, data"
  yield name, "as many other examples", _Built(swapped, apply_fn, True)
  few = np.zeros_like(theirs)
  few[np.flatnonzero(theirs)[: victims.config.copies.inputs]] = True
  (scarce,) = again(few)
  count = f"{int(few.sum())} other examples"
  yield name, count, _Built(scarce, apply_fn, True)
  for title, changes in victims.config.copies.recipes.items():
    (made,) = again(own, changes=changes)
    yield "weights, recipe", title, _Built(made, apply_fn, True)
  for title, network in networks.items():
    (made,) = again(own, apply_fn=network.apply_fn, init=network.init)
    yield "weights, network", title, _Built(made, network.apply_fn, False)


class _Network:
  """A network that an attacker guesses."""

  def __init__(self, victims: Victims, changes: Mapping[str, Any]) -> None:
    model = guessed(victims.config, victims.job.dataset, changes)
    example = jnp.asarray(victims.pool.image[:1])
    self.apply_fn: ApplyFn = model.apply
    self.init = lambda rng: model.init(rng, example)


def guessed(
  config: ConfigDict, dataset: data.Dataset, changes: Mapping[str, Any]
) -> nn.Module:
  """Return the network of a guess.

  Args:
    config: The config.
    dataset: Data of the victims.
    changes: Arguments of the model that differ; or `model`, the name of
      another one, with its own.

  Raises:
    ValueError: If there is no such model, or it has no such arguments.
  """
  fields = dict(changes)
  name = fields.pop("model", "")
  if not name:
    fields = dict(config.model_args) | fields
  made = ConfigDict(
    {"model": name or config.model, "train": config.train.to_dict()}
  )
  made.model_args = ConfigDict(fields, convert_dict=False)
  return models.from_config(made, dataset)


def _rows(
  victims: Victims, scheme: str, missing: str, guess: str, own: list[_Built]
) -> Iterator[dict[str, Any]]:
  test = victims.test
  truth = [
    victims.answers(victims.services(i, scheme, "right")[0], test.image)
    for i in range(len(own))
  ]
  said = [
    stacked.answers(
      x.apply_fn, jax.tree.map(lambda leaf: leaf[None], x.params), test.image
    )[0]
    for x in own
  ]
  condition = "plain" if scheme == plan.NONE else "no_key"
  fields = figures.base(victims, scheme, "rebuild", condition) | {
    "missing": missing,
    "guess": guess,
    "victim_accuracy": figures.mean_accuracy(truth, test),
  }
  if own[0].same_network:
    apart = [
      likeness.difference(victims.params(i), x.params)
      for i, x in enumerate(own)
    ]
    fields |= {
      "identical": sum(x.identical for x in apart),
      "largest_difference": max(x.largest for x in apart),
      "cosines": [x.cosine for x in apart],
    }
  fields["parameters"] = sum(x.size for x in jax.tree.leaves(own[0].params))
  pairs = zip(said, truth, strict=True)
  agreed = [float(likeness.agreement(a, b)) for a, b in pairs]
  right = [float(likeness.accuracy(a, test.label)) for a in said]
  for metric, values in (("agreement", agreed), ("accuracy", right)):
    yield figures.row(fields, metric, values, len(test.label))
