"""Groups of models: trained side by side, stored, and locked one by one."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from ml_collections import ConfigDict

import keyjax
from experiments.attacking import targets
from experiments.membership import dropout, plan, private
from experiments.protection.job import Job, keygen_batch
from experiments.run import files
from keyjax import tree
from keyjax.attacks.game import Examples, Target
from keyjax.attacks.privacy import procedures, shadows
from keyjax.defenses.private import Guarantee
from keyjax.scheme import ApplyFn, PyTree

# They make seeds differ from those of the halves.
_DATA = 1  # Of the pool.
_COINS = 2  # Of the members of an audited model.
_KEY = "key"  # Collection of the key under which a group is trained.


class Group(NamedTuple):
  """Models that are trained alike.

  Attributes:
    params: Their variables, with a first axis over models.
    members: bool[k, n], the training data of each.
  """

  params: PyTree
  members: np.ndarray


class Models:
  """The groups of a config, trained when they are first asked for.

  Attributes:
    job: Data, model, locks and folders.
    pool: Examples of which each model sees half, labels with noise.
    rest: Examples that no model sees.
  """

  def __init__(self, config: ConfigDict, job: Job) -> None:
    """Prepare the data; nothing is trained yet.

    Args:
      config: Config with `privacy`.
      job: The job of the config.
    """
    self._config = config
    self.job = job
    self._last: tuple[str, Group] | None = None
    self._keys: dict[str, Any] = {}
    dataset, fields = job.dataset, config.privacy
    rng = np.random.default_rng([config.train.seed, _DATA])
    order = rng.permutation(len(dataset.train_labels))[: fields.pool]
    labels = dataset.train_labels[order].astype(np.int32)
    wrong = rng.random(len(labels)) < fields.noise
    moved = labels + rng.integers(1, dataset.num_classes, len(labels))
    labels = np.where(wrong, moved % dataset.num_classes, labels)
    images = _as_input(dataset.train_images[order])
    self.pool = Examples(images, labels.astype(np.int32))
    most = len(dataset.test_labels)
    self.rest = Examples(
      _as_input(dataset.test_images[:most]),
      dataset.test_labels.astype(np.int32),
    )

  @functools.cached_property
  def like(self) -> PyTree:
    """Shapes and types of a model's variables."""
    return jax.eval_shape(self._init, jax.random.key(0))

  def trained(self, name: str) -> str:
    """Return the group whose trained models a group has."""
    scheme = name.split("/")[0]
    if not self.job.locks[scheme].trains and scheme != plan.NONE:
      return f"{plan.NONE}/{plan.NONE}"  # The lock changes trained weights.
    return name

  def group(self, name: str) -> Group:
    """Return a group, trained once and stored in the workdir."""
    name = self.trained(name)
    if self._last is None or self._last[0] != name:
      self._last = (name, self._group(name))
    return self._last[1]

  def _group(self, name: str) -> Group:
    members = self._members()
    stem = plan.models_name(self._config, name)
    folder = self.job.workdir.folder(name.replace("/", "_"))
    file = folder / f"{stem}.safetensors"
    if not file.exists():
      _save(file, self._train(name, members))
    return Group(_load(file, self.like), members)

  def _members(self) -> np.ndarray:
    """Return the training data of all models, bool[k, n]."""
    fields, seed = self._config.privacy, self._config.train.seed
    even = fields.models + fields.models % 2
    members = shadows.split(even, fields.pool, seed)[: fields.models]
    if fields.delta:
      # An audit needs a coin for each example, of which the data of the shadow
      # models, equally many with it and without it, tells nothing.
      rng = np.random.default_rng([seed, _COINS])
      coins = rng.random((fields.targets, fields.pool)) < 0.5
      members[: fields.targets] = coins
    return members

  def guarantee(self, name: str) -> Guarantee | None:
    """Return what a group's training claims; None if it claims nothing."""
    claim = plan.claim(self._config, name)
    if not claim:
      return None
    recipe, steps = plan.recipe(self._config, name)
    return private.guarantee(self._members(), recipe, steps, **claim)

  def _procedure(
    self, name: str, members: np.ndarray
  ) -> procedures.Procedure | None:
    """Return how a group trains with noise or dropout; None for another."""
    recipe, _ = plan.recipe(self._config, name)
    if rate := plan.dropout(self._config, name):
      size = min(recipe.batch_size, int(members.sum(1).min()))
      seed = self._config.train.seed
      return dropout.procedure(self.job.model, rate, recipe, size, seed)
    found = self.guarantee(name)
    if found is None:
      return None
    if set(self.like) - {"params"}:
      raise ValueError(
        f"privacy.trainings: {name} does not fit model={self._config.model}: "
        "its batch statistics mix examples"
      )
    if plan.forgets_noise(self._config, name):
      found = found._replace(noise_multiplier=0.0)
    # Of these models alone: under the noise of others, the difference of both
    # would show examples.
    secret = self.job.workdir.secret.child(plan.models_name(self._config, name))
    apply_fn: ApplyFn = self.job.model.apply
    return private.procedure(apply_fn, members, recipe, found, secret)

  def _train(self, name: str, members: np.ndarray) -> PyTree:
    recipe, steps = plan.recipe(self._config, name)
    self.job.log(f"{name}: training {len(members)} models, {steps} steps each")
    scheme = name.split("/")[0]
    lock = self.job.locks[scheme]
    apply_fn: ApplyFn = self.job.model.apply
    shared = {}
    if lock.trains:
      apply_fn = under_key(lock.scheme, apply_fn)
      shared = key_collection(self._shared_key(scheme))
    return shadows.train(
      apply_fn,
      self._init,
      self.pool,
      members,
      recipe,
      self._config.train.seed,
      steps=steps,
      chunk=self._config.privacy.side_by_side,
      shared=shared,
      procedure=self._procedure(name, members),
    ).params

  def target(self, name: str, number: int) -> Target:
    """Return one model of a group, locked.

    Args:
      name: Name of the group.
      number: Number of the model.
    """
    scheme = name.split("/")[0]
    lock = self.job.locks[scheme]
    params = jax.tree.map(lambda x: x[number], self.group(name).params)
    prepared = jax.tree.map(jnp.asarray, lock.prepare(params))
    if lock.trains:
      key = self._shared_key(scheme)
    else:
      secret = self.job.workdir.secret.child(f"{scheme}_{number}")
      key = lock.scheme.keygen(secret, prepared, keygen_batch(self.job))
    return targets.locked(
      self.job,
      scheme,
      key,
      prepared,
      init=self._init,
      train=self.pool,
      test=self.rest,
    )

  def _shared_key(self, scheme: str) -> Any:
    """Return the key under which all models of a group are trained."""
    if scheme not in self._keys:
      fresh = self._init(jax.random.key(0))
      secret = self.job.workdir.secret.child(scheme)
      keygen = self.job.locks[scheme].scheme.keygen
      self._keys[scheme] = keygen(secret, fresh, keygen_batch(self.job))
    return self._keys[scheme]

  def _init(self, rng: jax.Array) -> PyTree:
    return self.job.model.init(rng, jnp.asarray(self.pool.image[:1]))


