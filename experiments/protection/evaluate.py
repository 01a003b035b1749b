"""Accuracy in the four conditions that a key creates, for each of many keys.

- plain: the unprotected model;
- right: the locked file and its key;
- wrong: the stolen file, with no key, with wrong keys, with near keys;
- api: queries to a server that holds the key. A key protects the file, not
  the function, so this equals *right*, and most attacks need only this.

Next to every accuracy is the number of images whose logits are not finite,
because the argmax of NaN is a class too. In a text, each character counts as
an image does.

The rows of each batch are divided over all devices of all processes. Each
process counts its share on its own devices, and only the counts are exchanged:
no key, weight or image leaves a process.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

import keyjax
from experiments import data
from experiments.protection.lock import ApplyFn, Lock
from keyjax import device_rows, parallel, processes


class Counts(NamedTuple):
  """Results of a model on images, for each of K keys.

  Attributes:
    correct: int[K], images with the right class.
    nonfinite: int[K], images with a logit that is NaN or infinite.
    total: Number of images per key.
    loss: float[K], cross-entropy in nats, summed over images.
    unit: What was counted, `images` or `characters`.
  """

  correct: np.ndarray
  nonfinite: np.ndarray
  total: int
  loss: np.ndarray
  unit: str = "images"

  @property
  def accuracy(self) -> np.ndarray:
    """Accuracies, float[K], from 0 to 1."""
    return self.correct / self.total

  @property
  def perplexity(self) -> np.ndarray:
    """Exponentials of the mean loss, float[K]; may be NaN or infinite."""
    with np.errstate(over="ignore"):
      return np.exp(self.loss / self.total)

  def part(self, keys: slice) -> "Counts":
    """Return the counts of some of the keys."""
    return self._replace(
      correct=self.correct[keys],
      nonfinite=self.nonfinite[keys],
      loss=self.loss[keys],
    )


class Images(NamedTuple):
  """Test images in batches of one shape: see `pack`.

  Axis b is cut over the devices of this process, and holds its share.
  """

  image: jax.Array  # uint8[n, b, H, W, C]; of a text uint8[n, b, t]
  label: jax.Array  # int32[n, b]; of a text int32[n, b, t]
  mask: jax.Array  # bool[n, b], False on padding


_ROWS = 1  # Axis b.


def pack(
  images: np.ndarray,
  labels: np.ndarray,
  batch_size: int,
  devices: Sequence[jax.Device] | None = None,
) -> Images:
  """Stack images into batches of one shape, each image once.

  Args:
    images: All images, the same in every process.
    labels: Their labels.
    batch_size: Rows of a batch over all devices, rounded up to a multiple of
      their number.
    devices: Some of this process's devices; all by default.
  """
  mesh = device_rows.over(devices)
  count = jax.process_count()
  share = -(-min(batch_size, len(labels)) // count)
  if mesh:
    share = -(-share // mesh.size) * mesh.size
  start = share * jax.process_index()
  batches = list(data.eval_batches(images, labels, share * count))
  stacked = {
    k: np.stack([batch[k][start : start + share] for batch in batches])
    for k in batches[0]
  }
  return Images(**device_rows.cut_rows(mesh, stacked, _ROWS))


Totals = tuple[jax.Array, jax.Array, jax.Array]  # int32, int32, float32


def count(
  lock: Lock, variables: Any, keys: Sequence[Any], images: Images
) -> Counts:
  """Count the right answers of a locked model under each of several keys.

  Each key decrypts once in each process. Every process must call this with
  the same variables and keys.

  Args:
    lock: Protection of the model.
    variables: Locked variables.
    keys: Keys of equal tree structure and shapes.
    images: Test images from `pack`.
  """
  size = _keys_at_once()
  queues = parallel.can_queue(list(images.mask.devices()))
  parts = []
  for i in range(0, len(keys), size):
    part = _count_part(lock, keys[i : i + size], variables, images)
    parts.append(part if queues else jax.device_get(part))
  # One array a result: [parts] x [keys of a part] -> [keys]
  columns = zip(*jax.device_get(parts), strict=True)
  return _counts(tuple(map(np.hstack, columns)), images)


def _keys_at_once() -> int:
  """Return how many keys run in one call."""
  # On a CPU, convolutions with the weights of several keys at once took 4 times
  # as long as one key after another; 16 at once fill an accelerator.
  return 1 if jax.default_backend() == "cpu" else 16


def _count_part(
  lock: Lock, keys: Sequence[Any], variables: Any, images: Images
) -> Totals:
  scheme = lock.scheme
  mesh = device_rows.of(images.mask)
  if len(keys) > 1:
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *keys)
    stacked, variables = device_rows.copy_to(mesh, (stacked, variables))
    return _count_keys(mesh, lock, stacked, variables, images)
  # Two programs, shared with all that decrypts or runs this model.
  (key,) = keys
  opened = jax.jit(scheme.decrypt)(key, variables)
  if scheme.bind is keyjax.identity().bind:
    opened = device_rows.copy_to(mesh, opened)
    return _count_plain(mesh, lock.apply, opened, images)
  key, opened = device_rows.copy_to(mesh, (key, opened))
  return _count_bound(mesh, scheme.bind, lock.apply, key, opened, images)


def _counts(totals: Any, images: Images) -> Counts:
  """Return the totals of all processes as counts."""
  is_text = images.label.ndim > 2
  labels_per_row = images.label.shape[-1] if is_text else 1
  rows = np.asarray(images.mask).sum(dtype=np.int32)
  (correct, nonfinite, loss), rows = processes.total((totals, rows))
  return Counts(
    correct=np.atleast_1d(correct),
    nonfinite=np.atleast_1d(nonfinite),
    total=labels_per_row * int(rows),
    loss=np.atleast_1d(loss).astype(np.float64),
    unit="characters" if is_text else "images",
  )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _count_keys(
  mesh: Mesh | None, lock: Lock, keys: Any, variables: Any, images: Images
) -> Totals:
  """Return the totals of stacked keys, all at once."""

  def all_keys(locked: Any, images: Images) -> Totals:
    keys, variables = locked

    def one(key: Any) -> Totals:
      opened = lock.scheme.decrypt(key, variables)
      return _count(lock.scheme.bind(key, lock.apply), opened, images)

    return jax.vmap(one)(keys)

  return _everywhere(all_keys, mesh)((keys, variables), images)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _count_bound(
  mesh: Mesh | None,
  bind: Callable[..., Any],
  apply_fn: ApplyFn,
  key: Any,
  opened: Any,
  images: Images,
) -> Totals:
  def under_key(model: Any, images: Images) -> Totals:
    key, opened = model
    return _count(bind(key, apply_fn), opened, images)

  return _everywhere(under_key, mesh)((key, opened), images)


def operations(lock: Lock, opened: Any, key: Any, images: Images) -> float:
  """Return what a device computes for a batch, by XLA's count of operations.

  Args:
    lock: Protection of the model.
    opened: Decrypted variables.
    key: Their key.
    images: Test images from `pack`.
  """
  mesh = device_rows.of(images.mask)
  key, opened = device_rows.copy_to(mesh, (key, opened))
  lowered = _count_bound.lower(
    mesh, lock.scheme.bind, lock.apply, key, opened, images
  )
  return float((lowered.compile().cost_analysis() or {}).get("flops", 0.0))


def count_without_key(lock: Lock, variables: Any, images: Images) -> Counts:
  """Count the right answers of a model as it is: no key, no decryption.

  Every process must call this with the same variables.

  Args:
    lock: Protection of the model, for its forward pass.
    variables: Plain variables, or ciphertext viewed by `tree.as_floats`.
    images: Test images from `pack`.
  """
  mesh = device_rows.of(images.mask)
  variables = device_rows.copy_to(mesh, variables)
  return _counts(_count_plain(mesh, lock.apply, variables, images), images)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _count_plain(
  mesh: Mesh | None, apply_fn: ApplyFn, variables: Any, images: Images
) -> Totals:
  count = functools.partial(_count, apply_fn)
  return _everywhere(count, mesh)(variables, images)


def _everywhere(
  count: Callable[[Any, Images], Totals], mesh: Mesh | None
) -> Callable[[Any, Images], Totals]:
  return device_rows.each_device(count, mesh, axis=_ROWS, total=True)


def _count(
  apply_fn: Callable[..., jax.Array], variables: Any, images: Images
) -> Totals:
  """Return the number right, the number not finite, and the summed loss."""

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
