"""Right labels, wrong gradients: poison that trains what it does not show.

A few training inputs are changed within epsilon, their labels stay right. Their
gradient is aligned with that of a target under a wrong label: whoever trains on
them from scratch takes, unseen, steps that misclassify the target.

Needs: models like the victim's, or their data to train them. Cost: gradients of
the weights for each step, and again through them.

Reference:
  Jonas Geiping, Liam Fowl, W. Ronny Huang, Wojciech Czaja, Gavin Taylor,
  Michael Moeller and Tom Goldstein, "Witches' brew: industrial scale data
  poisoning via gradient matching", ICLR 2021, arXiv:2009.02276: algorithm 1,
  over several models, without augmentation.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from keyjax import labelled, tasks
from keyjax.arguments import require_apply, whole_number
from keyjax.scheme import ApplyFn, PyTree


class Matched(NamedTuple):
  """Poison.

  Attributes:
    image: float32[p, ...], changed inputs.
    loss: 1 minus the cosine of the two gradients, mean over models.
    before: The same for the inputs as they were.
  """

  image: np.ndarray
  loss: float
  before: float


def match(
  apply_fn: ApplyFn,
  models: PyTree,
  inputs: Any,
  labels: Any,
  target: Any,
  wanted: int,
  *,
  classes: int,
  epsilon: float = 16 / 255,
  steps: int = 250,
  restarts: int = 4,
  learning_rate: float = 0.1,
  bounds: tuple[float, float] = (0.0, 1.0),
  rng: jax.Array,
) -> Matched:
  """Change inputs so that training on them moves a target to a class.

  Signed Adam on the changes; of several starts, the one with the least loss.

  Args:
    apply_fn: Forward pass, called as `apply_fn(variables, inputs)`.
    models: Trained variables, with a first axis over models.
    inputs: float[p, ...], training inputs that may be changed.
    labels: int[p], their labels, mostly `wanted`.
    target: float[...], the input to be misclassified.
    wanted: Class that it should get.
    classes: Number of classes.
    epsilon: Greatest change of a value.
    steps: Steps of the search.
    restarts: Number of starts.
    learning_rate: Of the search, as a share of epsilon.
    bounds: Least and greatest value of an input.
    rng: JAX PRNG key.

  Raises:
    ValueError: If shapes, labels or numbers are wrong, or gradients are not
      finite.
    TypeError: If apply_fn is no function.
  """
  require_apply(apply_fn, "gradient_matching: apply_fn")
  given = labelled.labels(labels, classes)
  start = labelled.inputs(inputs, len(given))
  goal = labelled.inputs([target], name="target")
  wanted = labelled.class_number(wanted, classes, "wanted")
  if goal.shape[1:] != start.shape[1:]:
    raise ValueError(
      f"target has shape {list(goal.shape[1:])}: inputs have "
      f"{list(start.shape[1:])}"
    )
  if not epsilon > 0 or not learning_rate > 0:
    raise ValueError(
      f"epsilon={epsilon}, learning_rate={learning_rate}: above 0"
    )
  steps = whole_number(steps, "steps")
  if not tasks.num_examples(models):
    raise ValueError("models has no model")
  rngs = jax.random.split(rng, whole_number(restarts, "restarts"))
  images, losses, before = _search(
    apply_fn,
    steps,
    models,
    (jnp.asarray(start), jnp.asarray(given)),
    (jnp.asarray(goal), jnp.asarray([wanted], jnp.int32)),
    jnp.asarray([epsilon, learning_rate * epsilon, *bounds], jnp.float32),
    rngs,
  )
  if not np.isfinite(losses).any():
    raise ValueError("models have gradients that are not finite")
  best = int(np.nanargmin(losses))
  return Matched(np.asarray(images[best]), float(losses[best]), float(before))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _search(
  apply_fn: ApplyFn,
  steps: int,
  models: PyTree,
  poison: tuple[jax.Array, jax.Array],
  target: tuple[jax.Array, jax.Array],
  numbers: jax.Array,
  rngs: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Return the images and the loss of each start, and the loss before."""
  epsilon, rate, low, high = numbers
  inputs, labels = poison
  wanted = jax.vmap(lambda params: _gradient(apply_fn, params, *target))(models)

  def loss(change: jax.Array) -> jax.Array:
    own = functools.partial(_gradient, apply_fn)
    found = jax.vmap(lambda params: own(params, inputs + change, labels))(
      models
    )
    return jnp.mean(1 - jax.vmap(_cosine)(found, wanted))

  def one(rng: jax.Array) -> tuple[jax.Array, jax.Array]:
    first = jax.random.uniform(
      rng, inputs.shape, jnp.float32, -epsilon, epsilon
    )
    rule = optax.scale_by_adam()

    def step(state: Any, number: jax.Array) -> tuple[Any, None]:
      change, memory = state
      # Optax counts in int32.
      with jax.numpy_dtype_promotion("standard"):
        slope, memory = rule.update(jnp.sign(jax.grad(loss)(change)), memory)
      decay = 1 - number.astype(jnp.float32) / steps
      moved = jnp.clip(change - rate * decay * slope, -epsilon, epsilon)
      moved = jnp.clip(inputs + moved, low, high) - inputs
      return (moved, memory), None

    state, _ = jax.lax.scan(step, (first, rule.init(first)), jnp.arange(steps))
    return inputs + state[0], loss(state[0])

  images, losses = jax.lax.map(one, rngs)
  return images, losses, loss(jnp.zeros_like(inputs))


def _gradient(
  apply_fn: ApplyFn, params: PyTree, inputs: jax.Array, labels: jax.Array
) -> PyTree:
  def loss(params: PyTree) -> jax.Array:
    logits = apply_fn(params, inputs)
    found = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return found.mean()

  return jax.grad(loss)(params)


def _cosine(a: PyTree, b: PyTree) -> jax.Array:
  def dot(x: PyTree, y: PyTree) -> jax.Array:
    leaves = zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True)
    return sum((jnp.vdot(p, q) for p, q in leaves), jnp.float32(0))

  return dot(a, b) / jnp.sqrt(dot(a, a) * dot(b, b) + 1e-20)
