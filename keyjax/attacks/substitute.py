"""A substitute for a model that only answers with labels.

The attacker has a few inputs and a black box: the owner's network behind an
API, or a model of any other kind. They train a network of their own on the
labels that the box returns, change the inputs in the directions in which this
substitute varies most, query the results, and repeat. Adversarial inputs for
the substitute then often fool the box as well (`transfer_matrix`).

A key inside the box is no obstacle: queries pass through it like those of any
other user.

References:
  Nicolas Papernot, Patrick McDaniel, Ian Goodfellow, Somesh Jha, Z. Berkay
  Celik and Ananthram Swami, "Practical black-box attacks against machine
  learning", AsiaCCS 2017, arXiv 1602.02697 (Jacobian augmentation). Nicolas
  Papernot, Patrick McDaniel and Ian Goodfellow, "Transferability in machine
  learning: from phenomena to black-box attacks using adversarial samples",
  arXiv 1605.07277, 2016 (alternating sign, reservoir sampling, other models).
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.attacks.evasion import checks, problem
from keyjax.attacks.evasion.losses import cross_entropy
from keyjax.attacks.fit import Recipe, fit
from keyjax.attacks.forward import logits
from keyjax.attacks.game import Examples, Model
from keyjax.scheme import ApplyFn, PyTree

Oracle = Callable[[np.ndarray], Any]  # float[n, ...] -> int[n], on the host.

_BATCH = 500  # Inputs of a forward pass that measures agreement.
_DEFAULT = Recipe()


class Substitute(NamedTuple):
  """A trained substitute.

  Attributes:
    params: Variables of the substitute.
    queries: Number of inputs that the oracle labelled.
    agreement: float64[rounds + 1], share of the held-out inputs on which the
      substitute agrees with the oracle, after each training; empty without
      held-out inputs.
  """

  params: PyTree
  queries: int
  agreement: np.ndarray


class _Augmentation(NamedTuple):
  """How inputs of a round become those of the next."""

  step: float
  flip_every: int
  reservoir: int
  reservoir_after: int
  bounds: problem.Bounds

  def check(self) -> None:
    if not 0 < self.step < math.inf:
      raise ValueError(f"step is {self.step}: it must be finite and above 0")
    _at_least(1, flip_every=self.flip_every, reservoir=self.reservoir)
    _at_least(0, reservoir_after=self.reservoir_after)

  def choose(self, round_: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return the rows to change.

    They have the law of reservoir sampling, which does not know n in advance.
    """
    if round_ < self.reservoir_after or n <= self.reservoir:
      return np.arange(n)
    return np.sort(rng.choice(n, self.reservoir, replace=False))

  def move(
    self, round_: int, inputs: np.ndarray, slopes: np.ndarray
  ) -> np.ndarray:
    sign = -1 if round_ // self.flip_every % 2 else 1
    return np.clip(inputs + sign * self.step * np.sign(slopes), *self.bounds)


