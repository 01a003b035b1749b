"""Masked gradients: seven checks that a robust accuracy is not an illusion.

An attack that fails because its gradients are useless says nothing about the
model. Each check compares two results that masked gradients turn round, such as
those of queries and of gradients:

    zero_gradients      gradients that are exactly zero
    single_step         one step breaks more than many
    black_box           queries, or another model's gradients, break more
    unbounded           a change of any size does not break every input
    noise               random changes of the same size break more
    rescaled_loss       the loss of logits / T, or of their margin, breaks more
    hidden_steps        two passes differ; or the mean over random draws (EOT),
                        or a straight-through gradient (BPDA), breaks more

Guarantees:
  A check is suspicious only if an exact interval of 95 % lies above the
  tolerance, whatever the number of comparisons in it.

Known breaks:
  No sign of masking is no proof of robustness: an attack that is made for the
  defence may break what all of these miss. Few inputs show only gross masking;
  the intervals say what they leave open.

Reference:
  Anish Athalye, Nicholas Carlini and David Wagner, "Obfuscated gradients give a
  false sense of security", ICML 2018. Nicholas Carlini et al., "On evaluating
  adversarial robustness", 2019. Florian Tramer, Nicholas Carlini, Wieland
  Brendel and Aleksander Madry, "On adaptive attacks to adversarial example
  defenses", NeurIPS 2020.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.attacks.evasion import checks, problem
from keyjax.attacks.evasion.problem import Bounds, LogitsFn, Norm
from keyjax.defenses.audit_attacks import Model, one_draw, outcomes
from keyjax.defenses.audit_findings import Audit, judge


def audit(
  logits_fn: Model,
  inputs: jax.Array | np.ndarray,
  labels: jax.Array | np.ndarray,
  *,
  epsilon: float,
  norm: Norm = "linf",
  substitute_fn: LogitsFn | None = None,
  bound_epsilon: float | None = None,
  bpda: Model | None = None,
  is_random: bool = False,
  steps: int = 40,
  n_queries: int = 500,
  noise_draws: int = 100,
  eot_draws: int = 16,
  temperatures: Sequence[float] = (10.0, 100.0, 1000.0),
  tolerance: float = 0.05,
  bounds: Bounds = (0.0, 1.0),
  rng: jax.Array,
) -> Audit:
  """Look for signs that attacks fail only because gradients are masked.

  Compiles once, with the model's weights as constants. For many weights or
  keys, jit `audit_attacks.outcomes` with these as arguments, and `judge` what
  it returns.

  Args:
    logits_fn: Function from inputs to logits, float[n, classes]; from inputs
      and a PRNG key if `is_random`. The gradients audited are its own.
    inputs: float32[n, ...], of a shape that `square` takes; 100 or more to
      tell moderate masking from chance.
    labels: int[n].
    epsilon: Size of the changes that robustness is claimed for.
    norm: "linf", "l2" or "l1".
    substitute_fn: Another model of the same task, without the defence, whose
      gradients are tried too.
    bound_epsilon: Size in the linf norm, whatever `norm` is, at which no input
      can be safe; by default the whole range of a pixel.
    bpda: The same model with a usable gradient, as `evasion.bpda` makes it;
      called as `logits_fn` is.
    is_random: Whether logits_fn takes a PRNG key. The plain attacks see one
      draw.
    steps: Steps of PGD.
    n_queries: Queries of Square.
    noise_draws: Random changes of each input.
    eot_draws: Draws that EOT averages.
    temperatures: Divisors of the logits in the rescaled loss.
    tolerance: Share of the inputs above which a difference matters.
    bounds: Least and greatest value of a pixel.
    rng: PRNG key.

  Returns:
    The audit, on the host.

  Raises:
    ValueError: If an argument is wrong, the logits are probabilities or not
      finite, or the model gets no input right.

  Example:
    >>> x = jax.random.uniform(jax.random.key(0), (100, 3))
    >>> honest = lambda x: 4 * x
    >>> saturated = lambda x: 2.0**20 * x
    >>> rng = jax.random.key(1)
    >>> audit(honest, x, x.argmax(-1), epsilon=0.1, rng=rng).masked
    False
    >>> audit(saturated, x, x.argmax(-1), epsilon=0.1, rng=rng).suspicious
    ('zero_gradients', ...)
  """
  inputs, labels = jnp.asarray(inputs), jnp.asarray(labels)
  model = one_draw(logits_fn, is_random, rng)
  problem.check(
    model, inputs, labels, epsilon=epsilon, norm=norm, bounds=bounds
  )
  checks.check_epsilon(bound_epsilon)
  classes = checks.count_classes(model, inputs)
  if substitute_fn is not None:
    _check_classes("substitute_fn", substitute_fn, inputs, classes)
  if bpda is not None:
    _check_classes("bpda", one_draw(bpda, is_random, rng), inputs, classes)
  run = functools.partial(
    outcomes,
    logits_fn,
    epsilon=epsilon,
    norm=norm,
    substitute_fn=substitute_fn,
    bound_epsilon=bound_epsilon,
    bpda=bpda,
    is_random=is_random,
    steps=steps,
    n_queries=n_queries,
    noise_draws=noise_draws,
    eot_draws=eot_draws,
    temperatures=temperatures,
    bounds=bounds,
  )
  return judge(jax.jit(run)(inputs, labels, rng=rng), tolerance=tolerance)


def _check_classes(
  name: str, logits_fn: LogitsFn, inputs: jax.Array, classes: int
) -> None:
  found = checks.count_classes(logits_fn, inputs)
  if found != classes:
    raise ValueError(f"{name} has {found} classes, logits_fn {classes}")
