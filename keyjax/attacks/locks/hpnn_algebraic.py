"""HPNN: signs from the device's answers by algebra, the rest by learning.

Layer by layer, first to last. Where a layer's pre-activations can be moved one
at a time, three queries read a sign: at an input where neuron j is 0 and
nothing else moves, the logits change on the side where the lock lets it
through. A convolution moves too much at once; its signs are learned
(`hpnn_relax`). The logits are linear in what the last locked layer lets
through, so its signs solve a linear system, whose residual tells whether the
signs before it are right; while it does, the least certain ones are flipped.

Needs: the file, the scheme and an oracle that answers with logits. Cost: three
queries a neuron that algebra reads, and for the rest about as many queries as
the last locked layer has neurons divided by the classes, with a margin.

Source: the published outline of Li, Zhao, He, Zhou, "Evaluating the Security
of Logic Locking on Deep Neural Networks", DAC 2024: incremental, algebraic and
learning-based inference, and a procedure that checks and corrects. The linear
system for the last layer is added.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from keyjax.attacks import registry
from keyjax.attacks.game import (
  Attacker,
  Budget,
  Claim,
  Cost,
  Goal,
  Oracle,
  View,
)
from keyjax.attacks.locks import hpnn_relax, hpnn_signs, hpnn_statistics
from keyjax.attacks.locks.hpnn_signs import Problem
from keyjax.scheme import ApplyFn

# Theta of a sign that is settled: tanh is flat there.
_SETTLED = 20.0
# A singular value below this share of the largest cannot be inverted.
_RANK = 1e-4
# Of a step: what else may move.
_ALONE = 1e-2
# Inputs to aim from.
_BASES = 4
# A residual below this share of the logits' variance is rounding.
_EXACT = 1e-6


@registry.register(
  "hpnn_algebraic",
  Goal.KEY,
  ("hpnn",),
  Attacker(queries=1),
  referee=hpnn_signs.key_referee,
)
def algebraic(
  view: View, budget: Budget, learning_rate: float = 0.03
) -> Iterator[Claim]:
  """Reads signs by algebra, learns the others, checks and corrects.

  Args:
    view: the file, the scheme and an oracle.
    budget: `steps` of learning, and again of corrections.
    learning_rate: of Adam, for the signs that are learned.
  """
  assert view.oracle is not None
  this = hpnn_signs.problem(view)
  rng = np.random.default_rng(budget.seed)
  settled = np.zeros(this.size, np.float32)
  paths = list(this.units)
  for path in paths[:-1]:
    found = read_layer(this, settled, path, view.oracle, view.data.image, rng)
    at = np.asarray(this.units[path])
    settled[at] = np.where(found != 0, found, settled[at])
    if not found.all():
      break  # What lies behind cannot be aimed at.
  read = int(np.count_nonzero(settled))
  yield _claim(this, settled, 0, view.oracle, {"read": read})
  data = hpnn_signs.examples(view, "mse", budget.seed)
  start = np.where(settled == 0, _start(this, data), _SETTLED * settled)
  steps = 0 if read == this.size - this.units[paths[-1]].size else budget.steps
  learned = hpnn_relax.descend(
    this, data, "mse", start, steps, learning_rate, rng
  )
  theta = functools.reduce(lambda _, at: at[1], learned, start)
  *_, done = correct(this, theta, paths[-1], data, budget.steps)
  more = {"read": read, "residual": done[2]}
  yield _claim(this, done[1], steps + done[0], view.oracle, more)


def _start(this: Problem, data: tuple[Any, Any]) -> np.ndarray:
  """Returns theta as the weights speak for it, turned by the data."""
  compiled = hpnn_signs.hard_loss(this.apply_fn, "mse")
  scores = hpnn_statistics.oriented(
    this, lambda s: float(compiled(this.params, this.units, s, *data))
  )
  return np.clip(hpnn_relax.TRUST * scores[0], -1, 1)


def _claim(
  this: Problem, signs: np.ndarray, steps: int, oracle: Oracle, more: dict
) -> Claim:
  cost = Cost(steps=steps, queries=oracle.used)
  return Claim(hpnn_signs.key_of(this, signs), cost, more)


# ------------------------------------------------------------ one at a time


def read_layer(
  this: Problem,
  signs: np.ndarray,
  path: str,
  oracle: Oracle,
  images: np.ndarray,
  rng: np.random.Generator,
) -> np.ndarray:
  """Reads a layer's signs with three queries each.

  Args:
    this: the unknowns.
    signs: float32[size]; those of the layers before are right.
    path: of the layer.
    oracle: the authorised model.
    images: where the inputs come near, noise if there are none.
    rng: chooses among them.

  Returns:
    int8[features] of +1 and -1, and 0 where algebra cannot tell.
  """
  out = np.zeros(this.units[path].size, np.int8)
  for _ in range(_BASES):
    base = rng.random(images.shape[1:], np.float32)
    if len(images):
      base = images[rng.integers(len(images))]
    left = np.flatnonzero(out == 0)
    if not left.size or oracle.left < 3 * left.size:
      break
    for j, probes in _aim(this, signs, path, base, left):
      below, at, above = oracle(probes)
      down, up = np.abs(below - at).max(), np.abs(above - at).max()
      # Neither side shows where all that lies behind is off.
      out[j] = int(np.sign(up - down))
  return out


def _aim(
  this: Problem,
  signs: np.ndarray,
  path: str,
  base: np.ndarray,
  neurons: np.ndarray,
) -> Iterator[tuple[int, np.ndarray]]:
  """Yields neurons, and three inputs below, at and above their hyperplane."""

  def z(x: jax.Array) -> jax.Array:
    return _site(this, signs, path, x[None])[0]

  x = jnp.asarray(base)
  at = z(x)
  if at.ndim > 1:
    return  # A convolution: one weight moves many outputs.
  slope = np.asarray(jax.jacrev(z)(x)).reshape(at.size, -1)
  back = np.linalg.pinv(slope, _RANK).T.reshape(at.size, *base.shape)
  step = float(np.abs(at).mean())
  for j in neurons:
    moves = np.array([-step, 0, step], np.float32) - float(at[j])
    probes = base + moves.reshape(-1, *(1,) * base.ndim) * back[j][None]
    if _moves_alone(this, signs, path, probes, int(j), step):
      yield int(j), probes.astype(np.float32)


def _site(this: Problem, signs: np.ndarray, path: str, x: Any) -> jax.Array:
  """Returns a module's pre-activations, its own lock left out."""
  others = {p: u for p, u in this.units.items() if p != path}
  met: dict[str, jax.Array] = {}

  def interceptor(next_fn: Any, args: Any, kwargs: Any, context: Any) -> Any:
    out = next_fn(*args, **kwargs)
    if "/".join(context.module.path) == path:
      met[path] = out
    return out

  with nn.intercept_methods(interceptor):
    values = jnp.asarray(signs, jnp.float32)
    hpnn_signs.forward(this.apply_fn, this.params, others, values, x)
  return met[path]


