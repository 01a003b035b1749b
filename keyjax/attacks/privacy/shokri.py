"""The shadow attack: a network for each class learns what members look like.

Shadow models are trained as the target was, on data whose membership the
attacker knows. For each class, an attack model with 64 hidden units learns to
tell their answers for members from those for others.

Needs: probabilities of the target, or whatever else of it, and shadow models;
none has to be trained with any of the judged examples. Cost: the trainings of
the shadow models (20 to 100 in the paper) and of the attack models, seconds on
a CPU; one query an example.

Source: Reza Shokri, Marco Stronati, Congzheng Song and Vitaly Shmatikov,
"Membership inference attacks against machine learning models", IEEE S&P 2017.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from keyjax.arguments import describe, positive, seed_number, whole_number
from keyjax.attacks.privacy import signals
from keyjax.scheme import PyTree


class Attack(NamedTuple):
  """Trained attack models.

  Attributes:
    classes: int64[c], the classes that have one, sorted.
    params: Their weights, with a first axis over them.
  """

  classes: np.ndarray
  params: PyTree


def fit(
  vectors: Any,
  labels: Any,
  members: Any,
  *,
  hidden: int = 64,
  steps: int = 1000,
  batch_size: int = 128,
  learning_rate: float = 1e-3,
  seed: int = 0,
) -> Attack:
  """Train the attack models on answers of shadow models, all at once.

  Half of each batch are members, drawn with replacement, so that 0.5 is the
  threshold whatever their share. Training is by Adam.

  Args:
    vectors: float[k, n, d], answers of k shadow models, such as probabilities.
    labels: int[n].
    members: bool[k, n], the training data of the shadow models.
    hidden: Number of hidden units.
    steps: Number of steps.
    batch_size: Size of a batch, of each class.
    learning_rate: Learning rate of Adam.
    seed: Seed of initial weights and batches.

  Raises:
    ValueError: If an argument is wrong, an answer is NaN or infinite, or a
      class has no members, or only members.
    TypeError: If learning_rate is no number.

  Example:
    >>> labels, members = np.zeros(64, int), np.arange(64)[None] % 2 > 0
    >>> sure = np.where(members, 0.99, 0.6)[..., None]
    >>> attack = fit(sure, labels, members, steps=200, learning_rate=0.1)
    >>> (scores(attack, sure[0], labels) > 0.5)[:4].tolist()
    [False, True, False, True]
  """
  hidden, steps = whole_number(hidden, "hidden"), whole_number(steps, "steps")
  half = whole_number(batch_size, "batch_size", least=2) // 2
  rate, seed = positive(learning_rate, "learning_rate"), seed_number(seed)
  found = signals.check_values(vectors, "vectors", (3,), finite=True)
  k, n, width = found.shape
  given = signals.check_labels(labels, (n, None))
  among = signals.check_members(members, (k, n))
  classes = np.unique(given)
  rows, counts = _rows(classes, np.tile(given, k), among.ravel())
  initial, train = jax.random.split(jax.random.key(seed))
  params = _train(half, hidden, steps)(
    jnp.asarray(found.reshape(k * n, width), jnp.float32),
    rows,
    counts,
    jnp.float32(rate),
    jax.random.split(initial, len(classes)),
    train,
  )
  params = jax.tree.map(np.asarray, params)
  if not all(np.isfinite(x).all() for x in jax.tree.leaves(params)):
    raise ValueError(f"shokri: training diverged: lower learning_rate={rate:g}")
  return Attack(classes, params)


def scores(attack: Attack, vectors: Any, labels: Any) -> np.ndarray:
  """Return the probability that each example is a member.

  Args:
    attack: From `fit`.
    vectors: float[n, d], answers of the target.
    labels: int[n].

  Returns:
    float64[n]; NaN where an answer is NaN.

  Raises:
    ValueError: If an argument is wrong, or a label has no attack model.
  """
  found = signals.check_values(vectors, "vectors", (2,))
  width = attack.params["in"]["kernel"].shape[1]
  if found.shape[1] != width:
    raise ValueError(f"vectors are {describe(found)}: pass [n, {width}]")
  given = signals.check_labels(labels, (len(found), None))
  missing = np.setdiff1d(given, attack.classes)
  if missing.size:
    raise ValueError(f"label {missing[0]} was no label of the shadow models")
  model = np.searchsorted(attack.classes, given)
  out = np.zeros(len(found))
  for i in np.unique(model):
    of_class = jax.tree.map(lambda x, i=i: x[i], attack.params)
    rows = model == i
    out[rows] = _probability(of_class, found[rows])
  return out


def _rows(
  classes: np.ndarray, labels: np.ndarray, members: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Return the rows of the others and of the members of each class.

  Returns:
    int32[classes, 2, most], padded with 0, and their number int32[classes, 2].
  """
  groups = [
    [np.flatnonzero((labels == c) & (members == m)) for m in (False, True)]
    for c in classes
  ]
  counts = np.asarray([[len(x) for x in pair] for pair in groups], np.int32)
  if not counts.all():
    empty = classes[(counts == 0).any(1).argmax()]
    raise ValueError(
      f"class {empty} has no members, or only members, in all shadow models"
    )
  rows = np.zeros((len(classes), 2, int(np.max(counts))), np.int32)
  for i, pair in enumerate(groups):
    for j, found in enumerate(pair):
      rows[i, j, : len(found)] = found
  return rows, counts


