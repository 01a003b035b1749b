"""The processes of a run: who writes, and what all of them agree on.

All processes run the same program. Functions of this module that exchange
values return at once where there is one process; otherwise every process must
call them, in the same order. A process that ends early is noticed: the others
stop with an error after at most 5 minutes.
"""

import hmac
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from keyjax.secrets import Secret

T = TypeVar("T")


class ProcessError(ValueError):
  """Another process failed, and prints the reason."""


def initialize(
  coordinator: str = "", num_processes: int = 0, process_id: int = -1
) -> None:
  """Join the processes of a run; call it before any other JAX function.

  Args:
    coordinator: `host:port` of the first process; empty on a TPU slice, where
      JAX finds the others by itself.
    num_processes: Number of processes; 0 with an empty coordinator.
    process_id: Index of this process, from 0.

  Raises:
    ValueError: If the coordinator is given without the number and the index,
      or one of them is out of range.
  """
  if not coordinator:
    jax.distributed.initialize()
    return
  if not 0 <= process_id < num_processes:
    raise ValueError(
      f"process_id={process_id} of num_processes={num_processes}: expected "
      "0 <= process_id < num_processes"
    )
  jax.distributed.initialize(coordinator, num_processes, process_id)


def is_first() -> bool:
  """Return whether this is the process that writes files and prints."""
  return jax.process_index() == 0


def all_equal(value: int) -> bool:
  """Return in every process whether all hold the same 32-bit number."""
  if jax.process_count() == 1:
    return True
  found = multihost_utils.process_allgather(np.uint32(value))
  return len(set(np.asarray(found).tolist())) == 1


def hold_same(tree: Any, secret: Secret) -> bool:
  """Return in every process whether all hold the same arrays.

  Args:
    tree: Pytree of arrays, which may be a key.
    secret: Secret that all processes hold: it keys the hash that they
      exchange, which tells nothing about the arrays.
  """
  if jax.process_count() == 1:
    return True
  digest = hmac.new(secret.derive("processes/same", 32), digestmod="sha256")
  for x in jax.tree.leaves(tree):
    digest.update(np.asarray(x).tobytes())
  return all_equal(int.from_bytes(digest.digest()[:4], "big"))


def first_says(value: Any) -> np.ndarray:
  """Return the first process's array in every process.

  Args:
    value: Array of one shape and dtype in all processes.

  Example:
    >>> bool(first_says(True))
    True
  """
  if jax.process_count() == 1:
    return np.asarray(value)
  return np.asarray(multihost_utils.broadcast_one_to_all(np.asarray(value)))


def together(work: Callable[[], T]) -> T:
  """Return the result of `work` in every process, once all are done.

  Args:
    work: Function that calls no other process.

  Raises:
    ProcessError: If `work` raised in another process only.

  Example:
    >>> together(lambda: 3)
    3
  """
  if jax.process_count() == 1:
    return work()
  error = None
  try:
    result = work()
  except Exception as failure:  # The others must not wait for this process.
    error = failure
  worked = all_equal(error is None)
  if error is not None:
    raise error
  if not worked:
    raise ProcessError("another process of this run failed; see its error")
  return result


def first_does(work: Callable[[], Any]) -> None:
  """Do work in the first process, and return in every process once it is done.

  Args:
    work: Function that calls no other process, such as one that writes a file.

  Raises:
    ProcessError: In the others, if `work` raised.

  Example:
    >>> first_does(lambda: print("once"))
    once
  """
  together(lambda: work() if is_first() else None)


def gather(values: Any) -> Any:
  """Return the arrays of all processes, each as [processes, ...] in NumPy.

  Args:
    values: Pytree of arrays, of the same shapes in all processes.

  Example:
    >>> gather(np.int32([1, 2])).tolist()
    [[1, 2]]
  """
  if jax.process_count() == 1:
    return jax.tree.map(lambda x: np.asarray(x)[None], values)
  parts = multihost_utils.process_allgather(values)
  return jax.tree.map(np.asarray, parts)


def total(values: Any) -> Any:
  """Return the sums of each array over all processes, as NumPy arrays.

  Args:
    values: Pytree of arrays, of the same shapes in all processes.

  Example:
    >>> total(np.int32([1, 2])).tolist()
    [1, 2]
  """
  if jax.process_count() == 1:
    return jax.device_get(values)
  parts = multihost_utils.process_allgather(values)  # [processes, ...]
  return jax.tree.map(lambda x: np.asarray(x).sum(0), parts)
