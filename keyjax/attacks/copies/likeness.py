"""How alike two models are: in what they answer, and in their weights."""

from typing import Any, NamedTuple

import jax
import numpy as np

from keyjax import tree
from keyjax.arguments import describe
from keyjax.attacks.privacy import signals
from keyjax.scheme import PyTree


class Difference(NamedTuple):
  """Difference of the weights of two models.

  Attributes:
    identical: Whether they are equal bit for bit.
    largest: Largest absolute difference.
    cosine: Cosine of the angle between them, of all weights as one vector.
  """

  identical: bool
  largest: float
  cosine: float


def agreement(first: Any, second: Any) -> np.ndarray:
  """Return the share of inputs to which two models give the same class.

  An answer that is not finite agrees with nothing.

  Args:
    first: float[..., n, c], logits, such as those of some copies.
    second: float[..., n, c], logits; leading axes broadcast.

  Returns:
    float64[...].

  Raises:
    ValueError: If they are no such logits of the same inputs and classes.

  Example:
    >>> a = np.array([[2.0, 1.0], [0.0, 1.0]])
    >>> float(agreement(a, a)), float(agreement(a, -a))
    (1.0, 0.0)
  """
  (a, known), (b, other) = _classes(first), _classes(second)
  ours, theirs = np.shape(first), np.shape(second)
  if ours[-2:] != theirs[-2:]:
    raise ValueError(
      f"logits are {describe(first)} and {describe(second)}: pass those of the "
      "same inputs and classes"
    )
  try:
    np.broadcast_shapes(ours, theirs)
  except ValueError:
    raise ValueError(
      f"logits are {describe(first)} and {describe(second)}: pass as many "
      "models in both, or one in one of them"
    ) from None
  return np.asarray(((a == b) & known & other).mean(-1))


def accuracy(logits: Any, labels: Any) -> np.ndarray:
  """Return the share of inputs that are classified right.

  Args:
    logits: float[..., n, c].
    labels: int[n].

  Returns:
    float64[...].

  Raises:
    ValueError: If shapes differ, or a label is no class.

  Example:
    >>> float(accuracy(np.array([[2.0, 1.0], [0.0, 1.0]]), np.array([0, 0])))
    0.5
  """
  found, known = _classes(logits)
  right = signals.check_labels(labels, np.shape(logits)[-2:])
  return np.asarray(((found == right) & known).mean(-1))


def difference(first: PyTree, second: PyTree) -> Difference:
  """Return how the weights of two models of one architecture differ.

  Args:
    first: Variables of a model.
    second: Those of the other.

  Raises:
    ValueError: If their paths or shapes differ, or there are no weights.

  Example:
    >>> one = {"w": np.array([1.0, 0.0], np.float32)}
    >>> difference(one, one)
    Difference(identical=True, largest=0.0, cosine=1.0)
    >>> difference(one, {"w": np.array([0.0, 1.0], np.float32)}).cosine
    0.0
  """
  paths, ours, _ = tree.flatten(first)
  others, theirs, _ = tree.flatten(second)
  if not any(np.size(x) for x in ours):
    raise ValueError("the first model has no weights: pass its variables")
  shapes = [np.shape(x) for x in ours]
  if paths != others or shapes != [np.shape(x) for x in theirs]:
    raise ValueError("the two models have other weights: they cannot differ")
  ours, theirs = jax.device_get((ours, theirs))
  a, b = (
    np.concatenate([np.asarray(x, np.float64).ravel() for x in leaves])
    for leaves in (ours, theirs)
  )
  norms = float(np.linalg.norm(a) * np.linalg.norm(b))
  return Difference(
    identical=tree.same_bits(ours, theirs),
    largest=float(np.abs(a - b).max()),
    cosine=float(a @ b) / norms if norms else 0.0,
  )


def _classes(logits: Any) -> tuple[np.ndarray, np.ndarray]:
  """Return the predicted classes, and which answers are finite."""
  found = signals.as_array(logits)
  empty = 0 in found.shape[-2:]
  if found.ndim < 2 or found.dtype.kind != "f" or empty:
    raise ValueError(
      f"logits are {describe(found)}: pass floats, [..., n, c], of an input or "
      "more"
    )
  known = np.isfinite(found).all(-1)
  return np.where(known[..., None], found, 0).argmax(-1), known
