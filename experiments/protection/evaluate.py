"""A model in the four conditions that a key creates, for each of many keys.

- plain: the unprotected model;
- right: the locked file and its key;
- wrong: the stolen file, with no key, with wrong keys, with near keys;
- api: queries to a server that holds the key. A key protects the file, not
  the function, so this equals *right*, and most attacks need only this.

The task says how a model is judged (`keyjax.tasks`). Next to every metric is
the number of outputs that are not finite, because the argmax of NaN is a class
too.

The rows of each batch are divided over all devices of all processes. Each
process judges its share on its own devices, and only the statistics of examples
are exchanged: no key, weight or image leaves a process.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

import keyjax
from experiments import data
from experiments.protection.lock import ApplyFn, Lock
from keyjax import device_rows, parallel, processes, tasks
from keyjax.tasks import Task


class Judged(NamedTuple):
  """Statistics of a model on test examples, for each of K keys.

  Attributes:
    task: What the model is asked to do.
    statistics: Statistics of the task, a pytree of [K, n, ...].
    nonfinite: int[K], units with an output that is NaN or infinite.
    total: Number of units per key: examples, or tokens.
  """

  task: Task
  statistics: Any
  nonfinite: np.ndarray
  total: int

  @property
  def values(self) -> np.ndarray:
    """The metric that judges, float[K]."""
    return self.metric(self.task.metric)

  def metric(self, name: str) -> np.ndarray:
    """Return a metric of the task, float[K]; may be NaN or infinite."""
    values = [self.task.value(self.key(k), name) for k in range(self.keys)]
    return np.asarray(values)

  @property
  def keys(self) -> int:
    """Number of keys."""
    return len(self.nonfinite)

  def key(self, index: int) -> Any:
    """Return the statistics of one key, a pytree of [n, ...]."""
    return tasks.take(self.statistics, index)

  def part(self, keys: slice) -> "Judged":
    """Return the statistics of some of the keys."""
    return self._replace(
      statistics=tasks.take(self.statistics, keys),
      nonfinite=self.nonfinite[keys],
    )


class Images(NamedTuple):
  """Test images in batches of one shape: see `pack`.

  Axis b is cut over the devices of this process, and holds its share.
  """

  image: jax.Array  # uint8[n, b, H, W, C]; of a text [n, b, t]
  label: jax.Array  # int32[n, b]; of another task [n, b, ...]
  mask: jax.Array  # bool[n, b], False on padding


_ROWS = 1  # Axis b.
_MOST_QUEUED = 1 << 26  # Bytes of weights for each of many keys at a time.


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


Found = tuple[Any, jax.Array]  # Statistics and shares, rows at axis 0.


def judge(
  task: Task, lock: Lock, variables: Any, keys: Sequence[Any], images: Images
) -> Judged:
  """Judge a locked model under each of several keys.

  Each key decrypts once in each process. Every process must call this with
  the same variables and keys.

  Args:
    task: What the model is asked to do.
    lock: Protection of the model.
    variables: Locked variables.
    keys: Keys of equal tree structure and shapes.
    images: Test images from `pack`.
  """
  size = _keys_at_once()
  # Each key that is queued holds opened weights of its own until its turn.
  queues = _size(variables) <= _MOST_QUEUED and parallel.can_queue(
    list(images.mask.devices())
  )
  parts = []
  for i in range(0, len(keys), size):
    part = _judge_part(task, lock, keys[i : i + size], variables, images)
    parts.append(part if queues else jax.device_get(part))
  # [parts] x [b, n, keys of a part, ...] -> [b, n, keys, ...]
  found = jax.tree.map(
    lambda *x: np.concatenate(x, 2), *map(_with_keys, jax.device_get(parts))
  )
  return _judged(task, found, images)


def _size(variables: Any) -> int:
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(variables))


def _keys_at_once() -> int:
  """Return how many keys run in one call."""
  # On a CPU, convolutions with the weights of several keys at once took 4 times
  # as long as one key after another; 16 at once fill an accelerator.
  return 1 if jax.default_backend() == "cpu" else 16


def _judge_part(
  task: Task, lock: Lock, keys: Sequence[Any], variables: Any, images: Images
) -> Found:
  scheme = lock.scheme
  mesh = device_rows.of(images.mask)
  if len(keys) > 1:
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *keys)
    stacked, variables = device_rows.copy_to(mesh, (stacked, variables))
    return _judge_keys(mesh, task, lock, stacked, variables, images)
  # Two programs, shared with all that decrypts or runs this model.
  (key,) = keys
  opened = jax.jit(scheme.decrypt)(key, variables)
  if scheme.bind is keyjax.identity().bind:
    opened = device_rows.copy_to(mesh, opened)
    return _judge_plain(mesh, task, lock.apply, opened, images)
  key, opened = device_rows.copy_to(mesh, (key, opened))
  return _judge_bound(mesh, task, scheme.bind, lock.apply, key, opened, images)


def _with_keys(found: Found) -> Found:
  """Return what one key gave as what one of several keys gives."""
  shares = found[1]  # [b, n] or [b, n, keys]
  if shares.ndim == 3:
    return found
  return jax.tree.map(lambda x: np.expand_dims(x, 2), found)


def _judged(task: Task, found: Found, images: Images) -> Judged:
  """Return what all processes found.

  Args:
    task: What the model is asked to do.
    found: Pytrees of [b, n, keys, ...], of this process.
    images: Test images of this process.
  """
  found, mask = processes.gather((found, np.asarray(images.mask)))
  there = mask.transpose(1, 0, 2)  # [n, processes, b]

  def rows(x: np.ndarray) -> np.ndarray:
    # [processes, b, n, keys, ...] -> [examples, keys, ...] -> [keys, ...]
    return x.transpose(2, 0, 1, *range(3, x.ndim))[there].swapaxes(0, 1)

  statistics, shares = jax.tree.map(rows, found)
  units = task.units(images.label[0, :1])
  return Judged(
    task=task,
    statistics=statistics,
    nonfinite=np.rint(shares.sum(1, dtype=np.float64) * units).astype(int),
    total=units * int(there.sum()),
  )


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _judge_keys(
  mesh: Mesh | None,
  task: Task,
  lock: Lock,
  keys: Any,
  variables: Any,
  images: Images,
) -> Found:
  """Return what stacked keys give, all at once: [b, n, keys, ...]."""

  def all_keys(locked: Any, images: Images) -> Found:
    keys, variables = locked

    def one(key: Any) -> Found:
      opened = lock.scheme.decrypt(key, variables)
      return _judge(task, lock.scheme.bind(key, lock.apply), opened, images)

    return jax.vmap(one, out_axes=2)(keys)

  return _everywhere(all_keys, mesh)((keys, variables), images)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _judge_bound(
  mesh: Mesh | None,
  task: Task,
  bind: Callable[..., Any],
  apply_fn: ApplyFn,
  key: Any,
  opened: Any,
  images: Images,
) -> Found:
  def under_key(model: Any, images: Images) -> Found:
    key, opened = model
    return _judge(task, bind(key, apply_fn), opened, images)

  return _everywhere(under_key, mesh)((key, opened), images)


def operations(
  task: Task, lock: Lock, opened: Any, key: Any, images: Images
) -> float:
  """Return what a device computes for a batch, by XLA's count of operations.

  Args:
    task: What the model is asked to do.
    lock: Protection of the model.
    opened: Decrypted variables.
    key: Their key.
    images: Test images from `pack`.
  """
  mesh = device_rows.of(images.mask)
  key, opened = device_rows.copy_to(mesh, (key, opened))
  lowered = _judge_bound.lower(
    mesh, task, lock.scheme.bind, lock.apply, key, opened, images
  )
  return float((lowered.compile().cost_analysis() or {}).get("flops", 0.0))


def judge_without_key(
  task: Task, lock: Lock, variables: Any, images: Images
) -> Judged:
  """Judge a model as it is: no key, no decryption.

  Every process must call this with the same variables.

  Args:
    task: What the model is asked to do.
    lock: Protection of the model, for its forward pass.
    variables: Plain variables, or ciphertext viewed by `tree.as_floats`.
    images: Test images from `pack`.
  """
  mesh = device_rows.of(images.mask)
  variables = device_rows.copy_to(mesh, variables)
  found = _judge_plain(mesh, task, lock.apply, variables, images)
  return _judged(task, _with_keys(jax.device_get(found)), images)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _judge_plain(
  mesh: Mesh | None,
  task: Task,
  apply_fn: ApplyFn,
  variables: Any,
  images: Images,
) -> Found:
  judge = functools.partial(_judge, task, apply_fn)
  return _everywhere(judge, mesh)(variables, images)


def _everywhere(
  judge: Callable[[Any, Images], Found], mesh: Mesh | None
) -> Callable[[Any, Images], Found]:
  return device_rows.each_device(judge, mesh, axis=_ROWS)


def _judge(
  task: Task, apply_fn: Callable[..., Any], variables: Any, images: Images
) -> Found:
  """Return statistics and what is not finite, pytrees of [b, n, ...]."""

  def batch(part: Images) -> Found:
    outputs = apply_fn(variables, data.to_input(part.image))
    return task.statistics(outputs, part.label), tasks.nonfinite(outputs)

  found = jax.lax.map(batch, images)  # [n, b, ...]
  return jax.tree.map(lambda x: x.swapaxes(0, 1), found)
