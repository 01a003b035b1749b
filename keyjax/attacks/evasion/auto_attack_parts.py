"""The attacks of AutoAttack: their settings, their parts, compiled once."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from keyjax.attacks.evasion import problem
from keyjax.attacks.evasion.auto_pgd import apgd, apgd_targeted
from keyjax.attacks.evasion.fast_boundary import fab
from keyjax.attacks.evasion.losses import loss_of
from keyjax.attacks.evasion.problem import Bounds, Evasion, Norm
from keyjax.attacks.evasion.square_attack import square

_WINDOWS = (20, 100, 300, 1000, 2500)  # Of Square: queries between parts.
_KEPT = 32  # Compiled attacks, each with its logits_fn.


class Settings(NamedTuple):
  """Settings of all attacks of a version."""

  epsilon: float
  norm: Norm
  version: str
  bounds: Bounds
  steps: int
  n_queries: int
  randomized: bool

  @property
  def shrinks(self) -> bool:
    """Whether APGD searches larger balls first."""
    return self.norm == "l1" and self.version == "standard"

  @property
  def restarts(self) -> int:
    """Random starts of APGD without targets."""
    return 5 if self.shrinks or self.version == "plus" else 1


class Part(NamedTuple):
  """A part of an attack; examples that it fools are dropped before the next."""

  number: Any
  start: jax.Array  # float[n, ...], what the part before returned.


def _apgd(settings: Settings, loss: str) -> dict[str, Any]:
  return {
    "loss": loss,
    "steps": settings.steps,
    "shrinking": settings.shrinks,
    "randomized": settings.randomized,
    "eot_iter": 20 if settings.version == "rand" else 1,
  }


def _window(settings: Settings, part: Part) -> tuple[Any, Any]:
  """Return the queries of a part: few at first, when most succeed."""
  ends = [min(x, settings.n_queries) for x in (0, *_WINDOWS)]
  at = jnp.asarray([*ends, settings.n_queries], jnp.int32)
  return at[part.number], at[part.number + 1]


class Attack(NamedTuple):
  """An attack of the ensemble.

  Attributes:
    function: The attack.
    options: Its arguments, from the settings and a part.
    parts: The number of parts.
  """

  function: Callable[..., Evasion]
  options: Callable[[Settings, Part], dict[str, Any]]
  parts: Callable[[Settings], int] = lambda settings: 1


ATTACKS = {
  "apgd_ce": Attack(
    apgd, lambda s, part: _apgd(s, "cross_entropy"), lambda s: s.restarts
  ),
  "apgd_dlr": Attack(
    apgd, lambda s, part: _apgd(s, "dlr"), lambda s: s.restarts
  ),
  "apgd_t": Attack(
    apgd_targeted,
    lambda s, part: {
      "steps": s.steps,
      "n_targets": 1,
      "skip": part.number,
      "shrinking": s.shrinks,
    },
    lambda s: 5 if s.shrinks else 9,
  ),
  "fab": Attack(
    fab, lambda s, part: {"steps": s.steps, "restarts": 5, "n_targets": None}
  ),
  "fab_t": Attack(
    fab,
    lambda s, part: {"steps": s.steps, "n_targets": 1, "skip": part.number},
    lambda s: 9,
  ),
  "square": Attack(
    square,
    lambda s, part: {
      "n_queries": s.n_queries,
      "rescale_schedule": False,
      "start": part.start,
      "window": _window(s, part),
    },
    lambda s: 1 + sum(x < s.n_queries for x in _WINDOWS),
  ),
}


class Model:
  """A model that takes a PRNG key, and is equal only to itself.

  Whatever its function compares like, compiled attacks are kept for it.
  """

  def __init__(
    self, function: Callable[..., jax.Array], randomized: bool
  ) -> None:
    self.function = function
    self.randomized = randomized

  def __call__(self, x: jax.Array, rng: jax.Array) -> jax.Array:
    """Return logits of at least 32 bits."""
    arguments = (x, rng) if self.randomized else (x,)
    return problem.as_float(self.function(*arguments))

  def __eq__(self, other: object) -> bool:
    if not isinstance(other, Model):
      return False
    same = self.function is other.function
    return same and self.randomized == other.randomized

  def __hash__(self) -> int:
    return id(self.function)


@functools.lru_cache(maxsize=_KEPT)
def compiled(
  name: str, model: Model, settings: Settings
) -> Callable[..., Evasion]:
  """Return an attack; the same one for the same model and settings.

  Args:
    name: Name of `ATTACKS`.
    model: Model to attack.
    settings: Settings of all attacks.

  Returns:
    A function of inputs, labels, a PRNG key for each and what the part before
    returned; and of `number`, that of the part.
  """
  attack = ATTACKS[name]

  @jax.jit
  def run(
    x: jax.Array, y: jax.Array, rngs: jax.Array, start: Any, *, number: Any
  ) -> Evasion:
    found = attack.function(
      model.function,
      x,
      y,
      epsilon=settings.epsilon,
      norm=settings.norm,
      bounds=settings.bounds,
      rng=rngs,
      **attack.options(settings, Part(number, start)),
    )
    if model.randomized:  # A success must hold for another draw.
      last = jax.random.fold_in(rngs[0], 1)
      hit = problem.misclassified(model(found.inputs, last), y)
      found = found._replace(success=hit)
    return found

  return run


@functools.lru_cache(maxsize=_KEPT)
def predict(model: Model) -> Callable[..., jax.Array]:
  """Return the logits of inputs, a function of labels and PRNG keys too."""
  return jax.jit(lambda x, y, rngs: model(x, rngs[0]))


@functools.lru_cache(maxsize=_KEPT)
def find_flat(
  model: Model, classes: int, settings: Settings
) -> Callable[..., jax.Array]:
  """Return whether gradients at random points are zero."""
  name = "dlr" if classes > 2 else "cross_entropy"

  @jax.jit
  def flat(x: jax.Array, y: jax.Array, rngs: jax.Array) -> jax.Array:
    start = problem.random_start(
      rngs, x, settings.epsilon, settings.norm, settings.bounds
    )
    _, _, gradient = problem.value_and_gradient(
      lambda x: model(x, rngs[0]), loss_of(name, y), start
    )
    return problem.sizes(gradient, "linf") == 0

  return flat
