"""Attacks of `config.robustness`: names, norms, and what each one needs."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from keyjax.attacks import evasion
from keyjax.attacks.evasion import problem
from keyjax.attacks.evasion.problem import Evasion

_ALL = ("linf", "l2", "l1")


class Entry(NamedTuple):
  """An attack.

  Attributes:
    function: The attack.
    norms: Its norms.
    options: Default options.
    needs_gradient: Whether it differentiates the model.
    least: Whether it minimises the distance, for all epsilons at once.
    random: Whether it takes an rng.
  """

  function: Callable[..., Any]
  norms: tuple[str, ...] = _ALL
  options: Mapping[str, Any] = {}
  needs_gradient: bool = True
  least: bool = False
  random: bool = True


def noise(
  logits_fn: problem.LogitsFn,
  inputs: jax.Array,
  labels: jax.Array,
  *,
  epsilon: Any,
  norm: problem.Norm = "linf",
  bounds: problem.Bounds = (0.0, 1.0),
  rng: jax.Array,
) -> Evasion:
  """Change inputs by epsilon at random: the control of every attack.

  Random signs for linf, a random direction for the other norms.
  """
  start = problem.random_start(rng, inputs, epsilon, norm, bounds)
  step = problem.steepest(start - inputs, norm)
  changed = jnp.clip(inputs + epsilon * step, *bounds)
  logits = problem.as_float(logits_fn(changed))
  return Evasion(
    inputs=changed,
    success=problem.misclassified(logits, labels),
    distance=problem.sizes(changed - inputs, norm),
    queries=jnp.ones_like(labels, jnp.int32),
    finite=problem.all_finite(logits),
  )


ATTACKS: dict[str, Entry] = {
  "noise": Entry(noise, needs_gradient=False),
  "fgsm": Entry(evasion.fgsm, random=False),
  "bim": Entry(evasion.bim, random=False),
  "pgd": Entry(evasion.pgd, options={"steps": 40, "restarts": 2}),
  "apgd": Entry(evasion.apgd),
  "apgd_t": Entry(evasion.apgd_targeted),
  "fab": Entry(evasion.fab),
  "square": Entry(
    evasion.square, options={"n_queries": 1000}, needs_gradient=False
  ),
  "deepfool": Entry(
    evasion.deepfool, norms=("l2", "linf"), least=True, random=False
  ),
  "carlini_wagner": Entry(
    evasion.carlini_wagner,
    norms=("l2",),
    options={
      "steps": 200,
      "binary_search_steps": 6,
      "initial_constant": 1.0,
      "learning_rate": 0.05,
    },
    least=True,
    random=False,
  ),
  "hop_skip_jump": Entry(
    evasion.hop_skip_jump,
    norms=("l2", "linf"),
    options={"budget": 2500},
    needs_gradient=False,
    least=True,
  ),
  # Runs in batches by itself: see `experiments.evasion.measure`.
  "autoattack": Entry(evasion.autoattack),
}


def get(where: str, name: str) -> Entry:
  """Return an attack by name.

  Args:
    where: Field of the config, for the error.
    name: Key of `ATTACKS`.

  Raises:
    ValueError: If there is none of that name.
  """
  if name not in ATTACKS:
    known = ", ".join(ATTACKS)
    raise ValueError(f"{where}.attack={name!r}: choose from {known}")
  return ATTACKS[name]


@functools.lru_cache(maxsize=32)
def batched(
  name: str,
  norm: str,
  size: int,
  options: tuple[tuple[str, Any], ...],
  transfers: bool,
) -> Callable[..., Evasion]:
  """Return an attack in batches of one compiled step.

  Args:
    name: Key of `ATTACKS`.
    norm: Norm of the change.
    size: Inputs of a batch.
    options: Options that differ from the entry's, in order.
    transfers: Whether the attacked model is not the one that is served: inputs
      that it misclassifies already are changed as well.
  """
  entry = ATTACKS[name]
  fixed = {**entry.options, **dict(options)}
  if len(entry.norms) > 1:
    fixed["norm"] = norm
  attack: Callable[..., Evasion] = functools.partial(entry.function, **fixed)
  if transfers:
    attack = evasion.transferable(attack)
  return evasion.in_batches(attack, size)
