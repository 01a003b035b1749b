"""Victims: models that are copied, each with its own data, weights and key."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments import data
from experiments.attacking import targets
from experiments.copying import plan
from experiments.interpretation.conditions import Condition, conditions
from experiments.membership import measure, models
from experiments.protection.job import Job, keygen_batch
from keyjax import tasks
from keyjax.attacks.copies import queries
from keyjax.attacks.game import Examples, Target
from keyjax.attacks.privacy import shadows
from keyjax.scheme import ApplyFn, PyTree


class Asked(NamedTuple):
  """An attacker's queries of one kind.

  Attributes:
    image: float32[n, ...].
    label: Right labels as logits, float64[n, c]; None where there are none.
  """

  image: np.ndarray
  label: np.ndarray | None


class Victims:
  """The victims of a config, trained when they are first asked for.

  Victim i is trained on half of the training images; the other half is the
  attacker's, who holds `copies.inputs` of them, or asks with more.

  Attributes:
    job: Data, model, locks and folders.
    config: The config.
    pool: All training examples.
    test: Examples that nobody trains on.
  """

  def __init__(self, config: ConfigDict, job: Job) -> None:
    """Prepare the data; nothing is trained yet.

    Args:
      config: Config with `copies`.
      job: The job of the config.
    """
    self.config, self.job = config, job
    dataset = job.dataset
    self.pool = Examples(
      _as_input(dataset.train_images), dataset.train_labels.astype(np.int32)
    )
    self.test = Examples(
      _as_input(dataset.test_images), dataset.test_labels.astype(np.int32)
    )
    self._trained: dict[tuple[str, int], PyTree] = {}
    self._targets: dict[tuple[str, int], Target] = {}
    self._asked: dict[int, dict[str, Asked]] = {}

  def seed(self, number: int) -> int:
    """Return the seed of a victim's data and training."""
    return int(self.config.train.seed) + number

  def halves(self, number: int) -> np.ndarray:
    """Return who sees what: bool[2, n], the victim and the attacker."""
    return shadows.split(2, len(self.pool.label), self.seed(number))

  def init(self, rng: jax.Array) -> PyTree:
    """Return initial variables."""
    return self.job.model.init(rng, jnp.asarray(self.pool.image[:1]))

  def params(self, number: int, scheme: str = plan.NONE) -> PyTree:
    """Return a victim's trained variables, before any lock.

    Args:
      number: Number of the victim.
      scheme: Label of its protection.
    """
    if not self.job.locks[scheme].trains:
      scheme = plan.NONE  # The lock changes trained weights.
    if (scheme, number) not in self._trained:
      self._trained[scheme, number] = self.train_again(number, scheme)
    return self._trained[scheme, number]

  def train_again(self, number: int, scheme: str = plan.NONE) -> PyTree:
    """Train a victim, as `params` did before: same data, recipe and seed."""
    lock = self.job.locks[scheme]
    apply_fn: ApplyFn = self.job.model.apply
    shared = {}
    if lock.trains:
      apply_fn = models.under_key(lock.scheme, apply_fn)
      shared = models.key_collection(self._key(number, scheme))
    own = self.halves(number)[:1]
    recipe, steps = plan.recipe(self.config, int(own.sum()))
    found = shadows.train(
      apply_fn,
      self.init,
      self.pool,
      own,
      recipe,
      self.seed(number),
      steps=steps,
      each=0,
      shared=shared,
    )
    return jax.tree.map(lambda x: x[0], found.params)

  def _key(self, number: int, scheme: str, params: PyTree | None = None) -> Any:
    if params is None:
      params = self.init(jax.random.key(0))
    secret = self.job.workdir.secret.child(f"{scheme}_{number}")
    keygen = self.job.locks[scheme].scheme.keygen
    return keygen(secret, params, keygen_batch(self.job))

  def target(self, number: int, scheme: str) -> Target:
    """Return a victim, locked.

    Args:
      number: Number of the victim.
      scheme: Label of its protection.
    """
    if (scheme, number) not in self._targets:
      self._targets[scheme, number] = self._target(number, scheme)
    return self._targets[scheme, number]

  def _target(self, number: int, scheme: str) -> Target:
    lock = self.job.locks[scheme]
    params = self.params(number, scheme)
    prepared = jax.tree.map(jnp.asarray, lock.prepare(params))
    key = self._key(number, scheme, None if lock.trains else prepared)
    return targets.locked(
      self.job,
      scheme,
      key,
      prepared,
      init=self.init,
      train=self.pool,
      test=self.test,
    )

  def services(
    self, number: int, scheme: str, condition: str
  ) -> list[Condition]:
    """Return a victim behind an API: one, or one for each wrong key.

    Args:
      number: Number of the victim.
      scheme: Label of its protection.
      condition: `right`, `wrong` or `no_key`.
    """
    wrong = self.config.copies.wrong_keys if condition == "wrong" else 0
    target = self.target(number, scheme)
    found = conditions(self.job, scheme, target, wrong)
    return [c for c in found if c.name == condition]

  def answers(self, service: Condition, images: np.ndarray) -> np.ndarray:
    """Return what a service says, float32[n, c], NaN or not."""
    own = jax.tree.map(lambda x: np.asarray(x)[None], service.params)
    apply_fn = self.job.model.apply
    return measure.logits_in(service, apply_fn, own, images)[0]

  @functools.cached_property
  def classes(self) -> int:
    """Number of classes."""
    return int(self.job.dataset.num_classes)

  def asked(self, number: int) -> dict[str, Asked]:
    """Return the attacker's queries of each kind, against one victim."""
    if number not in self._asked:
      self._asked[number] = self._ask(number)
    return self._asked[number]

  def _ask(self, number: int) -> dict[str, Asked]:
    fields, seed = self.config.copies, self.seed(number)
    most = max(fields.queries)
    theirs = self._theirs(number)
    few = tasks.take(theirs, slice(fields.inputs))
    mixed = queries.mixup(few.image, most, seed)
    labels = np.eye(self.classes)[few.label]
    share = mixed.share[:, None].astype(np.float64)
    mixture = share * labels[mixed.rows[:, 0]]
    mixture += (1 - share) * labels[mixed.rows[:, 1]]
    real = tasks.take(theirs, slice(most))
    shape = self.pool.image.shape[1:]
    found = {
      "uniform": Asked(queries.uniform(shape, most, seed), None),
      "marginal": Asked(queries.marginal(few.image, most, seed), None),
      "mixup": Asked(mixed.image, _log(mixture)),
      "real": Asked(real.image, _log(np.eye(self.classes)[real.label])),
    }
    if fields.other:
      found["other"] = Asked(self._other(seed, most), None)
    return found

  def _theirs(self, number: int) -> Examples:
    """Return the attacker's half, in random order."""
    rows = np.flatnonzero(self.halves(number)[1])
    rng = np.random.default_rng([self.seed(number), 1])
    return tasks.take(self.pool, rng.permutation(rows)[: self._least])

  @functools.cached_property
  def _least(self) -> int:
    """Number of images of the smallest half: all attackers have as many."""
    numbers = range(self.config.copies.victims)
    return int(min(self.halves(i)[1].sum() for i in numbers))

  def _other(self, seed: int, most: int) -> np.ndarray:
    """Return images of another data set, in the shape of the victim's."""
    found = self._other_set.train_images
    rows = np.random.default_rng([seed, 2]).permutation(len(found))[:most]
    height, width, channels = self.pool.image.shape[1:]
    return queries.fitted(_as_input(found[rows]), (height, width, channels))

  @functools.cached_property
  def _other_set(self) -> data.Dataset:
    return other_set(self.config)


def other_set(config: ConfigDict) -> data.Dataset:
  """Load the data set `copies.other`, with the key of `dataset` if it has one.

  Raises:
    ValueError: If it is not sealed and the config has a key.
  """
  name, guard = config.copies.other, data.guard_of(config)
  if guard.tags:
    raise ValueError(
      f"copies.other={name}: data_tags={guard.tags} are those of "
      f"dataset={config.dataset}; seal both, or leave copies.other empty"
    )
  return data.load(name, config.data_dir or None, guard=guard)


def _as_input(images: np.ndarray) -> np.ndarray:
  return images.astype(np.float32) / 255


def _log(p: np.ndarray) -> np.ndarray:
  return np.asarray(np.log(np.maximum(p, 1e-45)))
