"""Locked models to attack: trained once, stored in the workdir."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import keyjax
from experiments.protection import protect
from experiments.protection.job import Job, keygen_batch
from keyjax import processes, quantize, tasks, tree
from keyjax.attacks import referee, registry
from keyjax.attacks.fit import Recipe, fit
from keyjax.attacks.game import Examples, Score, Target
from keyjax.scheme import PyTree

_SISTER = Recipe(learning_rate=1e-3, layers=".*head.*")
_SISTER_STEPS = 50


def locked(
  job: Job,
  label: str,
  key: Any,
  prepared: PyTree,
  *,
  init: Callable[[jax.Array], PyTree],
  train: Examples,
  test: Examples,
) -> Target:
  """Return a model under one protection of a job, locked.

  Args:
    job: The job.
    label: Label of the protection.
    key: Its key.
    prepared: Variables, from `Lock.prepare`.
    init: Function from a JAX rng to fresh variables.
    train: The owner's training data.
    test: Data that models are judged on.
  """
  lock, spec = job.locks[label], job.config.schemes[label]
  return Target(
    name=spec.scheme,
    scheme=lock.scheme,
    key=key,
    params=prepared,
    locked=jax.jit(lock.scheme.encrypt)(key, prepared),
    apply_fn=job.model.apply,
    init=init,
    train=train,
    test=test,
    task=job.task,
    options=dict(spec.args),
    floats=quantize.dequantize,
  )


class Targets:
  """The locked models of a job, made on first use.

  Attributes:
    job: Config, folders, data, model and locks.
  """

  def __init__(
    self,
    job: Job,
    versions: bool = False,
    licensees: Mapping[str, int] | None = None,
  ) -> None:
    """Prepare the data; nothing is trained yet.

    Args:
      job: Config, folders, data, model and locks.
      versions: Whether some attack needs a base model or another file.
      licensees: Scheme label -> number of files of the same weights, locked
        under other secrets, that some attack needs; none by default.
    """
    dataset = job.dataset
    self.job = job
    self._versions = versions
    self._licensees = licensees or {}
    self._train = _examples(dataset.train_images, dataset.train_labels)
    self._test = _examples(dataset.test_images, dataset.test_labels)
    self._last: tuple[str, Target] | None = None
    self._right: dict[str, Score] = {}

  @functools.cached_property
  def trained(self) -> Any:
    """Variables of the plain model."""
    return protect.train_plain(self.job)

  @functools.cached_property
  def sister(self) -> Any:
    """Another version of the plain model: a public base, or a sister.

    The weights that the run started from; without any, the plain model with its
    head trained a little longer.
    """
    if self.job.initial is not None:
      return self.job.initial
    apply_fn = self.job.model.apply
    marks = [_SISTER_STEPS]
    fits = fit(
      apply_fn,
      self.trained,
      self._train,
      marks,
      _SISTER,
      loss=self.job.task.loss,
    )
    return next(fits).params

  def get(self, label: str) -> Target:
    """Return the target of a scheme label, trained if necessary."""
    if self._last is None or self._last[0] != label:
      self._last = (label, self._make(label))
    return self._last[1]

  def right(self, label: str) -> Score:
    """Return the metric with the owner's key, for comparison."""
    if label not in self._right:
      target = self.get(label)
      found = referee.judge(target.authorized(), target.test, target.task)
      self._right[label] = found
    return self._right[label]

  def _make(self, label: str) -> Target:
    model = self.job.model
    lock = self.job.locks[label]
    variables = protect.train_locked(self.job, label, self.trained)
    prepared = jax.tree.map(jnp.asarray, lock.prepare(variables))
    key = processes.together(
      lambda: protect.claim_key(self.job, label, variables, prepared)
    )
    init = jax.jit(model.init)  # The program that training starts with.
    example = tasks.take(self._train.image, slice(1))
    target = locked(
      self.job,
      label,
      key,
      prepared,
      init=lambda rng: init(rng, example),
      train=self._train,
      test=self._test,
    )
    protect.check_agreement(self.job, label, (key, target.locked))
    if lock.trains or not jax.tree.leaves(key):
      return target  # Another key is another model, or there is none.
    files = self._locked_for_others(target, self._licensees.get(label, 0))
    target = dataclasses.replace(target, licensed=files)
    return self._with_versions(target, label) if self._versions else target

  def _locked_for_others(self, target: Target, count: int) -> tuple[Any, ...]:
    """Return files of the same weights under fresh secrets, not stored."""
    batch = keygen_batch(self.job)
    encrypt = target.scheme.encrypt
    secrets = [keyjax.Secret.generate() for _ in range(count)]
    keys = (target.scheme.keygen(s, target.params, batch) for s in secrets)
    return tuple(jax.jit(encrypt)(key, target.params) for key in keys)

  def _with_versions(self, target: Target, label: str) -> Target:
    """Add a base model, and a file of it under the same secret."""
    lock = self.job.locks[label]
    encrypt = jax.jit(lock.scheme.encrypt)
    sister = jax.tree.map(jnp.asarray, lock.prepare(self.sister))
    target = dataclasses.replace(target, base=sister)
    if not any(a.needs.copies for a in registry.applicable(target.name)):
      return target
    secret = self.job.workdir.secret.child(label)
    other = lock.scheme.keygen(secret, sister, keygen_batch(self.job))
    return dataclasses.replace(target, copies=(encrypt(other, sister),))

  def with_fresh_keys(
    self, label: str, count: int, decoys: bool
  ) -> Iterator[Target]:
    """Yield the target, locked under fresh secrets.

    Args:
      label: Scheme label of the config.
      count: Number of targets.
      decoys: Whether every other one holds random words instead.
    """
    target = self.get(label)
    batch = keygen_batch(self.job)
    encrypt = jax.jit(target.scheme.encrypt)
    rng = np.random.default_rng()
    for i in range(count):
      secret = keyjax.Secret.generate()
      key = target.scheme.keygen(secret, target.params, batch)
      locked = encrypt(key, target.params)
      genuine = not decoys or i % 2 == 0
      if not genuine:
        locked = _noise(locked, target.params, rng)
      yield dataclasses.replace(
        target, key=key, locked=locked, genuine=genuine, base=None, copies=()
      )


def _examples(images: np.ndarray, labels: np.ndarray) -> Examples:
  """Return examples as the model takes them: pixels in [0, 1], or tokens."""
  if images.ndim > 2:
    return Examples(images.astype(np.float32) / 255, labels)
  return Examples(images.astype(np.int32), labels)


def _noise(locked: Any, plain: Any, rng: np.random.Generator) -> Any:
  """Return a file whose locked leaves are random words."""

  def draw(x: Any, y: Any) -> Any:
    if not tree.lockable(y) or x.dtype == y.dtype:
      return x
    return np.frombuffer(rng.bytes(x.size * x.dtype.itemsize), x.dtype).reshape(
      x.shape
    )

  return jax.tree.map(draw, locked, plain)
