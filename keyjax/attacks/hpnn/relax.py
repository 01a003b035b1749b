"""HPNN: relax each key bit to tanh(theta) and descend.

The weights are frozen. Several starts are trained with Adam on the authorised
model's logits, or on labels where there is no oracle; the start with the lowest
loss after rounding by sign is polished by single flips. The first starts are
the evidence of the weights (`hpnn_statistics`), unless `informed` is off, as
published.

Needs: the file, the scheme, and an oracle or labelled images. Cost: a training
step for each step; the polish takes at most as many forward passes as there
were steps.

Sources: the gradient attack of "LLA: Enhancing Security and Privacy for
Generative Models with Logic-Locked Accelerators", AAAI 2026 (Adam at 0.03, JSD
or cross-entropy, best of 3); polishing is added.
"""

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from keyjax import device_rows, tasks
from keyjax.attacks import registry
from keyjax.attacks.game import Attacker, Budget, Claim, Cost, Goal
from keyjax.attacks.hpnn import greedy, sign_model, sign_referees, statistics
from keyjax.attacks.hpnn.sign_model import Problem
from keyjax.attacks.views import View
from keyjax.scheme import ApplyFn
from keyjax.tasks.task import Loss

_BATCH = 128
# Standard deviation of the first theta: at 0 a lock lets nothing through.
_SPREAD = 0.5
# Initial theta for each standard deviation of evidence of the weights.
TRUST = 0.3
# Below this loss nothing is left to polish.
_SOLVED = 1e-9
_ADAM = optax.scale_by_adam()


@functools.lru_cache(maxsize=16)
def _step(apply_fn: ApplyFn, kind: str | Loss) -> Any:
  """Return a compiled step over theta."""

  def loss_fn(theta: Any, params: Any, units: Any, x: Any, want: Any) -> Any:
    values = jnp.tanh(theta)
    logits = sign_model.forward(apply_fn, params, units, values, x)
    return sign_model.loss(kind, logits, want)

  @jax.jit
  def step(
    theta: Any, state: Any, rate: Any, params: Any, units: Any, batch: Any
  ) -> tuple[Any, Any]:
    grads = jax.grad(loss_fn)(theta, params, units, *batch)
    with jax.numpy_dtype_promotion("standard"):  # Optax counts in int32.
      updates, state = _ADAM.update(grads, state)
    return theta - rate * updates, state

  return step


def descend(
  problem: Problem,
  data: tuple[Any, Any],
  kind: str | Loss,
  theta: np.ndarray,
  steps: int,
  learning_rate: float,
  rng: np.random.Generator,
) -> Iterator[tuple[int, np.ndarray]]:
  """Train theta, and yield it after each step.

  Args:
    problem: The unknowns.
    data: Images and their targets.
    kind: Loss; see `sign_model.loss`.
    theta: float32[size], the initial value; its tanh are the signs.
    steps: Number of steps.
    learning_rate: Initial learning rate of a cosine decay to 0.
    rng: Generator of the order of the images.
  """
  step = _step(problem.apply_fn, kind)
  at = jnp.asarray(theta)
  state = _ADAM.init(at)
  data = jax.tree.map(np.asarray, data)
  total = tasks.num_examples(data)
  size = min(_BATCH, total)
  mesh = device_rows.over(device_rows.workers())
  rows = np.zeros(0, np.int64)
  for i in range(steps):
    if len(rows) < size:
      rows = rng.permutation(total)
    picked, rows = rows[:size], rows[size:]
    batch = device_rows.cut_rows(mesh, tasks.take(data, picked))
    rate = jnp.float32(learning_rate * 0.5 * (1 + np.cos(np.pi * i / steps)))
    at, state = step(at, state, rate, problem.params, problem.units, batch)
    yield i + 1, np.asarray(at)


def rounded(theta: np.ndarray) -> np.ndarray:
  """Return theta as signs."""
  return np.where(theta < 0, -1, 1).astype(np.float32)


def solve(
  view: View,
  problem: Problem,
  data: tuple[Any, Any],
  budget: Budget,
  kind: str | Loss,
  learning_rate: float = 0.03,
  starts: int = 1,
  informed: bool = True,
) -> Iterator[tuple[Cost, np.ndarray, float]]:
  """Run the attack, and yield cost, signs and loss at every mark.

  Args:
    view: View whose oracle counts queries.
    problem: The unknowns.
    data: Images and their targets.
    budget: Its `steps` are shared by all starts; as many flips polish the best.
    kind: Loss; see `sign_model.loss`.
    learning_rate: Learning rate of Adam.
    starts: Number of starts.
    informed: Whether the first starts are the evidence of the weights.
  """
  rng = np.random.default_rng(budget.seed)
  few = tasks.take(data, slice(greedy.IMAGES))
  compiled = sign_model.hard_loss(problem.apply_fn, kind)

  def measure(signs: np.ndarray) -> float:
    return float(compiled(problem.params, problem.units, signs, *few))

  known = statistics.oriented(problem, measure) if informed else []
  queries = view.oracle.used if view.oracle else 0
  marks = set(budget.marks())
  spent = 0
  best = np.inf
  chosen = np.ones(problem.size, np.float32)
  each = max(budget.steps // starts, 1)
  for i in range(starts):
    theta = rng.normal(0, _SPREAD, problem.size).astype(np.float32)
    if i < len(known):
      theta = np.clip(TRUST * known[i], -1, 1)
    path = descend(problem, data, kind, theta, each, learning_rate, rng)
    for done, at in path:
      spent += 1
      if spent in marks or done == each:
        found = measure(rounded(at))
        if found < best:
          best, chosen = found, at
        yield Cost(spent, queries), rounded(chosen), best
  order = problem.free[np.argsort(np.abs(chosen[problem.free]), kind="stable")]
  if best < _SOLVED:
    return
  flips = greedy.flips(problem, rounded(chosen), data, kind, order)
  *_, (tries, signs, best) = itertools.islice(flips, budget.steps)
  yield Cost(spent + tries, queries), signs, best


def _attack(
  view: View, budget: Budget, loss: str | Loss, **setting: Any
) -> Iterator[Claim]:
  problem = sign_model.pose(view)
  data = sign_model.examples(view, loss, budget.seed)
  for cost, signs, found in solve(view, problem, data, budget, loss, **setting):
    yield Claim(sign_model.key_of(problem, signs), cost, {"loss": found})


_BLIND = {"informed": False, "starts": 3}


@registry.register(
  "hpnn_relax",
  Goal.FUNCTION,
  ("hpnn",),
  Attacker(images=1),
  ({}, {"starts": 3}, {"learning_rate": 0.1}, _BLIND),
  referee=sign_referees.function_referee,
)
def relax(view: View, budget: Budget, **setting: Any) -> Iterator[Claim]:
  """Fit the signs to labelled images; see `solve` for the settings."""
  return _attack(view, budget, view.task.loss, **setting)


@registry.register(
  "hpnn_relax_oracle",
  Goal.KEY,
  ("hpnn",),
  Attacker(queries=1),
  (
    {"loss": "mse"},
    {"loss": "mse", "starts": 3},
    {"loss": "kl"},
    {"loss": "jsd"},
    {"loss": "jsd", **_BLIND},
  ),
  referee=sign_referees.key_referee,
  classes_only=True,
)
def relax_oracle(
  view: View, budget: Budget, loss: str = "mse", **setting: Any
) -> Iterator[Claim]:
  """Fit the signs to the authorised logits; see `solve` for the settings."""
  return _attack(view, budget, loss, **setting)
