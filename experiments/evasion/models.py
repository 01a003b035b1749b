"""Models to attack: as they are served, and as each attacker has them."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments.attacking.targets import Targets
from experiments.evasion import plan
from experiments.protection.job import Job
from experiments.training import filters
from keyjax.attacks import near_keys
from keyjax.attacks.evasion import (
  black_box,
  expected_logits,
  keyed_model,
  stacked,
  stolen_model,
)
from keyjax.attacks.evasion.problem import LogitsFn
from keyjax.attacks.game import Examples, Target
from keyjax.scheme import ApplyFn

_SERVED, _ATTACKED, _WRONG = range(3)  # Random numbers of one model.


class Judged(NamedTuple):
  """A model that is served, and what attackers have of it.

  Attributes:
    name: `SCHEME/DEFENSE`.
    title: Title in reports.
    fields: Fields of its rows.
    served: The model as it is served: with the right key and its filter.
    config: `config.train`.
    target: The locked model.
    keys: Number of random keys of holder "keys".
  """

  name: str
  title: str
  fields: dict[str, Any]
  served: LogitsFn
  config: ConfigDict
  target: Target
  keys: int

  @property
  def test(self) -> Examples:
    """Test images and labels."""
    return self.target.test

  @property
  def is_filtered(self) -> bool:
    """Whether inputs are filtered, so that an adaptive attacker differs."""
    return filters.has_filter(self.config)

  def has(self, holder: str) -> bool:
    """Return whether there is such an attacker: no key can be lacked."""
    is_locked = bool(jax.tree.leaves(self.target.key))
    return is_locked or holder in ("right", "api")

  def seen_by(self, holder: str) -> LogitsFn:
    """Return the model that an attacker differentiates or asks.

    Args:
      holder: Key of `plan.HOLDERS`, for which the model `has` one.
    """
    if holder == "api":
      return black_box(self.served)
    rng = jax.random.key(_ATTACKED)
    return filters.attacked(self.config, self._network(holder), rng)

  def _network(self, holder: str) -> LogitsFn:
    target = self.target
    model = keyed_model(target.scheme, _apply_fn(target), target.locked)
    guess = np.random.default_rng(_WRONG)
    if holder == "right":
      return model(target.key)
    if holder == "wrong":
      return model(near_keys.random_key(target.key, guess))
    if holder == "leaked":
      half = near_keys.max_distance(target.key) // 2
      return model(near_keys.near_key(target.key, half, guess))
    if holder == "keys":
      keys = [near_keys.random_key(target.key, guess) for _ in range(self.keys)]
      return expected_logits(model, stacked(keys))
    return stolen_model(_apply_fn(target), target.locked, target.params)


class Models:
  """The models of a config, trained when they are first asked for."""

  def __init__(self, config: ConfigDict, jobs: Mapping[str, Job]) -> None:
    """Prepare the data; nothing is trained yet.

    Args:
      config: Whole config.
      jobs: Job of each defence.
    """
    self._config = config
    self._jobs = jobs
    self._targets: dict[str, Targets] = {}
    self._last: Judged | None = None

  def get(self, name: str) -> Judged:
    """Return the model `SCHEME/DEFENSE`."""
    if self._last is None or self._last.name != name:
      scheme, label = name.split("/")
      if label not in self._targets:
        self._targets = {label: Targets(self._jobs[label])}
      self._last = _judged(
        self._config, self._jobs[label], self._targets[label], scheme, label
      )
    return self._last


def _judged(
  config: ConfigDict, job: Job, targets: Targets, scheme: str, label: str
) -> Judged:
  target = targets.get(scheme)
  model = keyed_model(target.scheme, _apply_fn(target), target.locked)
  spec = config.schemes[scheme]
  titles = [spec.title, _defense_title(config, label)]
  served = filters.deployed(
    job.config.train, model(target.key), jax.random.key(_SERVED)
  )
  return Judged(
    name=f"{scheme}/{label}",
    title=", ".join(t for t in titles if t),
    fields={
      "scheme": scheme,
      "mechanism": spec.scheme,
      "options": dict(spec.args),
      "defense": label,
    },
    served=served,
    config=job.config.train,
    target=target,
    keys=config.robustness.random_keys,
  )


def _defense_title(config: ConfigDict, label: str) -> str:
  if label == plan.NONE:
    return ""
  fields = config.robustness.defenses[label]
  return str(fields.get("title", label))


def _apply_fn(target: Target) -> ApplyFn:
  return _over_opened(target.apply_fn, target.floats)


@functools.lru_cache(maxsize=16)  # One function, or each would compile again.
def _over_opened(apply_fn: ApplyFn, floats: Callable[[Any], Any]) -> ApplyFn:
  """Return the plain pass over opened params, such as quantised ones."""
  return lambda params, images: apply_fn(floats(params), images)