def _probability(params: PyTree, vectors: np.ndarray) -> np.ndarray:
  """Return the attack model's probability of membership, in float64."""
  with np.errstate(invalid="ignore"):
    layers = {k: jax.tree.map(np.float64, params[k]) for k in ("in", "out")}
    x = vectors @ layers["in"]["kernel"] + layers["in"]["bias"]
    x = np.maximum(x, 0) @ layers["out"]["kernel"] + layers["out"]["bias"]
    return np.asarray(np.exp(signals.log_probabilities(x))[:, 1])


@functools.lru_cache(maxsize=8)
def _train(half: int, hidden: int, steps: int) -> Callable[..., PyTree]:
  """Return a compiled training of the attack models of all classes."""
  rule = optax.scale_by_adam()

  def initial(rng: jax.Array, width: int) -> PyTree:
    first, second = jax.random.split(rng)
    draw = jax.nn.initializers.variance_scaling(2.0, "fan_in", "normal")
    return {
      "in": {"kernel": draw(first, (width, hidden)), "bias": jnp.zeros(hidden)},
      "out": {"kernel": draw(second, (hidden, 2)), "bias": jnp.zeros(2)},
    }

  def loss(params: PyTree, x: jax.Array) -> jax.Array:
    """Return the cross-entropy of x: [2, half, d], others and members."""
    x = x @ params["in"]["kernel"] + params["in"]["bias"][None, None]
    x = jax.nn.relu(x) @ params["out"]["kernel"]
    logs = jax.nn.log_softmax(x + params["out"]["bias"][None, None])
    return -(logs[0, :, 0].mean() + logs[1, :, 1].mean()) / 2

  def one(params: PyTree, state: Any, x: jax.Array, rate: jax.Array) -> Any:
    grads = jax.grad(loss)(params, x)
    with jax.numpy_dtype_promotion("standard"):  # Optax counts in int32.
      moves, state = rule.update(grads, state)
    return jax.tree.map(lambda p, m: p - rate * m, params, moves), state

  @jax.jit
  def run(
    vectors: jax.Array,
    rows: jax.Array,
    counts: jax.Array,
    rate: jax.Array,
    rngs: jax.Array,
    rng: jax.Array,
  ) -> PyTree:
    params = jax.vmap(lambda r: initial(r, vectors.shape[1]))(rngs)

    def step(carry: Any, rng: jax.Array) -> tuple[Any, None]:
      params, state = carry
      shape = (*counts.shape, half)
      drawn = jax.random.randint(rng, shape, 0, counts[..., None])
      x = vectors[jnp.take_along_axis(rows, drawn, axis=-1)]
      return jax.vmap(one, (0, 0, 0, None))(params, state, x, rate), None

    start = (params, jax.vmap(rule.init)(params))
    (params, _), _ = jax.lax.scan(step, start, jax.random.split(rng, steps))
    return params

  return run
