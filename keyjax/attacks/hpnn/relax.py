"""HPNN: relax each key bit to tanh(theta) and descend.

The weights stay as they are. Several starts are trained with Adam on the
authorised model's logits, or on labels where there is no oracle; the start
with the lowest loss after rounding by sign is polished by single flips. The
first starts are what the weights speak for (`hpnn_statistics`), unless
`informed` is off, as published.

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

from keyjax.attacks import registry
from keyjax.attacks.game import Attacker, Budget, Claim, Cost, Goal
from keyjax.attacks.hpnn import greedy as hpnn_greedy
from keyjax.attacks.hpnn import score as hpnn_score
from keyjax.attacks.hpnn import signs as hpnn_signs
from keyjax.attacks.hpnn import statistics as hpnn_statistics
from keyjax.attacks.hpnn.signs import Problem
from keyjax.attacks.views import View
from keyjax.scheme import ApplyFn

_BATCH = 128
# Deviation of the first theta: at 0 a lock lets nothing through.
_SPREAD = 0.5
# Of the first theta, for each deviation that the weights speak for.
TRUST = 0.3
# Below this loss nothing is left to polish.
_SOLVED = 1e-9
_ADAM = optax.scale_by_adam()


@functools.lru_cache(maxsize=16)
def _step(apply_fn: ApplyFn, kind: str) -> Any:
  """Returns a compiled step over theta."""

  def loss_fn(theta: Any, params: Any, units: Any, x: Any, want: Any) -> Any:
    values = jnp.tanh(theta)
    logits = hpnn_signs.forward(apply_fn, params, units, values, x)
    return hpnn_signs.loss(kind, logits, want)

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
  this: Problem,
  data: tuple[Any, Any],
  kind: str,
  theta: np.ndarray,
  steps: int,
  learning_rate: float,
  rng: np.random.Generator,
) -> Iterator[tuple[int, np.ndarray]]:
  """Trains theta, and yields it after each step.

  Args:
    this: the unknowns.
    data: images, and what is wanted of them.
    kind: see `hpnn_signs.loss`.
    theta: float32[size], where to start; tanh of it are the signs.
    steps: how many.
    learning_rate: where a cosine to 0 starts.
    rng: of the order of the images.
  """
  step = _step(this.apply_fn, kind)
  at = jnp.asarray(theta)
  state = _ADAM.init(at)
  images, want = (np.asarray(x) for x in data)
  size, rows = min(_BATCH, len(want)), np.zeros(0, np.int64)
  for i in range(steps):
    if len(rows) < size:
      rows = rng.permutation(len(want))
    picked, rows = rows[:size], rows[size:]
    batch = jnp.asarray(images[picked]), jnp.asarray(want[picked])
    rate = jnp.float32(learning_rate * 0.5 * (1 + np.cos(np.pi * i / steps)))
    at, state = step(at, state, rate, this.params, this.units, batch)
    yield i + 1, np.asarray(at)


def rounded(theta: np.ndarray) -> np.ndarray:
  """Returns theta as signs."""
  return np.where(theta < 0, -1, 1).astype(np.float32)


def solve(
  view: View,
  this: Problem,
  data: tuple[Any, Any],
  budget: Budget,
  kind: str,
  learning_rate: float = 0.03,
  starts: int = 1,
  informed: bool = True,
) -> Iterator[tuple[Cost, np.ndarray, float]]:
  """Runs the attack, and yields cost, signs and loss on the way.

  Args:
    view: for what queries cost.
    this: the unknowns.
    data: images, and what is wanted of them.
    budget: `steps` of all starts together; as many flips polish the best.
    kind: see `hpnn_signs.loss`.
    learning_rate: of Adam.
    starts: how many times to begin.
    informed: whether to begin with what the weights speak for.
  """
  rng = np.random.default_rng(budget.seed)
  few = tuple(x[: hpnn_greedy.IMAGES] for x in data)
  compiled = hpnn_signs.hard_loss(this.apply_fn, kind)

  def measure(signs: np.ndarray) -> float:
    return float(compiled(this.params, this.units, signs, *few))

  known = hpnn_statistics.oriented(this, measure) if informed else []
  queries = view.oracle.used if view.oracle else 0
  marks, spent = set(budget.marks()), 0
  best, chosen = np.inf, np.ones(this.size, np.float32)
  each = max(budget.steps // starts, 1)
  for i in range(starts):
    theta = rng.normal(0, _SPREAD, this.size).astype(np.float32)
    if i < len(known):
      theta = np.clip(TRUST * known[i], -1, 1)
    path = descend(this, data, kind, theta, each, learning_rate, rng)
    for done, at in path:
      spent += 1
      if spent in marks or done == each:
        found = measure(rounded(at))
        if found < best:
          best, chosen = found, at
        yield Cost(spent, queries), rounded(chosen), best
  order = this.free[np.argsort(np.abs(chosen[this.free]), kind="stable")]
  if best < _SOLVED:
    return
  flips = hpnn_greedy.flips(this, rounded(chosen), data, kind, order)
  *_, (tries, signs, best) = itertools.islice(flips, budget.steps)
  yield Cost(spent + tries, queries), signs, best


def _attack(
  view: View, budget: Budget, loss: str, **setting: Any
) -> Iterator[Claim]:
  this = hpnn_signs.problem(view)
  data = hpnn_signs.examples(view, loss, budget.seed)
  for cost, signs, found in solve(view, this, data, budget, loss, **setting):
    yield Claim(hpnn_signs.key_of(this, signs), cost, {"loss": found})


_BLIND = {"informed": False, "starts": 3}


@registry.register(
  "hpnn_relax",
  Goal.FUNCTION,
  ("hpnn",),
  Attacker(images=1),
  ({}, {"starts": 3}, {"learning_rate": 0.1}, _BLIND),
  referee=hpnn_score.function_referee,
)
def relax(view: View, budget: Budget, **setting: Any) -> Iterator[Claim]:
  """Fits the signs to labelled images; see `solve` for the settings."""
  return _attack(view, budget, "ce", **setting)


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
  referee=hpnn_score.key_referee,
)
def relax_oracle(
  view: View, budget: Budget, loss: str = "mse", **setting: Any
) -> Iterator[Claim]:
  """Fits the signs to the authorised logits; see `solve` for the settings."""
  return _attack(view, budget, loss, **setting)