def _moves_alone(
  this: Problem,
  signs: np.ndarray,
  path: str,
  probes: np.ndarray,
  j: int,
  step: float,
) -> bool:
  """Checks on the attacker's own machine that neuron j alone moves."""
  z = np.asarray(_site(this, signs, path, jnp.asarray(probes)))
  want = np.repeat(z[1:2], 3, axis=0)
  want[:, j] = [-step, 0, step]
  return bool(np.abs(z - want).max() < _ALONE * step)


# ------------------------------------------------------------- all at a time


class System(NamedTuple):
  """`matrix @ on = right` for what the last locked layer lets through.

  Attributes:
    matrix: float64[images * classes, neurons].
    right: float64[images * classes].
    scale: the variance of `right`.
  """

  matrix: np.ndarray
  right: np.ndarray
  scale: float


def system(
  this: Problem, signs: np.ndarray, path: str, data: tuple[Any, Any]
) -> System:
  """Returns the equations of the last locked layer.

  For activations with f(c z) = c f(z) for c > 0, what neuron j adds to the
  logits under L = +1 is their derivative by its lock at 1, and under L = -1
  minus that at -1.

  Args:
    this: the unknowns.
    signs: float32[size]; those before the layer are guesses.
    path: of the last locked layer.
    data: images, and the authorised logits.
  """
  units = {**this.units, path: jnp.arange(this.units[path].size) + this.size}
  parts = _parts(this.apply_fn, this.units[path].size)
  args = this.params, units, jnp.asarray(signs, jnp.float32)
  rest, plus, minus = (np.float64(p) for p in parts(*args, data[0]))
  right = np.asarray(data[1], np.float64) - rest - minus.sum(-1)
  matrix = (plus - minus).reshape(right.size, -1)
  return System(matrix, right.reshape(-1), float(right.var()))


@functools.lru_cache(maxsize=16)
def _parts(apply_fn: ApplyFn, size: int) -> Any:
  def parts(params: Any, units: Any, signs: Any, images: Any) -> Any:
    def logits(last: jax.Array, x: jax.Array) -> jax.Array:
      values = jnp.concatenate([signs, last])
      return hpnn_signs.forward(apply_fn, params, units, values, x[None])[0]

    def one(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
      ones = jnp.ones(size)
      plus = jax.jacrev(logits)(ones, x)
      minus = -jax.jacrev(logits)(-ones, x)
      return logits(ones, x) - plus.sum(-1), plus, minus

    return jax.vmap(one)(images)

  return jax.jit(parts)


def solve(equations: System) -> tuple[np.ndarray, float]:
  """Returns +1 and -1 for each neuron, and the residual's share.

  A share at rounding tells that the signs before the layer are right too.
  """
  matrix, right, scale = equations
  on = np.linalg.lstsq(matrix, right, rcond=1e-9)[0].clip(0, 1)
  residual = float(((matrix @ on - right) ** 2).mean()) / max(scale, 1e-30)
  return np.where(on > 0.5, 1, -1).astype(np.float32), residual


def correct(
  this: Problem,
  theta: np.ndarray,
  path: str,
  data: tuple[Any, Any],
  tries: int,
) -> Iterator[tuple[int, np.ndarray, float]]:
  """Solves the last layer, and flips earlier signs until the residual is 0.

  Args:
    this: the unknowns.
    theta: float32[size]: signs, the less certain the smaller.
    path: of the last locked layer.
    data: images, and the authorised logits.
    tries: at most.

  Yields:
    How many tries there were, the best signs, and their residual's share.
  """
  signs, last = hpnn_relax.rounded(theta), np.asarray(this.units[path])
  # Twice the equations that are needed; more only cost time.
  count = 2 * -(-last.size // data[1].shape[1]) + 8
  data = data[0][:count], data[1][:count]

  def attempt(trial: np.ndarray) -> tuple[np.ndarray, float]:
    trial = trial.copy()
    trial[last], residual = solve(system(this, trial, path, data))
    return trial, residual

  signs, best = attempt(signs)
  yield 0, signs, best
  early = np.setdiff1d(this.free, last)
  for n, at in enumerate(early[np.argsort(np.abs(theta[early]))][:tries]):
    if best < _EXACT:
      return
    trial = signs.copy()
    trial[at] *= -1
    trial, residual = attempt(trial)
    if residual < best:
      signs, best = trial, residual
    yield n + 1, signs, best
