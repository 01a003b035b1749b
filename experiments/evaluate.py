"""Accuracy in the four conditions that a key creates, and key by key.

- plain: the unprotected model;
- right: the locked file and its key;
- wrong: the stolen file, with no key, with wrong keys, with near keys;
- api: queries to a server that holds the key. A key protects the file, not
  the function, so this equals *right*, and most attacks need no more.

Beside every accuracy stands the number of images whose logits are not finite:
the argmax of NaN is a class too.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import data
from experiments.lock import Lock


class Counts(NamedTuple):
  """What a model did on images, for each of K keys.

  Attributes:
    correct: int[K], images with the right class.
    nonfinite: int[K], images with a logit that is NaN or infinite.
    total: how many images each key saw.
  """

  correct: np.ndarray
  nonfinite: np.ndarray
  total: int

  @property
  def accuracy(self) -> np.ndarray:
    """Returns float[K], from 0 to 1."""
    return self.correct / self.total


class Images(NamedTuple):
  """Test images in batches of one shape: see `pack`."""

  image: jax.Array  # uint8[n, b, H, W, C]
  label: jax.Array  # int32[n, b]
  mask: jax.Array  # bool[n, b], False on the rows that fill up the last batch


def pack(images: np.ndarray, labels: np.ndarray, batch_size: int) -> Images:
  """Stacks every image once into batches, for `count`."""
  size = min(batch_size, len(labels))
  found = list(data.eval_batches(images, labels, size))
  stacked = {k: np.stack([batch[k] for batch in found]) for k in found[0]}
  return Images(**{k: jnp.asarray(v) for k, v in stacked.items()})


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
  correct, nonfinite = _count_keys(lock, stacked, variables, images)
  total = int(np.asarray(images.mask).sum())
  return Counts(np.asarray(correct), np.asarray(nonfinite), total)


@functools.partial(jax.jit, static_argnums=0)
def _count_keys(
  lock: Lock, keys: Any, variables: Any, images: Images
) -> tuple[jax.Array, jax.Array]:
  def one(key: Any) -> tuple[jax.Array, jax.Array]:
    opened = lock.scheme.decrypt(key, variables)
    return _count(lock.scheme.bind(key, lock.apply), opened, images)

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
  correct, nonfinite = _count_plain(lock, variables, images)
  total = int(np.asarray(images.mask).sum())
  return Counts(np.asarray([correct]), np.asarray([nonfinite]), total)


@functools.partial(jax.jit, static_argnums=0)
def _count_plain(
  lock: Lock, variables: Any, images: Images
) -> tuple[jax.Array, jax.Array]:
  return _count(lock.apply, variables, images)


def _count(
  apply_fn: Callable[..., jax.Array], variables: Any, images: Images
) -> tuple[jax.Array, jax.Array]:
  """Returns how many images are right, and how many are not finite."""

  def batch(part: Images) -> tuple[jax.Array, jax.Array]:
    logits = apply_fn(variables, data.to_float(part.image))
    hits = (logits.argmax(-1) == part.label) & part.mask
    bad = ~jnp.isfinite(logits).all(-1) & part.mask
    return hits.sum(dtype=jnp.int32), bad.sum(dtype=jnp.int32)

  hits, bad = jax.lax.map(batch, images)
  return hits.sum(dtype=jnp.int32), bad.sum(dtype=jnp.int32)
