"""Passes of claimed models over examples, by all devices of a process."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from keyjax import device_rows, tasks
from keyjax.attacks.game import Examples, Model
from keyjax.scheme import ApplyFn
from keyjax.tasks import Task


def logits(
  model: Model,
  images: Any,
  batch_size: int,
  devices: Sequence[jax.Device] | None = None,
) -> Any:
  """Return a model's outputs, computed by all devices of this process.

  Args:
    model: Model whose outputs of an example depend on no other example.
    images: Inputs: float32[n, h, w, c], or a pytree of [n, ...]; at least one.
    batch_size: Examples of a call over all devices.
    devices: Some of this process's devices; all by default.
  """
  mesh = device_rows.over(devices)
  forward = _compiled(model.apply_fn, mesh)
  return _over_batches(forward, mesh, model.params, images, batch_size)


def judged(
  model: Model,
  examples: Examples,
  task: Task,
  batch_size: int,
  devices: Sequence[jax.Device] | None = None,
) -> tuple[Any, np.ndarray]:
  """Return a task's statistics of a model, and what is not finite.

  Args:
    model: Model whose outputs of an example depend on no other example.
    examples: Inputs and labels, pytrees of [n, ...]; at least one example.
    task: The task.
    batch_size: Examples of a call over all devices.
    devices: Some of this process's devices; all by default.

  Returns:
    The statistics, a pytree of NumPy arrays [n, ...], and `tasks.nonfinite`,
    float32[n].
  """
  mesh = device_rows.over(devices)
  judge = _judge(model.apply_fn, task, mesh)
  found: tuple[Any, np.ndarray] = _over_batches(
    judge, mesh, model.params, examples, batch_size
  )
  return found


# One compilation for each forward pass, not for each claim.
@functools.lru_cache(maxsize=16)
def _compiled(apply_fn: ApplyFn, mesh: Mesh | None) -> ApplyFn:
  return jax.jit(device_rows.each_device(apply_fn, mesh))


@functools.lru_cache(maxsize=16)
def _judge(
  apply_fn: ApplyFn, task: Task, mesh: Mesh | None
) -> Callable[[Any, Any], Any]:
  def part(params: Any, examples: Examples) -> Any:
    outputs = apply_fn(params, examples.image)
    found = task.statistics(outputs, examples.label)
    return found, tasks.nonfinite(outputs)

  return jax.jit(device_rows.each_device(part, mesh))


def _over_batches(
  function: Callable[[Any, Any], Any],
  mesh: Mesh | None,
  params: Any,
  rows: Any,
  batch_size: int,
) -> Any:
  """Return what a function finds in all rows, as NumPy arrays [n, ...]."""
  params = device_rows.copy_to(mesh, params)
  found = []
  total = tasks.num_examples(rows)
  for start in range(0, total, batch_size):
    count = min(batch_size, total - start)
    batch = tasks.take(rows, slice(start, start + count))
    if mesh:
      batch = _padded(batch, -count % mesh.size)
    made = function(params, device_rows.cut_rows(mesh, batch))
    found.append(_first(made, count))
  return jax.tree.map(lambda *x: np.concatenate(x), *found)


def _padded(batch: Any, count: int) -> Any:
  def pad(x: np.ndarray) -> np.ndarray:
    return np.pad(x, [(0, count), *[(0, 0)] * (x.ndim - 1)])

  return jax.tree.map(pad, batch)


def _first(made: Any, count: int) -> Any:
  return jax.tree.map(lambda x: np.asarray(x)[:count], made)
