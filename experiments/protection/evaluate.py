"""Accuracy in the four conditions that a key creates, and key by key.

- plain: the unprotected model;
- right: the locked file and its key;
- wrong: the stolen file, with no key, with wrong keys, with near keys;
- api: queries to a server that holds the key. A key protects the file, not
  the function, so this equals *right*, and most attacks need no more.

Beside every accuracy stands the number of images whose logits are not finite:
the argmax of NaN is a class too. Of a text, each character counts as an image
does.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import data
from experiments.protection.lock import Lock


class Counts(NamedTuple):
  """What a model did on images, for each of K keys.

  Attributes:
    correct: int[K], images with the right class.
    nonfinite: int[K], images with a logit that is NaN or infinite.
    total: how many images each key saw.
    loss: float[K], the cross-entropy in nats, summed over them.
    unit: what was counted, `images` or `characters`.
  """

  correct: np.ndarray
  nonfinite: np.ndarray
  total: int
  loss: np.ndarray
  unit: str = "images"

  @property
  def accuracy(self) -> np.ndarray:
    """Returns float[K], from 0 to 1."""
    return self.correct / self.total

  @property
  def perplexity(self) -> np.ndarray:
    """Returns float[K], the exponential of the mean loss; NaN or infinite."""
    with np.errstate(over="ignore"):
      return np.exp(self.loss / self.total)

  def part(self, keys: slice) -> "Counts":
    """Returns the counts of some of the keys."""
    correct, nonfinite = self.correct[keys], self.nonfinite[keys]
    return self._replace(
      correct=correct, nonfinite=nonfinite, loss=self.loss[keys]
    )


class Images(NamedTuple):
  """Test images in batches of one shape: see `pack`."""

  image: jax.Array  # uint8[n, b, H, W, C]; of a text uint8[n, b, t]
  label: jax.Array  # int32[n, b]; of a text int32[n, b, t]
  mask: jax.Array  # bool[n, b], False on the rows that fill up the last batch


def pack(images: np.ndarray, labels: np.ndarray, batch_size: int) -> Images:
  """Stacks every image once into batches, for `count`."""
  size = min(batch_size, len(labels))
  found = list(data.eval_batches(images, labels, size))
  stacked = {k: np.stack([batch[k] for batch in found]) for k in found[0]}
  return Images(**{k: jnp.asarray(v) for k, v in stacked.items()})


Totals = tuple[jax.Array, jax.Array, jax.Array]  # int32, int32, float32
LogitsFn = Callable[[Any, Any, jax.Array], jax.Array]


def plain(lock: Lock) -> LogitsFn:
  """Returns `(key, variables, images) -> logits` of someone without a key."""
  return lambda key, variables, images: lock.apply(variables, images)


def count(
  lock: Lock, variables: Any, keys: Sequence[Any], images: Images
) -> Counts:
  """Counts what the locked model gets right under each of several keys.

  All keys run in one compiled call; each decrypts once.

  Args:
    lock: the protection.
    variables: the locked variables.
    keys: keys of one structure.
    images: from `pack`.
  """
  stacked = jax.tree.map(lambda *x: jnp.stack(x), *keys)
  return _counts(_count_keys(lock, stacked, variables, images), images)


def _counts(found: Any, images: Images) -> Counts:
  """Returns what the device counted, and of how many."""
  correct, nonfinite, loss = map(np.atleast_1d, jax.device_get(found))
  text = images.label.ndim > 2
  each = images.label.shape[-1] if text else 1
  total = each * int(np.asarray(images.mask).sum())
  unit = "characters" if text else "images"
  return Counts(correct, nonfinite, total, loss.astype(np.float64), unit)


@functools.partial(jax.jit, static_argnums=0)
def _count_keys(
  lock: Lock, keys: Any, variables: Any, images: Images
) -> Totals:
  def one(key: Any) -> Totals:
    opened = lock.scheme.decrypt(key, variables)
    return _count(lock.scheme.bind(key, lock.apply), opened, images)

  if not jax.tree.leaves(keys):  # A scheme without a key: nothing to map over.
    return one(keys)
  # On a CPU, convolutions with several keys' weights at once took 4 times as
  # long as one key after the other; an accelerator fills up with 16.
  at_once = 1 if jax.default_backend() == "cpu" else 16
  return jax.lax.map(one, keys, batch_size=at_once)


def count_without_key(lock: Lock, variables: Any, images: Images) -> Counts:
  """Counts what a model gets right as it is: no key, no decryption.

  Args:
    lock: the protection, for its forward pass.
    variables: floats or int8: ciphertext as `tree.as_floats` shows it.
    images: from `pack`.
  """
  return _counts(_count_plain(lock, variables, images), images)


@functools.partial(jax.jit, static_argnums=0)
def _count_plain(lock: Lock, variables: Any, images: Images) -> Totals:
  return _count(lock.apply, variables, images)


def _count(
  apply_fn: Callable[..., jax.Array], variables: Any, images: Images
) -> Totals:
  """Returns how many are right, how many not finite, and the summed loss."""

  def batch(part: Images) -> Totals:
    logits = apply_fn(variables, data.to_input(part.image))
    mask = part.mask.reshape(-1, *[1] * (part.label.ndim - 1))
    hits = (logits.argmax(-1) == part.label) & mask
    bad = ~jnp.isfinite(logits).all(-1) & mask
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, part.label)
    loss = jnp.where(mask, loss, 0.0).sum(dtype=jnp.float32)
    return hits.sum(dtype=jnp.int32), bad.sum(dtype=jnp.int32), loss

  hits, bad, loss = jax.lax.map(batch, images)
  return hits.sum(dtype=jnp.int32), bad.sum(dtype=jnp.int32), loss.sum()
