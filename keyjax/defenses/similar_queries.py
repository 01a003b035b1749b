"""A detector of similar queries, for a server that answers with a model.

Attacks without gradients send many inputs that differ by little; ordinary users
do not. A query is flagged if it is nearer to an earlier one than ordinary
inputs are to each other.

Guarantees:
  None. A naive search is flagged at its second query.

Known breaks:
  Adaptive attacks measure the threshold with a few queries and step around it
  (Ryan Feng et al., "Stateful defenses for machine learning models are not yet
  secure against black-box attacks", CCS 2023). Several accounts share a search.
  An attacker with the file needs no queries.

Reference:
  Steven Chen, Nicholas Carlini and David Wagner, "Stateful detection of
  black-box adversarial attacks", SPAI 2020.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Queries(NamedTuple):
  """The latest queries of one client.

  Attributes:
    threshold: float32[], l2 distance below which a query is flagged.
    latest: float32[capacity, d], the queries, flattened; the oldest is
      replaced.
    sent: int32[], number of queries so far.
  """

  threshold: jax.Array
  latest: jax.Array
  sent: jax.Array


def threshold(inputs: np.ndarray, quantile: float = 0.01) -> float:
  """Return the distance that a share of ordinary inputs is nearer than.

  Args:
    inputs: float[n, ...], ordinary inputs, at least 2.
    quantile: Share of the inputs that may be flagged.

  Raises:
    ValueError: If there are fewer than 2 inputs, or the quantile is not
      between 0 and 1.

  Example:
    >>> threshold(np.asarray([[0.0], [1.0], [3.0]]), 0.5)
    1.0
  """
  if len(inputs) < 2 or not 0 < quantile < 1:
    raise ValueError(
      f"{len(inputs)} inputs, quantile={quantile}: at least 2 inputs, and a "
      "quantile between 0 and 1"
    )
  flat = np.asarray(inputs, np.float64).reshape(len(inputs), -1)
  nearest = [
    np.delete(np.square(flat - x).sum(-1), i).min() for i, x in enumerate(flat)
  ]
  return float(np.sqrt(np.quantile(nearest, quantile)))


def start(
  threshold: float, shape: tuple[int, ...], capacity: int = 1000
) -> Queries:
  """Return the state of a client that has sent nothing.

  Args:
    threshold: From `threshold`.
    shape: Shape of one input.
    capacity: Number of queries that are compared with.

  Raises:
    ValueError: If the threshold or the capacity is not above 0.
  """
  if not threshold > 0 or capacity < 1:
    raise ValueError(f"threshold={threshold}, capacity={capacity}: above 0")
  latest = jnp.zeros((capacity, int(np.prod(shape))), jnp.float32)
  return Queries(jnp.float32(threshold), latest, jnp.int32(0))


def flag(state: Queries, inputs: jax.Array) -> tuple[Queries, jax.Array]:
  """Return the state after some queries, and which of them are flagged.

  Args:
    state: State of the client.
    inputs: float[n, ...], in the order in which they were sent.

  Returns:
    The state, and bool[n]. An input that is not finite is flagged.

  Example:
    >>> state = start(0.5, (1,))
    >>> state, flags = flag(state, jnp.asarray([[0.0], [2.0], [0.1]]))
    >>> flags.tolist(), int(state.sent)
    ([False, False, True], 3)
  """
  flat = inputs.reshape(len(inputs), -1).astype(jnp.float32)

  def one(state: Queries, x: jax.Array) -> tuple[Queries, jax.Array]:
    capacity = len(state.latest)
    distances = jnp.sqrt(jnp.square(state.latest - x[None]).sum(-1))
    used = jnp.arange(capacity) < state.sent
    near = jnp.where(used, distances, jnp.inf).min() < state.threshold
    finite = jnp.isfinite(x).all()
    kept = state.latest.at[state.sent % capacity].set(x)
    new = Queries(
      state.threshold,
      jnp.where(finite, kept, state.latest),
      state.sent + finite.astype(jnp.int32),
    )
    return new, near | ~finite

  return jax.lax.scan(one, state, flat)
