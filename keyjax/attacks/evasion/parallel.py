"""Batches side by side: on a CPU a small network keeps only one core busy."""

import concurrent.futures
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

_KEPT = 256  # Executables; each function has one for each size of batches.


def workers() -> int:
  """Return how many batches run at a time: one for each core, if on a CPU."""
  if jax.default_backend() != "cpu":
    return 1
  return os.cpu_count() or 1


def run_all(
  function: Any,
  batches: Sequence[tuple[Any, ...]],
  options: Mapping[str, Any],
) -> list[Any]:
  """Return a function of each batch, on the host.

  Threads only execute: settings of JAX, some of which belong to a thread, are
  those of the caller.

  Args:
    function: Jitted function.
    batches: Arguments of each call.
    options: Further arguments, by name, the same for all calls.
  """

  def of(call: tuple[Callable[..., Any], tuple[Any, ...]]) -> Any:
    executable, arguments = call
    return jax.tree.map(np.asarray, executable(*arguments, **options))

  calls = [(_executable(function, x, options), x) for x in batches]
  with concurrent.futures.ThreadPoolExecutor(workers()) as pool:
    return list(pool.map(of, calls))


def _executable(
  function: Any, arguments: tuple[Any, ...], options: Mapping[str, Any]
) -> Callable[..., Any]:
  types = tuple(jax.typeof(x) for x in arguments)
  named = tuple((name, jax.typeof(x)) for name, x in options.items())
  return _compiled(function, types, named)


@functools.lru_cache(maxsize=_KEPT)
def _compiled(
  function: Any,
  types: tuple[Any, ...],
  named: tuple[tuple[str, Any], ...],
) -> Callable[..., Any]:
  return function.lower(*types, **dict(named)).compile()
