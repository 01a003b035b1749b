"""Saturated networks: a penalty on hidden units that are not saturated.

Guarantees:
  None. It lowers the success of gradient attacks, in part by lowering the
  gradients.

Known breaks:
  Attacks on stabilised gradients (Wieland Brendel and Matthias Bethge,
  "Comment on 'Biologically inspired protection of deep networks from
  adversarial attacks'", 2017), and attacks without gradients.

Reference:
  Aran Nayebi and Surya Ganguli, "Biologically inspired protection of deep
  networks from adversarial attacks", 2017.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

_DISTANCES: dict[str, Callable[[jax.Array], jax.Array]] = {
  # To the nearest point where the derivative is 0.
  "sigmoid": lambda h: h * (1 - h),
  "tanh": lambda h: 1 - h**2,
  "relu": jnp.abs,
}


def saturation(
  hidden: Sequence[jax.Array], activation: str = "sigmoid"
) -> jax.Array:
  """Return how far hidden units are from saturation, float[n].

  Add its mean times a weight, which grows during training, to the loss.

  Args:
    hidden: Outputs of hidden layers, each float[n, ...]; of Flax modules from
      `capture_intermediates`.
    activation: "sigmoid", "tanh" or "relu".

  Returns:
    The sum over all units of all layers, of each example.

  Raises:
    ValueError: If the activation is unknown, or there is no layer.

  Example:
    >>> saturation([jnp.asarray([[0.5, 1.0]])]).tolist()
    [0.25]
  """
  if activation not in _DISTANCES:
    known = ", ".join(_DISTANCES)
    raise ValueError(f"activation={activation!r}: choose from {known}")
  if not hidden:
    raise ValueError("hidden: no layer is given")
  distance = _DISTANCES[activation]
  return sum(distance(h).reshape(len(h), -1).sum(-1) for h in hidden)  # type: ignore[return-value]
