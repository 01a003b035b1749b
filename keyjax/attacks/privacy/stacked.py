"""Many models of one kind, whose variables have a first axis over models.

They are computed in chunks of equal size, which bounds what is on the devices
and compiles once; devices divide the models of a chunk between them.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from keyjax import device_rows, tasks
from keyjax.arguments import (
  describe,
  first_line,
  require_apply,
  shapes,
  whole_number,
)
from keyjax.scheme import ApplyFn, PyTree


def answers(
  apply_fn: ApplyFn,
  params: PyTree,
  inputs: Any,
  *,
  chunk: int = 16,
  batch_size: int = 500,
  devices: Sequence[jax.Device] | None = None,
  shared: Mapping[str, PyTree] | None = None,
  finite: bool = True,
) -> np.ndarray:
  """Return logits of stacked models, float32[k, n, c].

  Args:
    apply_fn: Forward pass, called as `apply_fn(variables, inputs)`.
    params: Stacked variables, as from `train`.
    inputs: Pytree of arrays [n, ...], such as the population of `rmia`.
    chunk: Models that are on the devices at the same time.
    batch_size: Inputs of a forward pass.
    devices: As in `train`.
    shared: As in `train`.
    finite: Whether answers that are NaN or infinite are refused, as those of
      shadow models should be; a model without its key may have some.

  Raises:
    ValueError: If logits are refused, or no [n, c], apply_fn fails, there are
      no inputs, or the models have a collection of `shared` already.
    TypeError: If apply_fn is no function, or shared no mapping.

  Example:
    >>> models = {"w": np.ones((3, 4, 2), np.float32)}
    >>> apply_fn = lambda params, x: x @ params["w"]
    >>> answers(apply_fn, models, np.ones((5, 4), np.float32)).shape
    (3, 5, 2)
  """
  require_apply(apply_fn, "stacked: apply_fn")
  chunk = whole_number(chunk, "chunk")
  n, k = tasks.num_examples(inputs), tasks.num_examples(params)
  if not n or not k:
    raise ValueError(f"stacked: {k} models and {n} inputs: pass some of each")
  size = min(whole_number(batch_size, "batch_size"), n)
  mesh = device_rows.over(devices or device_rows.workers())
  run = _forward(apply_fn, mesh)
  shared = check_shared(shared)
  with_shared(params, shared)
  common = device_rows.copy_to(mesh, shared)
  found = []
  for rows in chunks(k, chunk, mesh):
    models = device_rows.cut_rows(mesh, tasks.take(params, rows))
    parts = []
    for start in range(0, n, size):
      at = np.arange(start, start + size) % n  # The last batch is full too.
      batch = jax.tree.map(jnp.asarray, tasks.take(inputs, at))
      given = device_rows.copy_to(mesh, batch), common
      logits = np.asarray(_called(run, given, models))
      if logits.ndim != 3:
        raise ValueError(
          f"apply_fn returns {describe(logits[0])}: expected [{size}, classes]"
        )
      parts.append(logits[:, : n - start])
    found.append(np.concatenate(parts, axis=1))
  logits = joined(found, k)
  if finite:
    require_finite(logits, "logits")
  return np.asarray(logits, np.float32)


def _called(
  run: Callable[..., jax.Array], given: tuple[Any, Any], models: PyTree
) -> jax.Array:
  try:
    return run(given, models)
  except jax.errors.JaxRuntimeError:  # Such as of memory.
    raise
  except Exception as error:
    raise ValueError(
      f"stacked: apply_fn fails on inputs {shapes(given[0])} "
      f"({first_line(error)})"
    ) from error


def check_shared(shared: Any) -> dict[str, PyTree]:
  """Return the collections that models have in common; none for None.

  Raises:
    TypeError: If they are no mapping from names.
  """
  if shared is None:
    return {}
  if not isinstance(shared, Mapping):
    raise TypeError(
      f"shared is {describe(shared)}: pass collections by name, such as "
      "{'key': ...}"
    )
  return dict(shared)


def with_shared(variables: PyTree, shared: Mapping[str, PyTree]) -> PyTree:
  """Return variables with the collections that all models have in common.

  Raises:
    ValueError: If there are some, and the variables are not in collections, or
      have one of them already: it would be replaced in every model.
  """
  if not shared:
    return variables
  if not isinstance(variables, dict) or "params" not in variables:
    raise ValueError(
      f"shared={', '.join(shared)}: init returns no collections: pass "
      "{'params': ...}"
    )
  if twice := sorted(set(variables) & set(shared)):
    raise ValueError(
      f"shared={', '.join(shared)}: the models have {', '.join(twice)} already"
    )
  return {**variables, **shared}


def chunks(k: int, chunk: int, mesh: Mesh | None) -> Iterator[np.ndarray]:
  """Yield the models of each chunk, equally many; the last ones repeat."""
  devices = mesh.size if mesh else 1
  size = math.ceil(min(chunk, k) / devices) * devices
  for start in range(0, k, size):
    yield np.minimum(np.arange(start, start + size), k - 1)


def joined(parts: list[PyTree], k: int) -> PyTree:
  """Return the first k models of some chunks."""
  return jax.tree.map(lambda *x: np.concatenate(x)[:k], *parts)


def require_finite(values: PyTree, what: str) -> None:
  """Raise ValueError if values of a model are NaN or infinite."""
  for x in jax.tree.leaves(values):
    if np.issubdtype(x.dtype, np.integer):
      continue
    good = np.isfinite(x.astype(np.float32)).reshape(len(x), -1).all(1)
    if not good.all():
      raise ValueError(
        f"shadows: {what} of {(~good).sum()} of {len(x)} models, the first of "
        f"them {good.argmin()}, are NaN or infinite: lower the learning rate"
      )


@functools.lru_cache(maxsize=8)
def _forward(apply_fn: ApplyFn, mesh: Mesh | None) -> Callable[..., jax.Array]:
  """Return the compiled forward pass of all models: [k, n, c]."""

  def run(common: Any, models: Any) -> jax.Array:
    inputs, shared = common

    def one(params: Any) -> jax.Array:
      found: jax.Array = apply_fn(with_shared(params, shared), inputs)
      return found

    return jax.vmap(one)(models)

  return jax.jit(device_rows.each_device(run, mesh))
