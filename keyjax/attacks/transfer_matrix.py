"""Transfer: inputs crafted on each model, tried on all the others.

What fools one model often fools another that learned the same task, of another
kind, from other data, or under another key. Not always: two models may use
different features (`xor_artefact`).

References:
  Nicolas Papernot, Patrick McDaniel and Ian Goodfellow, "Transferability in
  machine learning: from phenomena to black-box attacks using adversarial
  samples", arXiv 1605.07277, 2016. Florian Tramer, Nicolas Papernot, Ian
  Goodfellow, Dan Boneh and Patrick McDaniel, "The space of transferable
  adversarial examples", arXiv 1704.03453, 2017.
"""

import functools
import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.attacks import intervals
from keyjax.attacks.evasion import problem
from keyjax.attacks.evasion.keyed import Attack, as_pytree, transferable
from keyjax.attacks.evasion.problem import Bounds, Evasion, LogitsFn, Norm
from keyjax.attacks.substitute import Oracle

SIGNS = "random signs"
UNCHANGED = "unchanged"
_ROUNDING = 1e-5  # Error of a change's size, relative to epsilon.


class Share(NamedTuple):
  """Share of the inputs that a target misclassifies, with its 95 % interval."""

  error: float
  low: float
  high: float


def transfer_matrix(
  attack: Attack,
  models: Mapping[str, LogitsFn],
  inputs: jax.Array | np.ndarray,
  labels: jax.Array | np.ndarray,
  *,
  epsilon: float,
  norm: Norm = "linf",
  bounds: Bounds = (0.0, 1.0),
  oracles: Mapping[str, Oracle] | None = None,
  rng: jax.Array,
) -> dict[str, dict[str, Share]]:
  """Return the error of every target on inputs crafted on every source.

  Two more rows are the controls: changes of the same size without a model
  (`SIGNS`), and inputs as they are (`UNCHANGED`). An attack transfers as far as
  its error is above these.

  Attacks are made `transferable`: they also change what their source has wrong
  already.

  Args:
    attack: `fgsm`, `bim`, `pgd` or another attack of `evasion` that takes
      epsilon, norm and bounds, and may take rng; with its other options set by
      `functools.partial`. It compiles once for each model, and once for all
      `jax.tree_util.Partial(apply_fn, params)` of the same `apply_fn`.
    models: Sources, each also a target: functions from inputs to logits. The
      mean of several models' logits is a source as well.
    inputs: float[n, ...].
    labels: int[n].
    epsilon: Largest size of a change.
    norm: "linf", "l2" or "l1".
    bounds: Least and greatest value of a pixel.
    oracles: Further targets: functions on the host from inputs to labels,
      int[n], each called once for each row of the result.
    rng: PRNG key of the attacks and of the random signs.

  Returns:
    `result[source][target]`, with n inputs each.

  Raises:
    ValueError: If an argument is wrong, an attack leaves its ball, or logits
      or gradients are not finite.

  Example:
    >>> from keyjax.attacks.evasion import fgsm
    >>> inputs, labels = jnp.full((8, 1), 0.6), jnp.ones(8, jnp.int32)
    >>> models = {"a": lambda x: jnp.concatenate([0.5 - x, x], -1)}
    >>> oracles = {"b": lambda x: (x[:, 0] > 0.55).astype(int)}
    >>> found = transfer_matrix(fgsm, models, inputs, labels, epsilon=0.1,
    ...   oracles=oracles, rng=jax.random.key(0))
    >>> found["a"]["b"].error, found["unchanged"]["b"].error
    (1.0, 0.0)
  """
  oracles = oracles or {}
  _check_names([*models], [*oracles])
  inputs, labels = jnp.asarray(inputs), jnp.asarray(labels)
  for logits_fn in models.values():
    problem.check(
      logits_fn, inputs, labels, epsilon=epsilon, norm=norm, bounds=bounds
    )
  radius = jnp.asarray(epsilon, inputs.dtype)
  ball = _Ball(inputs, labels, radius, norm, bounds)
  rows = {
    name: ball.craft(name, attack, logits_fn, rng)
    for name, logits_fn in models.items()
  }
  rows[SIGNS] = ball.random_signs(problem.batch_rng(rng))
  rows[UNCHANGED] = inputs
  wrong = {
    **{k: functools.partial(_model_errors, k, f) for k, f in models.items()},
    **{k: functools.partial(_oracle_errors, k, f) for k, f in oracles.items()},
  }
  return {
    source: {
      target: _share(errors(changed, labels))
      for target, errors in wrong.items()
    }
    for source, changed in rows.items()
  }


