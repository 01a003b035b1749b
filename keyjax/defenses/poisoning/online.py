"""A model that learns from a stream, with gates and rollback.

Each step takes a batch of records and makes one step of gradient descent. Three
guards, alone or together:

    accept      only records that a predicate accepts, such as a valid tag
    loss_gate   only records whose loss is at most a bound
    rollback    every few steps, back to the best weights so far if accuracy on
                trusted examples fell

Guarantees:
  What `accept` refuses changes nothing, whatever it holds: the weights are
  those without it.

Known breaks:
  A tag says who wrote a record, not that it is true: poison that is tagged
  passes. Poison whose loss is low passes the gate, which also drops right
  records that are hard or new, so that a model never learns a class that it
  has not seen. Rollback bounds the damage on the trusted examples alone, and
  drops what was learned from right records since.

The story of Tay, re-staged: Marty Wolf, Keith Miller and Frances Grodzinsky,
"Why we should have seen that coming", ACM SIGCAS 47(3), 2017.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from keyjax import labelled
from keyjax.arguments import describe, require_apply, whole_number
from keyjax.attacks.game import Examples
from keyjax.scheme import ApplyFn, PyTree


class Rollback(NamedTuple):
  """When to return to earlier weights.

  Attributes:
    trusted: Examples that nobody else can write.
    every: Steps between checks.
    fall: Fall of the accuracy, from the best so far, that is too much.
  """

  trusted: Examples
  every: int = 20
  fall: float = 0.05


class Learned(NamedTuple):
  """What became of a model.

  Attributes:
    params: Its variables after the stream.
    accuracy: float32[steps], on the watched examples after each step.
    used: bool[steps, batch], records that were learned from.
    restored: bool[steps], steps after which earlier weights were restored.
  """

  params: PyTree
  accuracy: np.ndarray
  used: np.ndarray
  restored: np.ndarray


def accepted(
  predicate: Callable[[int, np.ndarray, int], bool], stream: Examples
) -> np.ndarray:
  """Return which records of a stream a predicate accepts, bool[steps, batch].

  It runs on the host before the records are used, so that it may check tags.

  Args:
    predicate: Function of a record's number in the stream, its input and its
      label.
    stream: Inputs [steps, batch, ...] and labels [steps, batch].

  Example:
    >>> stream = Examples(np.zeros((1, 2, 3)), np.asarray([[0, 1]]))
    >>> accepted(lambda number, image, label: label == 0, stream).tolist()
    [[True, False]]
  """
  labels = np.asarray(stream.label)
  images = np.asarray(stream.image).reshape(
    labels.size, *np.shape(stream.image)[2:]
  )
  found = [
    bool(predicate(i, image, int(label)))
    for i, (image, label) in enumerate(zip(images, labels.flat, strict=True))
  ]
  return np.asarray(found).reshape(labels.shape)


def learn(
  apply_fn: ApplyFn,
  params: PyTree,
  stream: Examples,
  watched: Examples,
  *,
  learning_rate: float = 0.1,
  accept: Any = None,
  loss_gate: float = np.inf,
  rollback: Rollback | None = None,
) -> Learned:
  """Learn from a stream, step by step.

  Args:
    apply_fn: Forward pass, called as `apply_fn(params, inputs)`.
    params: Initial variables.
    stream: Inputs float[steps, batch, ...] and labels int[steps, batch].
    watched: Examples on which accuracy is measured after each step.
    learning_rate: Of gradient descent.
    accept: bool[steps, batch], from `accepted`; all by default.
    loss_gate: Largest cross-entropy of a record that is used.
    rollback: When to return to earlier weights; never by default.

  Raises:
    ValueError: If shapes or numbers are wrong.
    TypeError: If apply_fn is no function.
  """
  require_apply(apply_fn, "online: apply_fn")
  images, labels, classes = _stream(apply_fn, params, stream)
  allowed = np.ones(labels.shape, bool)
  if accept is not None:
    allowed = np.asarray(accept)
    if allowed.shape != labels.shape or allowed.dtype != np.bool_:
      raise ValueError(
        f"accept is {describe(allowed)}: pass bool{list(labels.shape)}"
      )
  if not learning_rate > 0 or not loss_gate > 0:
    raise ValueError(
      f"learning_rate={learning_rate}, loss_gate={loss_gate}: above 0"
    )
  every = whole_number(rollback.every, "every") if rollback else 0
  fall = labelled.share(rollback.fall, "fall") if rollback else 0.0
  judge = _judge(watched, classes, "watched")
  trusted = _judge(rollback.trusted, classes, "trusted") if rollback else judge
  numbers = (learning_rate, loss_gate, fall)
  last, (accuracy, used, restored) = _scan(
    apply_fn,
    every,
    params,
    (jnp.asarray(images), jnp.asarray(labels), jnp.asarray(allowed)),
    (judge, trusted),
    tuple(jnp.float32(x) for x in numbers),
  )
  return Learned(last, *map(np.asarray, (accuracy, used, restored)))


def _stream(
  apply_fn: ApplyFn, params: PyTree, stream: Examples
) -> tuple[np.ndarray, np.ndarray, int]:
  labels = np.asarray(stream.label)
  if labels.ndim != 2 or not labels.size:
    raise ValueError(
      f"stream.label is {describe(labels)}: pass int[steps, batch]"
    )
  images = np.asarray(stream.image)
  if images.shape[:2] != labels.shape:
    raise ValueError(
      f"stream.image is {describe(images)}: its first axes are those of the "
      f"labels, {list(labels.shape)}"
    )
  labelled.inputs(images.reshape(labels.size, -1), name="stream.image")
  logits = jax.eval_shape(apply_fn, params, jnp.asarray(images[0]))
  classes = logits.shape[-1]
  flat = labelled.labels(labels.reshape(-1), classes, "stream.label")
  return images.astype(np.float32), flat.reshape(labels.shape), classes


def _judge(
  examples: Examples, classes: int, name: str
) -> tuple[jax.Array, jax.Array]:
  labels = labelled.labels(examples.label, classes, f"{name}.label")
  images = labelled.inputs(examples.image, len(labels), f"{name}.image")
  return jnp.asarray(images), jnp.asarray(labels)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _scan(
  apply_fn: ApplyFn,
  every: int,
  params: PyTree,
  records: tuple[jax.Array, ...],
  judges: tuple[Any, Any],
  numbers: tuple[jax.Array, ...],
) -> Any:
  learning_rate, gate, fall = numbers
  watched, trusted = judges

  def accuracy(params: PyTree, examples: Any) -> jax.Array:
    images, labels = examples
    right = apply_fn(params, images).argmax(-1) == labels
    return right.mean(dtype=jnp.float32)

  def losses(params: PyTree, images: jax.Array, labels: jax.Array) -> jax.Array:
    logits = apply_fn(params, images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)

  def descend(params: PyTree, record: Any) -> tuple[PyTree, jax.Array]:
    images, labels, allowed = record
    used = allowed & (losses(params, images, labels) <= gate)
    # A record weighs the same in a batch of which few records are used.
    weights = used.astype(jnp.float32) / used.size

    def loss(params: PyTree) -> jax.Array:
      return losses(params, images, labels) @ weights

    moved = jax.tree.map(
      lambda p, g: p - learning_rate.astype(p.dtype) * g,
      params,
      jax.grad(loss)(params),
    )
    return moved, used

  def step(state: Any, item: Any) -> Any:
    params, best, level = state
    number, record = item
    params, used = descend(params, record)
    restored = jnp.zeros((), bool)
    if every:
      here = accuracy(params, trusted)
      checked = (number + 1) % every == 0
      restored = checked & (here < level - fall)
      better = checked & (here >= level)
      params = _choose(restored, best, params)
      best = _choose(better, params, best)
      level = jnp.where(better, here, level)
    return (params, best, level), (accuracy(params, watched), used, restored)

  start = params, params, accuracy(params, trusted)
  numbered = jnp.arange(len(records[0])), records
  (params, _, _), found = jax.lax.scan(step, start, numbered)
  return params, found


def _choose(which: jax.Array, first: PyTree, second: PyTree) -> PyTree:
  return jax.tree.map(lambda a, b: jnp.where(which, a, b), first, second)
