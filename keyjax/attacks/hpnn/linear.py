"""HPNN: the signs of the last locked layer solve a linear system.

The logits are linear in what that layer lets through. With the right signs
before it the system is exact, with a wrong one it is not: the residual is the
correctness check of `hpnn_algebraic`.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.attacks.hpnn import relax, sign_model
from keyjax.attacks.hpnn.sign_model import Problem
from keyjax.scheme import ApplyFn

# A residual below this share of the right side's variance is rounding.
_EXACT = 1e-6


class System(NamedTuple):
  """`matrix @ on = right` for what the last locked layer lets through.

  Attributes:
    matrix: float64[images * classes, neurons].
    right: float64[images * classes].
    scale: The variance of `right`.
  """

  matrix: np.ndarray
  right: np.ndarray
  scale: float


def system(
  problem: Problem, signs: np.ndarray, path: str, data: tuple[Any, Any]
) -> System:
  """Return the equations of the last locked layer.

  For activations with f(c z) = c f(z) for c > 0, what neuron j adds to the
  logits under L = +1 is their derivative with respect to its lock at 1, and
  under L = -1 minus that at -1.

  Args:
    problem: The unknowns.
    signs: float32[size]; those before the layer are guesses.
    path: Path of the last locked layer.
    data: Images and the authorised logits.
  """
  units = {
    **problem.units,
    path: jnp.arange(problem.units[path].size) + problem.size,
  }
  parts = _parts(problem.apply_fn, problem.units[path].size)
  args = problem.params, units, jnp.asarray(signs, jnp.float32)
  rest, plus, minus = (np.asarray(p, np.float64) for p in parts(*args, data[0]))
  right = np.asarray(data[1], np.float64) - rest - minus.sum(-1)
  # [images, classes, neurons] -> [images * classes, neurons]
  matrix = (plus - minus).reshape(right.size, -1)
  return System(matrix, right.reshape(-1), float(right.var()))


@functools.lru_cache(maxsize=16)
def _parts(apply_fn: ApplyFn, size: int) -> Any:
  def parts(params: Any, units: Any, signs: Any, images: Any) -> Any:
    def logits(last: jax.Array, x: jax.Array) -> jax.Array:
      values = jnp.concatenate([signs, last])
      return sign_model.forward(apply_fn, params, units, values, x[None])[0]

    def one(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
      ones = jnp.ones(size)
      plus = jax.jacrev(logits)(ones, x)
      minus = -jax.jacrev(logits)(-ones, x)
      return logits(ones, x) - plus.sum(-1), plus, minus

    return jax.vmap(one)(images)

  return jax.jit(parts)


def solve(equations: System) -> tuple[np.ndarray, float]:
  """Return +1 or -1 for each neuron, and the relative residual.

  A residual of the size of rounding means that the signs before the layer are
  right too.
  """
  matrix, right, scale = equations
  on = np.linalg.lstsq(matrix, right, rcond=1e-9)[0].clip(0, 1)
  residual = float(((matrix @ on - right) ** 2).mean()) / max(scale, 1e-30)
  return np.where(on > 0.5, 1, -1).astype(np.float32), residual


def correct(
  problem: Problem,
  theta: np.ndarray,
  path: str,
  data: tuple[Any, Any],
  tries: int,
) -> Iterator[tuple[int, np.ndarray, float]]:
  """Solve the last layer, and flip earlier signs until the residual is 0.

  Args:
    problem: The unknowns.
    theta: float32[size]: signs; the smaller, the less certain.
    path: Path of the last locked layer.
    data: Images and the authorised logits.
    tries: Largest number of flips to try.

  Yields:
    The number of tries, the best signs, and their relative residual.
  """
  signs = relax.rounded(theta)
  last = np.asarray(problem.units[path])
  # Twice as many equations as unknowns; more only take time.
  count = 2 * -(-last.size // data[1].shape[1]) + 8
  data = data[0][:count], data[1][:count]

  def attempt(trial: np.ndarray) -> tuple[np.ndarray, float]:
    trial = trial.copy()
    trial[last], residual = solve(system(problem, trial, path, data))
    return trial, residual

  signs, best = attempt(signs)
  yield 0, signs, best
  early = np.setdiff1d(problem.free, last)
  for n, at in enumerate(early[np.argsort(np.abs(theta[early]))][:tries]):
    if best < _EXACT:
      return
    trial = signs.copy()
    trial[at] *= -1
    trial, residual = attempt(trial)
    if residual < best:
      signs, best = trial, residual
    yield n + 1, signs, best
