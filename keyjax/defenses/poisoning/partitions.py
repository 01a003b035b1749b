"""Deep partition aggregation: a vote of models, each of its part of the data.

The content of an example alone decides which of k parts it is in, and a model
is trained on each part. An example that is added, removed or given another
label changes one part, so one vote: the margin of the vote bounds how many
examples an attacker must change.

Guarantees:
  No more than `radius` examples added, removed or relabelled in any way change
  a certified prediction: `certify`. A changed input is a removed example and an
  added one, so it counts as two. This needs models that depend on their part
  alone, as those of `train` do, up to the rounding of one compiled program.

Known breaks:
  A radius is of training examples, of one prediction: a trojan below it fails,
  one above it may not. k models of n / k examples are less accurate than one
  of n. Examples that make training fail (NaN) are an error, no wrong answer.

Reference:
  Alexander Levine and Soheil Feizi, "Deep partition aggregation: provable
  defenses against general poisoning attacks", ICLR 2021, arXiv:2006.14768.
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from keyjax import labelled
from keyjax.arguments import describe, whole_number
from keyjax.attacks import fit
from keyjax.attacks.game import Examples
from keyjax.attacks.privacy import procedures, shadows, stacked
from keyjax.scheme import ApplyFn, PyTree

_DEFAULT = fit.Recipe()


class Certificate(NamedTuple):
  """Predictions of a vote, and what they withstand.

  Attributes:
    label: int32[n], classes; of equal votes, the smallest class.
    radius: int32[n], number of changed training examples that cannot change
      the label.
  """

  label: np.ndarray
  radius: np.ndarray


def content(inputs: Any) -> list[bytes]:
  """Return SHA-256 of each input as float32, without its label.

  A label is left out so that changing it moves an example to no other part.

  Args:
    inputs: float[n, ...].

  Example:
    >>> a, b, c = content([[0.5], [1.0], [0.5]])
    >>> a == c, a == b
    (True, False)
  """
  # Zero has two signs: adding zero leaves one.
  found = np.ascontiguousarray(labelled.inputs(inputs) + 0, dtype="<f4")
  shape = repr(found.shape[1:]).encode()
  return [hashlib.sha256(shape + x.tobytes()).digest() for x in found]


def assign(inputs: Any, k: int) -> np.ndarray:
  """Return the part of each example, int32[n] from 0 to k - 1.

  Args:
    inputs: float[n, ...].
    k: Number of parts.

  Raises:
    ValueError: If inputs are not finite, or k is no number.

  Example:
    >>> one, both = assign([[0.25]], 8), assign([[0.5], [0.25]], 8)
    >>> bool(both[1] == one[0])
    True
  """
  k = whole_number(k, "k")
  return _parts(content(inputs), k)


def _parts(digests: list[bytes], k: int) -> np.ndarray:
  numbers = [int.from_bytes(x[:8], "big") % k for x in digests]
  return np.asarray(numbers, np.int32)


def train(
  apply_fn: ApplyFn,
  init: Callable[[jax.Array], PyTree],
  data: Examples,
  k: int,
  classes: int,
  recipe: fit.Recipe = _DEFAULT,
  seed: int = 0,
  *,
  steps: int = 500,
) -> PyTree:
  """Train a model on each part, all by one compiled step.

  Batches have `recipe.batch_size` examples of a part, however few it has. The
  order of examples is that of their content. A part without examples has one
  of zeros, of class 0.

  Args:
    apply_fn: Forward pass, as in `attacks.fit.fit`.
    init: Function from a PRNG key to initial variables.
    data: Inputs float[n, ...] and labels int[n].
    k: Number of parts.
    classes: Number of classes.
    recipe: Settings of training.
    seed: Seed of initial weights and orders.
    steps: Steps of each model.

  Returns:
    Variables with a first axis over the k models.

  Raises:
    ValueError: If an argument is wrong, or a model's weights become NaN.
  """
  labels = labelled.labels(data.label, classes)
  images = labelled.inputs(data.image, len(labels))
  digests = content(images)
  order = np.asarray(
    sorted(range(len(labels)), key=lambda i: (digests[i], labels[i]))
  )
  part = _parts([digests[i] for i in order], whole_number(k, "k"))
  members = part[None] == np.arange(k)[:, None]
  empty = ~members.any(1)
  whole = Examples(
    np.concatenate([images[order], np.zeros_like(images[:1])]),
    np.append(labels[order], np.int32(0)),
  )
  return shadows.train(
    apply_fn,
    init,
    whole,
    np.concatenate([members, empty[:, None]], 1),
    recipe,
    seed,
    steps=steps,
    each=0,
    procedure=_procedure(apply_fn, init, recipe, seed),
  ).params


def _procedure(
  apply_fn: ApplyFn,
  init: Callable[[jax.Array], PyTree],
  recipe: fit.Recipe,
  seed: int,
) -> procedures.Procedure:
  """Return `fit`'s steps, on batches whose size no other part decides."""
  size = whole_number(recipe.batch_size, "batch_size")
  made = procedures.by_fit(apply_fn, init, recipe, size, seed, None)

  def draw(number: int, members: np.ndarray) -> Iterator[np.ndarray]:
    order = np.random.default_rng([seed, number])
    left = np.zeros(0, np.int32)
    while True:
      while len(left) < size:
        left = np.append(left, order.permutation(members).astype(np.int32))
      yield left[:size]
      left = left[size:]

  return made._replace(draw=draw)


def votes(apply_fn: ApplyFn, params: PyTree, inputs: Any) -> np.ndarray:
  """Return how many models name each class, int32[n, classes].

  Args:
    apply_fn: Forward pass.
    params: Variables from `train`.
    inputs: float[n, ...].

  Raises:
    ValueError: If logits are not finite.
  """
  logits = stacked.answers(apply_fn, params, labelled.inputs(inputs))
  named = logits.argmax(-1)  # [k, n]
  classes = np.arange(logits.shape[-1])
  return np.asarray((named[..., None] == classes).sum(0), np.int32)


def certify(counts: Any) -> Certificate:
  """Return the predictions of votes, and how many examples they withstand.

  Args:
    counts: int[n, classes], number of models that name each class.

  Raises:
    ValueError: If they are no counts of at least two classes.

  Example:
    >>> found = certify([[5, 0], [2, 3], [3, 3]])
    >>> found.label.tolist(), found.radius.tolist()
    ([0, 1, 0], [2, 0, 0])
  """
  found = np.asarray(counts)
  whole = np.issubdtype(found.dtype, np.integer)
  if found.ndim != 2 or not whole or found.shape[1] < 2 or not len(found):
    raise ValueError(f"counts are {describe(found)}: pass int[n, classes]")
  if found.min() < 0:
    raise ValueError(f"counts have {found.min()}: 0 or more")
  label = found.argmax(1)
  classes = np.arange(found.shape[1])
  # Equal votes go to the smaller class: it needs one vote less.
  rivals = found + (classes[None] < label[:, None])
  rivals[np.arange(len(found)), label] = -1
  margin = found.max(1) - rivals.max(1)
  return Certificate(label.astype(np.int32), (margin // 2).astype(np.int32))
