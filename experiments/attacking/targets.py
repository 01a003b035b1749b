"""Locked models to attack: trained once, kept in the workdir, locked anew."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import keyjax
from experiments.protection import job as context
from experiments.protection import lock, protect
from experiments.protection.job import Run
from experiments.protection.lock import Lock
from keyjax import quantize, tree
from keyjax.attacks import referee, registry
from keyjax.attacks.fit import Recipe, fit
from keyjax.attacks.game import Examples, Score, Target

_SISTER = Recipe(learning_rate=1e-3, layers=".*head.*")
_SISTER_STEPS = 50


class Targets:
  """The locked models of a run, made when they are first asked for."""

  def __init__(
    self,
    run: Run,
    versions: bool = False,
    licensees: Mapping[str, int] | None = None,
  ) -> None:
    """Prepares the data; nothing is trained yet.

    Args:
      run: the config, the folders, the data.
      versions: whether some attack wants a base model or another file.
      licensees: by scheme, how many files of the same weights some attack
        wants, locked under other secrets; none by default.
    """
    self._run, self._versions, data = run, versions, run.dataset
    self._licensees = licensees or {}
    self._train = _examples(data.train_images, data.train_labels)
    self._test = _examples(data.test_images, data.test_labels)
    self._last: tuple[str, Target] | None = None
    self._right: dict[str, Score] = {}

  @functools.cached_property
  def trained(self) -> Any:
    """The plain model's variables."""
    return protect.train_plain(self._run)

  @functools.cached_property
  def sister(self) -> Any:
    """Another version of the plain model: its head trained a little more."""
    apply_fn = self._run.model.apply
    marks = [_SISTER_STEPS]
    return next(fit(apply_fn, self.trained, self._train, marks, _SISTER)).params

  def get(self, label: str) -> Target:
    """Returns the target of a scheme of the config, trained if need be."""
    if self._last is None or self._last[0] != label:
      spec = self._run.config.schemes[label]
      self._last = (label, self._make(label, spec))
    return self._last[1]

  def right(self, label: str) -> Score:
    """Returns the accuracy of the owner's key, which attacks compare with."""
    if label not in self._right:
      target = self.get(label)
      found = referee.accuracy(target.authorized(), target.test)
      self._right[label] = found
    return self._right[label]

  def _make(self, label: str, spec: ConfigDict) -> Target:
    run = self._run
    this = lock.build(spec.scheme, dict(spec.args), run.model)
    variables = protect.train_locked(run, label, spec, self.trained)
    key = protect.make_key(run, label, this, variables)
    target = Target(
      name=spec.scheme,
      scheme=this.scheme,
      key=key,
      params=jax.tree.map(jnp.asarray, this.prepare(variables)),
      locked=None,
      apply_fn=run.model.apply,
      init=jax.jit(lambda rng: run.model.init(rng, self._train.image[:1])),
      train=self._train,
      test=self._test,
      options=dict(spec.args),
      floats=quantize.dequantize,
    )
    encrypt = jax.jit(this.scheme.encrypt)
    target = dataclasses.replace(target, locked=encrypt(key, target.params))
    if this.trains or not jax.tree.leaves(key):
      return target  # Another key is another model, or there is none.
    files = self._locked_for_others(target, self._licensees.get(label, 0))
    target = dataclasses.replace(target, licensed=files)
    return (
      self._with_versions(target, label, this) if self._versions else target
    )

  def _locked_for_others(self, target: Target, count: int) -> tuple[Any, ...]:
    """Returns files of the same weights under secrets that are forgotten."""
    batch, encrypt = context.keygen_batch(self._run), target.scheme.encrypt
    secrets = [keyjax.Secret.generate() for _ in range(count)]
    keys = (target.scheme.keygen(s, target.params, batch) for s in secrets)
    return tuple(jax.jit(encrypt)(key, target.params) for key in keys)

  def _with_versions(self, target: Target, label: str, this: Lock) -> Target:
    """Adds a base model, and a file of it under the same secret."""
    run, encrypt = self._run, jax.jit(this.scheme.encrypt)
    sister = jax.tree.map(jnp.asarray, this.prepare(self.sister))
    target = dataclasses.replace(target, base=sister)
    if not any(a.needs.copies for a in registry.applicable(target.name)):
      return target
    batch = context.keygen_batch(run)
    other = this.scheme.keygen(run.workdir.secret.child(label), sister, batch)
    return dataclasses.replace(target, copies=(encrypt(other, sister),))

  def anew(self, label: str, count: int, decoys: bool) -> Iterator[Target]:
    """Returns the target locked under fresh secrets.

    Args:
      label: of the config.
      count: how many.
      decoys: whether every other one holds random words instead.
    """
    target, batch = self.get(label), context.keygen_batch(self._run)
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
  return Examples(images.astype(np.float32) / 255, labels)


def _noise(locked: Any, plain: Any, rng: np.random.Generator) -> Any:
  """Returns a file whose locked leaves are random words."""

  def draw(x: Any, y: Any) -> Any:
    if not tree.lockable(y) or x.dtype == y.dtype:
      return x
    return np.frombuffer(rng.bytes(x.size * x.dtype.itemsize), x.dtype).reshape(
      x.shape
    )

  return jax.tree.map(draw, locked, plain)