def _as_input(images: np.ndarray) -> np.ndarray:
  return images.astype(np.float32) / 255


def key_collection(key: Any) -> dict[str, Any]:
  """Return the key as the collection that `under_key` expects."""
  return {_KEY: key}


@functools.lru_cache(maxsize=16)  # One function, or each would compile again.
def under_key(scheme: keyjax.Scheme, apply_fn: ApplyFn) -> ApplyFn:
  """Return a pass over variables with a collection that is the key.

  So the key is an argument of compiled programs, never a constant of theirs,
  which JAX may write to its cache.
  """

  def forward(
    variables: Mapping[str, PyTree],
    images: jax.Array,
    train: bool = False,
    mutable: Sequence[str] = (),
  ) -> Any:
    own = {k: v for k, v in variables.items() if k != _KEY}
    bound: Callable[..., Any] = scheme.bind(variables[_KEY], apply_fn)
    if not train:
      return bound(own, images)
    kept = [name for name in mutable if name != _KEY]
    found = bound(own, images, train=True, mutable=kept)
    logits, changed = found
    return logits, {**changed, _KEY: variables[_KEY]}

  return forward


def _save(file: files.AnyPath, params: PyTree) -> None:
  """Write arrays by their paths, completely or not at all."""
  paths, leaves, _ = tree.flatten(params)
  arrays = map(np.ascontiguousarray, leaves)
  content = safetensors.numpy.save(dict(zip(paths, arrays, strict=True)))
  files.write_bytes(file, content)


def _load(file: files.AnyPath, like: PyTree) -> PyTree:
  """Return arrays that `_save` wrote, in the structure of one model.

  Raises:
    ValueError: If the file is damaged; the message names it.
  """
  paths, _, treedef = tree.flatten(like)
  try:
    found = safetensors.numpy.load(file.read_bytes())
    return jax.tree.unflatten(treedef, [found[path] for path in paths])
  except (safetensors.SafetensorError, KeyError):
    raise ValueError(
      f"{file} is damaged; delete it, and its models are trained again"
    ) from None
