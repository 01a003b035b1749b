"""Timing on a shared machine: rounds, medians, paired ratios.

Competing functions run in turn, round after round, in one process, so that a
slow minute slows all of them; a ratio is the median of the ratios of each
round. Ranges are the quartiles of the rounds.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np


class Timing(NamedTuple):
  """Times of the rounds of one function.

  Attributes:
    wall: Seconds of each round, float64[rounds].
    cpu: Processor seconds of all threads in each round, float64[rounds].
  """

  wall: np.ndarray
  cpu: np.ndarray


class Summary(NamedTuple):
  """A median with its quartiles."""

  value: float
  low: float
  high: float


def interleaved(
  functions: Mapping[str, Callable[[], Any]], rounds: int = 9
) -> dict[str, Timing]:
  """Run the functions in turn, after one round that is not counted.

  Args:
    functions: Functions to time, by name; their JAX results are awaited.
    rounds: Number of times that each one runs.

  Returns:
    The times of each function.

  Example:
    >>> times = interleaved({"a": lambda: 1, "b": lambda: 2}, rounds=3)
    >>> times["a"].wall.shape
    (3,)
  """
  wall: dict[str, list[float]] = {name: [] for name in functions}
  cpu: dict[str, list[float]] = {name: [] for name in functions}
  for i in range(rounds + 1):
    for name, fn in functions.items():
      wall_start = time.perf_counter()
      cpu_start = time.process_time()
      jax.block_until_ready(fn())
      if i > 0:  # The first round compiles and warms the caches.
        wall[name].append(time.perf_counter() - wall_start)
        cpu[name].append(time.process_time() - cpu_start)
  return {n: Timing(np.array(wall[n]), np.array(cpu[n])) for n in functions}


def summary(values: np.ndarray) -> Summary:
  """Return the median and the quartiles."""
  low, value, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
  return Summary(value, low, high)


def exact(value: float) -> Summary:
  """Return the summary of a value that does not vary."""
  return Summary(float(value), float(value), float(value))


def rate(amount: float, seconds: np.ndarray) -> Summary:
  """Return amounts a second, such as GB/s for an amount in GB."""
  return summary(amount / np.maximum(seconds, 1e-9))


def ratio(first: Timing, second: Timing) -> Summary:
  """Return how many times as fast the first is, round by round."""
  return summary(second.wall / first.wall)


def row(
  name: str, measured: Summary, unit: str, target: str = "", note: str = ""
) -> dict[str, Any]:
  """Return one row of a benchmark's table."""
  return {
    "name": name,
    "value": measured.value,
    "unit": unit,
    "low": measured.low,
    "high": measured.high,
    "target": target,
    "note": note,
  }
