"""Projected gradient ascent inside an L-infinity ball, with momentum.

    g <- mu g + grad / |grad|_1,   x <- project(x + rate sign(g))

With mu = 0 it is PGD, with mu = 1 from the image itself MI-FGSM.

References:
  Madry et al., ICLR 2018; Dong et al., CVPR 2018.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from keyjax.attacks.game import Adversarial, Budget, Claim, Cost, Examples
from keyjax.scheme import ApplyFn, PyTree

LossFn = Callable[[PyTree, jax.Array, jax.Array], jax.Array]
_REACH = 2.5  # Length of all steps together, in radii.


class Ball(NamedTuple):
  """The ball and the search in it.

  Attributes:
    epsilon: Radius, in units of pixel values.
    momentum: Factor mu.
    restarts: Number of searches for each image; the first starts at the image,
      the others at random in the ball.
  """

  epsilon: float = 0.1
  momentum: float = 0.0
  restarts: int = 2


@functools.lru_cache(maxsize=32)
def cross_entropies(forward: ApplyFn) -> LossFn:
  """Return `(params, images, labels) -> float32[n]` of a model."""

  def losses(params: PyTree, x: jax.Array, labels: jax.Array) -> jax.Array:
    logits = forward(params, x)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)

  return losses


def ascend(
  loss: LossFn,
  params: Callable[[int], PyTree],
  victims: Examples,
  budget: Budget,
  ball: Ball,
  details: Mapping[str, Any],
) -> Iterator[Claim]:
  """Claim changed victims at every mark of the budget.

  Args:
    loss: Loss to maximise, for each image; the same function compiles once.
    params: Function from the number of the step to the loss's first argument.
    victims: Images to change.
    budget: `steps`, `points` and `seed`.
    ball: Radius and search.
    details: Details of the claims.

  Raises:
    ValueError: If the radius is negative or not finite, or if there are no
      restarts.
  """
  if not 0 <= ball.epsilon < np.inf or ball.restarts < 1:
    raise ValueError(f"{ball}: epsilon must be 0 or more, restarts 1 or more")
  step, best = _compiled(loss)
  count = ball.restarts
  # [n, h, w, c] -> [restarts * n, h, w, c]
  clean = jnp.tile(jnp.asarray(victims.image), (count, 1, 1, 1))
  labels = jnp.tile(jnp.asarray(victims.label), count)
  radius = jnp.float32(ball.epsilon)
  x = jnp.asarray(_starts(victims.image, ball, budget.seed))
  speed = jnp.zeros_like(x)
  total = max(budget.steps, 1)
  rate = jnp.float32(_REACH * ball.epsilon / total)
  marks = budget.marks()
  for i in range(1, total + 1):
    now = params(i)
    x, speed = step(
      now, x, labels, speed, clean, radius, rate, jnp.float32(ball.momentum)
    )
    if i in marks:
      image = np.asarray(best(now, x, labels, count))
      yield Claim(Adversarial(image, ball.epsilon), Cost(steps=i), details)


def _starts(images: np.ndarray, ball: Ball, seed: int) -> np.ndarray:
  """Return initial images, float32[restarts * n, h, w, c], clean ones first."""
  rng = np.random.default_rng([seed, 2])
  shape = (ball.restarts, *images.shape)
  moved = rng.uniform(-ball.epsilon, ball.epsilon, shape).astype(np.float32)
  moved[0] = 0
  return np.clip(images + moved, 0, 1).reshape(-1, *images.shape[1:])


@functools.lru_cache(maxsize=32)
def _compiled(loss: LossFn) -> tuple[Any, Any]:
  """Return a step, and the choice among restarts."""

  @jax.jit
  def step(
    params: PyTree,
    x: jax.Array,
    labels: jax.Array,
    speed: jax.Array,
    clean: jax.Array,
    radius: jax.Array,
    rate: jax.Array,
    momentum: jax.Array,
  ) -> tuple[jax.Array, jax.Array]:
    grads = jax.grad(lambda y: loss(params, y, labels).sum())(x)
    grads = jnp.nan_to_num(grads)  # The model may overflow.
    size = jnp.abs(grads).sum((1, 2, 3), keepdims=True)
    speed = momentum * speed + grads / jnp.maximum(size, 1e-12)
    x = x + rate * jnp.sign(speed)
    x = jnp.clip(x, clean - radius, clean + radius)
    return jnp.clip(x, 0, 1), speed

  @functools.partial(jax.jit, static_argnums=3)
  def best(
    params: PyTree, x: jax.Array, labels: jax.Array, count: int
  ) -> jax.Array:
    # [restarts * n, ...] -> [restarts, n, ...]
    losses = loss(params, x, labels).reshape(count, -1)
    split = x.reshape(count, -1, *x.shape[1:])
    return split[losses.argmax(0), jnp.arange(split.shape[1])]

  return step, best
