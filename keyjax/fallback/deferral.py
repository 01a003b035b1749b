"""Learning to defer: a model that learns when a person would do better.

It has an output more than there are classes, the last one, for "ask". The loss
is a surrogate of the error of the model and the person together. Its minimum
over all functions asks exactly where the person is right with a greater
probability than the most probable class is.

Known breaks:
  The person whom it learned from: it does not notice that another one decides.
  A model that fits its training data perfectly learns that it needs nobody.

Reference:
  Hussein Mozannar and David Sontag, "Consistent estimators for learning to
  defer to an expert", ICML 2020, arXiv 2006.01862.
"""

import jax
import jax.numpy as jnp

from keyjax.attacks.evasion.problem import as_float
from keyjax.fallback.confidences import where_finite


def deferral_loss(
  logits: jax.Array, labels: jax.Array, expert: jax.Array
) -> jax.Array:
  """Return the surrogate loss, float[n].

  Args:
    logits: float[n, classes + 1]; the last one is for asking.
    labels: int[n].
    expert: float[n], what asking gains: 1 where the person is right and 0 where
      they are wrong, minus the cost of asking, in errors. With a person who is
      always right at a cost of c, the model learns to ask where the most
      probable class has a probability below 1 - c.

  Example:
    >>> logits = jnp.asarray([[0.0, 0.0, 9.0], [9.0, 0.0, 0.0]])
    >>> labels = jnp.asarray([0, 0])
    >>> deferral_loss(logits, labels, jnp.asarray([1.0, 0.0])).round(2).tolist()
    [9.0, 0.0]
  """
  logs = jax.nn.log_softmax(as_float(logits))
  picked = jnp.take_along_axis(logs, labels[:, None], -1)[:, 0]
  return -picked - jnp.asarray(expert, logs.dtype) * logs[:, -1]


def best_over_deferral(logits: jax.Array) -> jax.Array:
  """Return how far the best class is above asking, float[...].

  A confidence: `unless(best_over_deferral, above=0)` is the learned rule, and
  where it does not ask, the greatest logit is that of a class.

  Args:
    logits: float[..., classes + 1]; the last one is for asking.

  Example:
    >>> best_over_deferral(jnp.asarray([[0.0, 5.0, 2.0]])).tolist()
    [3.0]
  """
  logits = as_float(logits)
  return where_finite(logits, logits[..., :-1].max(-1) - logits[..., -1])
