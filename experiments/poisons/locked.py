"""What studies of trojans and locks share: a locked network and its views."""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

import keyjax
from experiments.poisons import base, trojaned
from keyjax import quantize
from keyjax.attacks import fit, near_keys
from keyjax.attacks.evasion import keyed
from keyjax.attacks.evasion.problem import LogitsFn
from keyjax.attacks.game import Examples
from keyjax.scheme import ApplyFn, PyTree

BLOCK = 4  # Side of the blocks of SHF.
DURING = ("HPNN", "SHF")  # Networks are trained under their keys.
AFTER = ("AdvParams", "Deep-Lock, counter, int8")
_BATCH = 256  # Images that AdvParams looks at.


class Locked(NamedTuple):
  """A locked network.

  Attributes:
    scheme: Its scheme.
    key: The right key.
    locked: The file.
    apply_fn: Plain pass over what the scheme opens.
    like: Plain variables, or those that the scheme opens.
  """

  scheme: keyjax.Scheme
  key: Any
  locked: PyTree
  apply_fn: ApplyFn
  like: PyTree

  def right(self, locked: PyTree = None) -> LogitsFn:
    """Return the network as the holder of the key runs it, or another file."""
    return self._run(self.key, self.locked if locked is None else locked)

  def wrong(self, count: int) -> Iterator[LogitsFn]:
    """Yield the network under random keys."""
    for i in range(count):
      other = near_keys.random_key(self.key, np.random.default_rng(i))
      yield self._run(other, self.locked)

  def none(self, locked: PyTree = None) -> LogitsFn:
    """Return the file as it runs without a key, or another one."""
    file = self.locked if locked is None else locked
    stolen = keyed.stolen_model(self.apply_fn, file, self.like)
    return Partial(_call, stolen)

  def _run(self, key: Any, locked: PyTree) -> LogitsFn:
    model = keyed.keyed_model(self.scheme, self.apply_fn, locked)
    return Partial(_call, model(key))


@jax.jit
def _call(logits_fn: LogitsFn, x: jax.Array) -> jax.Array:
  return logits_fn(x)


def make(lab: base.Lab, lock: str, data: Examples, offset: int = 0) -> Locked:
  """Return a network, trained on data and locked under a new key.

  Args:
    lab: Data set and seed.
    lock: Name in `DURING` or `AFTER`.
    data: Training data, perhaps with poison.
    offset: Number of the network.
  """
  if lock in DURING:
    scheme, key = new_key(lab, lock)
    return train(lab, data, scheme, key, offset)
  plain = trojaned.train(lab, data, offset=offset).variables
  return after(lab, lock, plain, data)


@functools.lru_cache(maxsize=16)
def scheme_of(lock: str, model: nn.Module) -> keyjax.Scheme:
  """Return the scheme of a lock, one object, for caches of programs."""
  if lock == "HPNN":
    return keyjax.hpnn(model.apply)
  if lock == "SHF":
    return keyjax.pixel_shuffle("shf", BLOCK)
  if lock == "AdvParams":

    def loss_fn(params: PyTree, batch: Any) -> jax.Array:
      logits: Any = model.apply(params, batch["image"])
      return fit.cross_entropy(logits, batch["label"])

    return keyjax.adv_params(loss_fn, theta=0.5, loss_threshold=1000.0)
  return keyjax.masked(keyjax.deep_lock("counter"), quantize.INT8_LEAVES)


def new_key(lab: base.Lab, lock: str) -> tuple[keyjax.Scheme, Any]:
  """Return a scheme that networks are trained under, and a new key."""
  model = trojaned.network(lab)
  scheme = scheme_of(lock, model)
  image = jnp.asarray(lab.train.image[:8])
  like = model.init(lab.rng, image[:1])
  return scheme, scheme.keygen(keyjax.Secret.generate(), like, {"image": image})


def train(
  lab: base.Lab,
  data: Examples,
  scheme: keyjax.Scheme,
  key: Any,
  offset: int = 0,
) -> Locked:
  """Return a network that is trained under a key."""
  net = trojaned.train(lab, data, offset=offset, scheme=scheme, key=key)
  return Locked(scheme, key, net.variables, net.model.apply, net.variables)


def after(lab: base.Lab, lock: str, plain: PyTree, data: Examples) -> Locked:
  """Return trained variables, locked under a new key."""
  model, secret = trojaned.network(lab), keyjax.Secret.generate()
  scheme, run = scheme_of(lock, model), model.apply
  if lock != "AdvParams":
    plain, run = quantize.quantize(plain), _dequantised(model)
  image, label = (jnp.asarray(x[:_BATCH]) for x in data)
  key = scheme.keygen(secret, plain, {"image": image, "label": label})
  return Locked(scheme, key, scheme.encrypt(key, plain), run, plain)


@functools.lru_cache(maxsize=4)
def _dequantised(model: nn.Module) -> ApplyFn:
  def run(params: PyTree, x: jax.Array) -> Any:
    found: Any = model.apply(quantize.dequantize(params), x)
    return found

  return run
