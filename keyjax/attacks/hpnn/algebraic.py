"""HPNN: signs from the device's answers by algebra, the rest by learning.

Layer by layer, first to last. Where a layer's pre-activations can be moved one
at a time, three queries read a sign: around an input where neuron j is 0 and
nothing else moves, the logits change on the side where the lock lets it
through. A convolution moves too much at once; its signs are learned
(`hpnn_relax`). The logits are linear in what the last locked layer lets
through, so its signs solve a linear system, whose residual shows whether the
signs before it are right; while they are not, the least certain ones are
flipped.

Needs: the file, the scheme and an oracle that answers with logits. Cost: three
queries for each neuron that algebra reads, and for the rest about as many
queries as the last locked layer has neurons divided by the classes, with a
margin.

Source: the published outline of Li, Zhao, He, Zhou, "Evaluating the Security
of Logic Locking on Deep Neural Networks", DAC 2024: incremental, algebraic and
learning-based inference, and a procedure that checks and corrects. The linear
system for the last layer is added.
"""

import functools
from collections.abc import Iterator
from typing import Any

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
)
from keyjax.attacks.hpnn import (
  linear,
  relax,
  sign_model,
  sign_referees,
  statistics,
)
from keyjax.attacks.hpnn.sign_model import Problem
from keyjax.attacks.views import Oracle, View
from keyjax.interception import intercept

# Theta of a sign that is settled: tanh is flat there.
_SETTLED = 20.0
# A singular value below this share of the largest cannot be inverted.
_RANK = 1e-4
# Share of a step by which other neurons may move.
_ALONE = 1e-2
# Number of inputs from which neurons are aimed at.
_BASES = 4


@registry.register(
  "hpnn_algebraic",
  Goal.KEY,
  ("hpnn",),
  Attacker(queries=1),
  referee=sign_referees.key_referee,
  classes_only=True,
)
def algebraic(
  view: View, budget: Budget, learning_rate: float = 0.03
) -> Iterator[Claim]:
  """Read signs by algebra, learn the others, check and correct them.

  Args:
    view: The file, the scheme and an oracle.
    budget: Its `steps` are those of learning, and again of corrections.
    learning_rate: Learning rate of Adam, for the signs that are learned.
  """
  assert view.oracle is not None
  problem = sign_model.pose(view)
  rng = np.random.default_rng(budget.seed)
  settled = np.zeros(problem.size, np.float32)
  paths = list(problem.units)
  for path in paths[:-1]:
    found = read_layer(
      problem, settled, path, view.oracle, view.data.image, rng
    )
    at = np.asarray(problem.units[path])
    settled[at] = np.where(found != 0, found, settled[at])
    if not found.all():
      break  # Later layers cannot be aimed at.
  read = int(np.count_nonzero(settled))
  yield _claim(problem, settled, 0, view.oracle, {"read": read})
  data = sign_model.examples(view, "mse", budget.seed)
  start = np.where(settled == 0, _start(problem, data), _SETTLED * settled)
  steps = (
    0 if read == problem.size - problem.units[paths[-1]].size else budget.steps
  )
  learned = relax.descend(
    problem, data, "mse", start, steps, learning_rate, rng
  )
  theta = functools.reduce(lambda _, at: at[1], learned, start)
  *_, done = linear.correct(problem, theta, paths[-1], data, budget.steps)
  more = {"read": read, "residual": done[2]}
  yield _claim(problem, done[1], steps + done[0], view.oracle, more)


def _start(problem: Problem, data: tuple[Any, Any]) -> np.ndarray:
  """Return theta from the evidence of the weights, oriented by the data."""
  compiled = sign_model.hard_loss(problem.apply_fn, "mse")
  scores = statistics.oriented(
    problem, lambda s: float(compiled(problem.params, problem.units, s, *data))
  )
  return np.clip(relax.TRUST * scores[0], -1, 1)


def _claim(
  problem: Problem, signs: np.ndarray, steps: int, oracle: Oracle, more: dict
) -> Claim:
  cost = Cost(steps=steps, queries=oracle.used)
  return Claim(sign_model.key_of(problem, signs), cost, more)


def read_layer(
  problem: Problem,
  signs: np.ndarray,
  path: str,
  oracle: Oracle,
  images: np.ndarray,
  rng: np.random.Generator,
) -> np.ndarray:
  """Read a layer's signs with three queries each.

  Args:
    problem: The unknowns.
    signs: float32[size]; those of the layers before are right.
    path: Path of the layer.
    oracle: The authorised model.
    images: Images that the queries are close to; noise if there are none.
    rng: Generator that chooses among them.

  Returns:
    int8[features] of +1 and -1, and 0 where algebra cannot tell.
  """
  out = np.zeros(problem.units[path].size, np.int8)
  for _ in range(_BASES):
    base = rng.random(images.shape[1:], np.float32)
    if len(images):
      base = images[rng.integers(len(images))]
    left = np.flatnonzero(out == 0)
    # Half of the queries are kept for neurons that cannot be aimed at.
    if not left.size or oracle.left < 6 * left.size:
      break
    for j, probes in _aim(problem, signs, path, base, left):
      below, at, above = oracle(probes)
      down, up = np.abs(below - at).max(), np.abs(above - at).max()
      # Neither side shows where every later neuron is off.
      out[j] = int(np.sign(up - down))
  return out


def _aim(
  problem: Problem,
  signs: np.ndarray,
  path: str,
  base: np.ndarray,
  neurons: np.ndarray,
) -> Iterator[tuple[int, np.ndarray]]:
  """Yield neurons, and three inputs: below, at and above their hyperplane."""

  def z(x: jax.Array) -> jax.Array:
    return _site(problem, signs, path, x[None])[0]

  x = jnp.asarray(base)
  at = z(x)
  if at.ndim > 1:
    return  # A convolution: one weight moves many outputs.
  # [features, h, w, c] -> [features, pixels]
  slope = np.asarray(jax.jacrev(z)(x)).reshape(at.size, -1)
  back = np.linalg.pinv(slope, _RANK).T.reshape(at.size, *base.shape)
  step = float(np.abs(at).mean())
  for j in neurons:
    moves = np.array([-step, 0, step], np.float32) - float(at[j])
    probes = base + moves.reshape(-1, *(1,) * base.ndim) * back[j][None]
    if _moves_alone(problem, signs, path, probes, int(j), step):
      yield int(j), probes.astype(np.float32)


def _site(problem: Problem, signs: np.ndarray, path: str, x: Any) -> jax.Array:
  """Return a module's pre-activations, without its own lock."""
  others = {p: u for p, u in problem.units.items() if p != path}
  met: dict[str, jax.Array] = {}

  def interceptor(next_fn: Any, args: Any, kwargs: Any, context: Any) -> Any:
    out = next_fn(*args, **kwargs)
    if "/".join(context.module.path) == path:
      met[path] = out
    return out

  with intercept(interceptor):
    values = jnp.asarray(signs, jnp.float32)
    sign_model.forward(problem.apply_fn, problem.params, others, values, x)
  return met[path]


def _moves_alone(
  problem: Problem,
  signs: np.ndarray,
  path: str,
  probes: np.ndarray,
  j: int,
  step: float,
) -> bool:
  """Check on the attacker's own machine that neuron j alone moves."""
  z = np.asarray(_site(problem, signs, path, jnp.asarray(probes)))
  want = np.repeat(z[1:2], 3, axis=0)
  want[:, j] = [-step, 0, step]
  return bool(np.abs(z - want).max() < _ALONE * step)