class _Ball(NamedTuple):
  """The inputs, and how far they may be changed."""

  inputs: jax.Array
  labels: jax.Array
  epsilon: jax.Array
  norm: Norm
  bounds: Bounds

  def craft(
    self, name: str, attack: Attack, logits_fn: LogitsFn, rng: jax.Array
  ) -> jax.Array:
    compiled = _compiled(attack, self.norm, self.bounds)
    model = as_pytree(logits_fn)
    found = compiled(model, self.inputs, self.labels, self.epsilon, rng)
    problem.refuse_nan(found, f"attack on {name!r}")
    sizes = problem.sizes(found.inputs - self.inputs, self.norm)
    beyond = sizes > self.epsilon * (1 + _ROUNDING) + _ROUNDING
    low, high = self.bounds
    outside = (found.inputs < low).any() | (found.inputs > high).any()
    if beyond.any() or outside:
      raise ValueError(
        f"attack on {name!r}: {beyond.sum()} changes are above epsilon, or "
        "pixels are outside the bounds"
      )
    return found.inputs

  def random_signs(self, rng: jax.Array) -> jax.Array:
    signs = jax.random.rademacher(rng, self.inputs.shape, self.inputs.dtype)
    move = self.epsilon * problem.steepest(signs, self.norm, 1.0)
    moved = self.inputs + move
    return problem.project(
      self.inputs, moved, self.epsilon, self.norm, self.bounds
    )


# The model is an argument: one program serves all that are pytrees alike.
@functools.lru_cache(maxsize=16)
def _compiled(attack: Attack, norm: Norm, bounds: Bounds) -> Attack:
  always = transferable(attack)
  takes_rng = "rng" in inspect.signature(attack).parameters

  @jax.jit
  def craft(
    logits_fn: LogitsFn,
    inputs: jax.Array,
    labels: jax.Array,
    epsilon: jax.Array,
    rng: jax.Array,
  ) -> Evasion:
    more = {"rng": rng} if takes_rng else {}
    ball: dict[str, Any] = {"epsilon": epsilon, "norm": norm, "bounds": bounds}
    return always(logits_fn, inputs, labels, **ball, **more)

  return craft


def _model_errors(
  name: str, logits_fn: LogitsFn, inputs: jax.Array, labels: jax.Array
) -> np.ndarray:
  logits = logits_fn(inputs)
  if not jnp.isfinite(logits).all():
    raise ValueError(
      f"models[{name!r}] returns logits that are NaN or infinite"
    )
  return np.asarray(problem.misclassified(logits, labels))


def _oracle_errors(
  name: str, oracle: Oracle, inputs: jax.Array, labels: jax.Array
) -> np.ndarray:
  found = np.asarray(oracle(np.asarray(inputs)))
  integers = np.issubdtype(found.dtype, np.integer)
  if not integers or found.shape != labels.shape:
    raise ValueError(
      f"oracles[{name!r}] returns {found.dtype}{list(found.shape)}: expected "
      f"integers, {list(labels.shape)}"
    )
  return found != np.asarray(labels)


def _share(wrong: np.ndarray) -> Share:
  hits = int(wrong.sum())
  return Share(hits / len(wrong), *intervals.clopper_pearson(hits, len(wrong)))


def _check_names(models: list[str], oracles: list[str]) -> None:
  if not models:
    raise ValueError("models is empty: pass at least one source")
  names = models + oracles
  taken = {SIGNS, UNCHANGED}
  bad = {n for n in names if n in taken or names.count(n) > 1}
  if bad:
    raise ValueError(
      f"models and oracles: {', '.join(sorted(bad))}: names must differ from "
      f"each other and from {SIGNS!r} and {UNCHANGED!r}"
    )
