"""What an attacker sees: a `View`, made from what they hold."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import keys, tasks, tree
from keyjax.attacks.game import Attacker, Examples, Model, Target
from keyjax.scheme import ApplyFn, Key, PyTree, Scheme
from keyjax.schemes import registry
from keyjax.tasks import Task


class Leak(NamedTuple):
  """Consecutive plain weights of a leaf, at an unknown place."""

  path: str
  values: np.ndarray


class Oracle:
  """The authorised model, which answers a limited number of queries.

  Attributes:
    left: Number of queries that are left.
    used: Number of queries that were answered.
  """

  def __init__(self, model: Model, allowed: int):
    self._model = model
    self.left = allowed
    self.used = 0
    self._forward = jax.jit(model.apply_fn)

  def __call__(self, images: Any) -> Any:
    """Return the outputs, such as logits, of images in [0, 1].

    Raises:
      ValueError: If there are more images than queries left.
    """
    asked = tasks.num_examples(images)
    if asked > self.left:
      raise ValueError(f"{asked} queries, but {self.left} are left")
    self.left -= asked
    self.used += asked
    inputs = jax.tree.map(jnp.asarray, images)
    return jax.device_get(self._forward(self._model.params, inputs))


@dataclasses.dataclass(frozen=True, eq=False)
class View:
  """What an attacker has; whatever `Attacker` does not grant is None.

  Attributes:
    attacker: What was granted.
    apply_fn: Plain forward pass: architectures are public.
    init: Function from a JAX rng to fresh params.
    like: Shapes and dtypes of the plain params.
    floats: See `Target`.
    scheme: The scheme's functions, without any key.
    name: Name of the scheme.
    options: Public arguments of the scheme.
    locked: The stolen file.
    data: Labelled images.
    ciphertexts: Transformed images, float32[n, h, w, c].
    schedule: Map from neurons to key bits; see `schemes.hpnn.Schedule`.
    key: Key of an authorised user.
    oracle: The authorised model.
    leak: Some plain weights.
    base: The public base model.
    copies: Other files under the same secret.
    licensed: Files of the same weights under other secrets.
    victims: Test images to change.
    task: What the model is asked to do.
  """

  attacker: Attacker
  apply_fn: ApplyFn
  init: Callable[[jax.Array], PyTree]
  like: PyTree
  floats: Callable[[PyTree], PyTree]
  scheme: Scheme | None
  name: str
  options: Mapping[str, Any]
  locked: PyTree
  data: Examples
  ciphertexts: np.ndarray | None
  schedule: Any
  key: Key
  oracle: Oracle | None
  leak: Leak | None
  base: PyTree
  copies: Sequence[PyTree]
  licensed: Sequence[PyTree]
  victims: Examples | None
  task: Task = tasks.CLASSES

  def stolen(self) -> PyTree:
    """Return the file as an attacker runs it: ciphertext as floats."""
    return self.floats(tree.as_floats(self.locked, self.like))

  def opened(self) -> PyTree:
    """Return the file as an authorised user runs it."""
    assert self.scheme is not None
    return self.floats(self.scheme.decrypt(self.key, self.locked))


def view(target: Target, attacker: Attacker, seed: int = 0) -> View:
  """Return what an attacker sees of a target.

  Args:
    target: The locked model.
    attacker: What the attacker holds.
    seed: Seed that picks their training images and the place of their leak.
  """
  rng = np.random.default_rng([seed, 0])
  order = rng.permutation(tasks.num_examples(target.train))
  picked = order[: attacker.images]
  paths = locked_paths(target)
  return View(
    attacker=attacker,
    apply_fn=target.apply_fn,
    init=target.init,
    like=jax.eval_shape(lambda p: p, target.params),
    floats=target.floats,
    scheme=target.scheme if attacker.knows_scheme else None,
    name=target.name if attacker.knows_scheme else "",
    options=_options(target) if attacker.knows_scheme else {},
    locked=target.locked if attacker.has_locked else None,
    data=tasks.take(target.train, picked),
    ciphertexts=_overheard(target, attacker, order[::-1]),
    schedule=_schedule(target) if attacker.schedule else None,
    key=target.key if attacker.has_key else None,
    oracle=Oracle(target.authorized(), attacker.queries)
    if attacker.queries
    else None,
    leak=_leak(target, attacker, paths, seed),
    base=target.base if attacker.has_base else None,
    copies=tuple(target.copies)[: attacker.copies],
    licensed=tuple(target.licensed)[: attacker.licensees],
    victims=tasks.take(target.test, slice(attacker.victims))
    if attacker.victims
    else None,
    task=target.task,
  )


def locked_paths(target: Target) -> list[str]:
  """Return the paths of the leaves that the lock changed, largest last."""
  paths, plain, _ = tree.flatten(target.params)
  locked = tree.flatten(target.locked)[1]
  changed = [
    (x.size, p)
    for p, x, y in zip(paths, plain, locked, strict=True)
    if tree.lockable(x) and not tree.same_bits(x, y)
  ]
  return [path for _, path in sorted(changed)]


def _overheard(
  target: Target, attacker: Attacker, order: np.ndarray
) -> np.ndarray | None:
  if not attacker.ciphertexts:
    return None
  if attacker.images + attacker.ciphertexts > len(order):
    raise ValueError(
      f"{attacker.images} images and {attacker.ciphertexts} ciphertexts of "
      f"others, but there are {len(order)} training images"
    )
  images = jnp.asarray(target.train.image[order[: attacker.ciphertexts]])
  sent = None
  if isinstance(target.key, keys.Key):
    sent = target.key.transform_inputs(images)
  if sent is None:
    raise ValueError(f"ciphertexts: {target.name} transforms no images")
  return np.asarray(sent)


def _schedule(target: Target) -> Any:
  found = None
  if isinstance(target.key, keys.Key):
    found = target.key.neuron_schedule()
  if found is None:
    raise ValueError(f"schedule: {target.name} has none")
  return found


def _options(target: Target) -> Mapping[str, Any]:
  return registry.public_options(target.name, target.options)


def _leak(
  target: Target, attacker: Attacker, locked: list[str], seed: int
) -> Leak | None:
  if not attacker.known_weights or not (attacker.known_leaf or locked):
    return None
  path = attacker.known_leaf or locked[-1]
  paths, leaves, _ = tree.flatten(target.params)
  if path not in paths:
    raise ValueError(f"known_leaf={path!r}: the model has {', '.join(paths)}")
  flat = np.asarray(leaves[paths.index(path)]).reshape(-1)
  count = min(attacker.known_weights, flat.size)
  start = np.random.default_rng([seed, 1]).integers(flat.size - count + 1)
  return Leak(path, flat[start : start + count])