def substitute(
  oracle: Oracle,
  apply_fn: ApplyFn,
  params: PyTree,
  seeds: np.ndarray,
  *,
  rounds: int = 6,
  step: float = 0.1,
  flip_every: int = 3,
  reservoir: int = 400,
  reservoir_after: int = 3,
  train_steps: int = 200,
  recipe: Recipe = _DEFAULT,
  bounds: problem.Bounds = (0.0, 1.0),
  held_out: Examples | None = None,
  seed: int = 0,
) -> Substitute:
  """Train a substitute on an oracle's labels, by Jacobian augmentation.

  A round adds `x + step sign(dF_c / dx)` for inputs x so far, where c is the
  oracle's label and F the substitute's probabilities. With n seeds the oracle
  labels `n 2^a + reservoir (rounds - a)` inputs, each once, for
  `a = min(rounds, reservoir_after)`, if no round has fewer than `reservoir`.

  Args:
    oracle: Function from inputs to labels on the host, int[n]; called once for
      the seeds and once in each round.
    apply_fn: Forward pass of the substitute, as in `fit`; training compiles
      once for the same function.
    params: Initial variables of the substitute.
    seeds: float[n, ...], the attacker's first inputs, of all classes.
    rounds: Number of augmentations (rho); the substitute trains before the
      first and after each.
    step: Size of a change in each pixel (lambda).
    flip_every: Rounds after which the sign of the change alternates (tau).
    reservoir: Number of inputs, drawn at random, that later rounds change
      (kappa).
    reservoir_after: Rounds that change all inputs before (sigma).
    train_steps: Steps of each training, which continues the one before.
    recipe: Other settings of training; a batch has no more than n inputs.
    bounds: Least and greatest value of a pixel.
    held_out: Inputs on which agreement is measured, with the oracle's labels.
      The caller asks for these; they are not part of `queries`.
    seed: Seed of the reservoir and of the order of the inputs.

  Raises:
    ValueError: If an argument is wrong, if the oracle does not return a class
      of the substitute for each input, or if training diverges.

  Example:
    >>> def apply_fn(params, x):
    ...   return x @ params["kernel"]
    >>> zero = {"kernel": np.zeros((2, 2), np.float32)}
    >>> def oracle(x):
    ...   return (x[:, 0] < x[:, 1]).astype(int)
    >>> seeds = np.asarray([[0.4, 0.6], [0.6, 0.4]], np.float32)
    >>> found = substitute(oracle, apply_fn, zero, seeds, rounds=2)
    >>> found.queries, apply_fn(found.params, seeds).argmax(-1).tolist()
    (8, [1, 0])
  """
  plan = _Augmentation(step, flip_every, reservoir, reservoir_after, bounds)
  plan.check()
  _at_least(0, rounds=rounds)
  _at_least(1, train_steps=train_steps)
  given = jnp.asarray(seeds)
  checks.check_inputs(given, bounds)
  classes = checks.count_classes(functools.partial(apply_fn, params), given)
  seeds = np.asarray(seeds)
  if held_out is not None:
    checks.check_classes(
      "held_out", held_out.label, len(held_out.image), classes
    )
  # A batch that grew with the data would compile again.
  recipe = recipe._replace(batch_size=min(recipe.batch_size, len(seeds)))
  rng = np.random.default_rng([seed, 5])
  data = Examples(seeds, _ask(oracle, seeds, classes))
  agreement = []
  for i in range(rounds + 1):
    fits = fit(apply_fn, params, data, [train_steps], recipe, seed)
    params = next(fits).params
    _require_finite(params)
    if held_out is not None:
      agreement.append(_agreement(apply_fn, params, held_out))
    if i < rounds:
      rows = plan.choose(i, len(data.label), rng)
      inputs, labels = data.image[rows], data.label[rows]
      new = plan.move(i, inputs, _slopes(apply_fn, params, inputs, labels))
      data = Examples(
        np.concatenate([data.image, new]),
        np.concatenate([data.label, _ask(oracle, new, classes)]),
      )
  return Substitute(params, len(data.label), np.asarray(agreement))


def _at_least(least: int, **values: int) -> None:
  for name, value in values.items():
    if value < least:
      raise ValueError(f"{name} is {value}: at least {least} is needed")


def _ask(oracle: Oracle, inputs: np.ndarray, classes: int) -> np.ndarray:
  labels = np.asarray(oracle(inputs))
  checks.check_classes("labels of the oracle", labels, len(inputs), classes)
  return labels.astype(np.int32)


def _slopes(
  apply_fn: ApplyFn, params: PyTree, inputs: np.ndarray, labels: np.ndarray
) -> np.ndarray:
  """Return the gradients of the log probabilities of labels, float[n, ...].

  Their signs are those of the gradients of the probabilities, which underflow.
  """
  found = np.asarray(_compiled(apply_fn)(params, inputs, labels))
  _require_finite(found)
  return found


def _require_finite(values: PyTree) -> None:
  if not all(np.isfinite(x).all() for x in jax.tree.leaves(values)):
    raise ValueError(
      "substitute: weights or gradients are NaN or infinite: training "
      "diverged; lower the learning rate of recipe"
    )


@functools.lru_cache(maxsize=16)
def _compiled(apply_fn: ApplyFn) -> Callable[..., jax.Array]:
  @jax.jit
  def slopes(params: PyTree, inputs: jax.Array, labels: jax.Array) -> jax.Array:
    def log_probability(logits: jax.Array) -> jax.Array:
      return -cross_entropy(logits, labels)

    forward = functools.partial(apply_fn, params)
    return problem.value_and_gradient(forward, log_probability, inputs)[2]

  return slopes


def _agreement(apply_fn: ApplyFn, params: PyTree, held_out: Examples) -> float:
  found = logits(Model(params, apply_fn), held_out.image, _BATCH)
  return float((found.argmax(-1) == held_out.label).mean())
