"""Fooling inputs along the gradient of their class's probability."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from keyjax.attacks.evasion import losses, problem
from keyjax.attacks.evasion.problem import Bounds, LogitsFn
from keyjax.attacks.fooling import champions
from keyjax.attacks.fooling.champions import Fooling

_STEPS = ("sign", "plain")


class _Climb(NamedTuple):
  inputs: jax.Array
  best: jax.Array
  scores: jax.Array
  nonfinite: jax.Array


def gradient_ascent(
  logits_fn: LogitsFn,
  shape: Sequence[int],
  *,
  steps: int = 200,
  step_size: float = 0.05,
  step: Literal["sign", "plain"] = "sign",
  l2: float = 0.0,
  bounds: Bounds = (0.0, 1.0),
  dtype: Any = jnp.float32,
  rng: jax.Array,
) -> Fooling:
  """Return an input of each class by gradient ascent from noise.

  Climbs `log p(class | x) - l2 |x|^2` from uniform noise inside the box. The
  champion is the input of the greatest probability on the way. An input whose
  gradient is zero or not finite stays where it is: a model that hides its
  gradients is no less easily fooled by `map_elites`.

  Args:
    logits_fn: Function from inputs to logits, float[n, classes].
    shape: Shape of one input.
    steps: Number of steps.
    step_size: Size of a step: of each pixel for "sign", else the factor of the
      gradient.
    step: "sign", the signs of the gradient, or "plain", the gradient.
    l2: Weight of the squared length of the input; 0 for none.
    bounds: Least and greatest value of a pixel.
    dtype: Type of the inputs.
    rng: PRNG key of the noise, or one for each class.

  Returns:
    A `Fooling`; its curve has a row for each step.

  Raises:
    ValueError: If an argument is wrong, or logits_fn returns probabilities.

  Reference:
    Anh Nguyen, Jason Yosinski and Jeff Clune, "Deep neural networks are easily
    fooled: high confidence predictions for unrecognizable images", CVPR 2015.
    Karen Simonyan, Andrea Vedaldi and Andrew Zisserman, "Deep inside
    convolutional networks", ICLR workshop 2014 (the l2 term).

  Example:
    >>> found = gradient_ascent(lambda x: 4 * x, (2,), rng=jax.random.key(0))
    >>> found.inputs.tolist(), (found.confidence > 0.98).tolist()
    ([[1.0, 0.0], [0.0, 1.0]], [True, True])
  """
  champions.check_image(shape, bounds)
  if steps < 1 or not step_size > 0 or not l2 >= 0:
    raise ValueError(
      f"steps {steps}, step_size {step_size}, l2 {l2}: pass 1 or more, above "
      "0, and 0 or more"
    )
  if step not in _STEPS:
    raise ValueError(f"step is {step!r}: choose from {', '.join(_STEPS)}")
  middle = jnp.full((1, *shape), sum(bounds) / 2, dtype)
  classes = champions.count_classes(logits_fn, middle)
  targets = jnp.arange(classes, dtype=jnp.int32)

  def draw(rng: jax.Array) -> jax.Array:
    return jax.random.uniform(rng, shape, dtype, *bounds)

  def log_probability(logits: jax.Array) -> jax.Array:
    return losses.logit_of(jax.nn.log_softmax(logits), targets)

  def climb(state: _Climb, _: None) -> tuple[_Climb, jax.Array]:
    x = state.inputs
    value, logits, slope = problem.value_and_gradient(
      logits_fn, log_probability, x
    )
    finite = problem.all_finite(logits)
    value = jnp.where(finite, value, -jnp.inf)
    usable = finite & problem.all_finite(slope)
    slope = problem.choose(usable, slope - 2 * l2 * x, jnp.zeros_like(x))
    move = problem.steepest(slope, "linf") if step == "sign" else slope
    state = _Climb(
      inputs=jnp.clip(x + step_size * move, *bounds),
      best=problem.choose(value > state.scores, x, state.best),
      scores=jnp.maximum(value, state.scores),
      nonfinite=state.nonfinite + (~finite).sum(dtype=jnp.int32),
    )
    return state, state.scores

  start = jax.vmap(draw)(problem.example_rngs(rng, classes))
  logits = jax.eval_shape(lambda x: problem.as_float(logits_fn(x)), start)
  nothing = jnp.full(classes, -jnp.inf, logits.dtype)
  state = _Climb(start, start, nothing, jnp.int32(0))
  # The last step is only judged: its own move is dropped.
  state, curve = jax.lax.scan(climb, state, length=steps + 1)
  return Fooling(
    inputs=state.best,
    confidence=jnp.exp(state.scores),
    curve=jnp.exp(curve),
    queries=jnp.int32(classes * (steps + 1)),
    nonfinite=state.nonfinite,
  )
