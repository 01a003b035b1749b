"""What all attacks on inputs share: the result, norms, projections, checks."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from keyjax.attacks.evasion import checks
from keyjax.attacks.evasion.convolutions import channels_last

LogitsFn = Callable[[jax.Array], jax.Array]
Norm = Literal["linf", "l2", "l1"]
Bounds = tuple[float, float]
NORMS: tuple[Norm, ...] = ("linf", "l2", "l1")

_TINY = 1e-12
_HALVINGS = 40  # Of an interval, beyond float32.
_BATCH = 2**31 - 1  # Beyond the number of any example.


class Evasion(NamedTuple):
  """Result of an attack on n inputs.

  Attributes:
    inputs: float[n, ...], the changed inputs: the best point that was found.
      Attacks that minimise the distance return the unchanged input where they
      found nothing.
    success: bool[n], whether the changed input is misclassified, or classified
      as its target. True with distance 0 where the unchanged input is already.
    distance: float[n], size of the change in the norm of the attack.
    queries: int32[n], forward passes for each example; one with its gradient
      counts as one.
    finite: bool[n], whether all logits and gradients on the way were finite.
  """

  inputs: jax.Array
  success: jax.Array
  distance: jax.Array
  queries: jax.Array
  finite: jax.Array


def check(
  logits_fn: LogitsFn,
  inputs: jax.Array,
  labels: jax.Array,
  *,
  epsilon: Any = None,
  norm: str | None = None,
  norms: Sequence[str] = NORMS,
  targets: jax.Array | None = None,
  bounds: Bounds = (0.0, 1.0),
) -> None:
  """Raise ValueError if an attack cannot mean anything with its arguments.

  Shapes and dtypes are always checked. Values are checked if they are known,
  which they are not under `jax.jit`; those of logits on up to 8 inputs.

  Args:
    logits_fn: Function from inputs to logits, float[n, classes].
    inputs: float[n, ...].
    labels: int[n].
    epsilon: Largest size of a change; None for attacks without one.
    norm: Norm of the attack; None for attacks without a choice.
    norms: Norms that the attack has.
    targets: int[n], the classes to reach; None for any wrong class.
    bounds: Least and greatest value of a pixel.

  Raises:
    ValueError: If a shape, dtype or value is wrong; if logits_fn returns
      probabilities, or logits that are not finite.
  """
  if norm is not None and norm not in norms:
    raise ValueError(f"norm is {norm!r}: this attack has {', '.join(norms)}")
  checks.check_epsilon(epsilon)
  checks.check_inputs(inputs, bounds)
  classes = checks.check_logits(logits_fn, inputs)
  checks.check_classes("labels", labels, len(inputs), classes)
  if targets is not None:
    checks.check_classes("targets", targets, len(inputs), classes)
    same = checks.concrete(targets == labels.astype(targets.dtype))
    if same is not None and same.any():
      raise ValueError(
        f"targets: {same.sum()} of {len(same)} are equal to their labels"
      )


def refuse_nan(result: Evasion, name: str) -> Evasion:
  """Return the result, or raise ValueError if NaN or infinity was met.

  Does nothing under `jax.jit`, where `result.finite` is not known yet.

  Args:
    result: Result of an attack.
    name: Name of the attack, for the error.

  Raises:
    ValueError: If logits or gradients of some examples were not finite.
  """
  finite = checks.concrete(result.finite)
  if finite is not None and not finite.all():
    raise ValueError(
      f"{name}: logits or gradients of {(~finite).sum()} of {finite.size} "
      "examples were NaN or infinite; success means nothing there"
    )
  return result


def sizes(delta: jax.Array, norm: str) -> jax.Array:
  """Return the norms of changes, float[n].

  Example:
    >>> sizes(jnp.asarray([[3.0, -4.0]]), "l1").tolist()
    [7.0]
  """
  axes = tuple(range(1, delta.ndim))
  if norm == "linf":
    return jnp.abs(delta).max(axes)
  if norm == "l1":
    return jnp.abs(delta).sum(axes)
  return jnp.sqrt(jnp.square(delta).sum(axes))


def project(
  inputs: jax.Array,
  changed: jax.Array,
  epsilon: Any,
  norm: str,
  bounds: Bounds = (0.0, 1.0),
) -> jax.Array:
  """Return changed inputs moved into the ball around inputs and into the box.

  The nearest such point for "linf" and "l1". For "l2" the change is scaled to
  the ball and then clipped to the box, as in PGD and APGD.

  Args:
    inputs: float[n, ...], inside the box.
    changed: float[n, ...].
    epsilon: Radius of the ball.
    norm: "linf", "l2" or "l1".
    bounds: Least and greatest value of a pixel.

  Reference:
    Francesco Croce and Matthias Hein, "Mind the box: l1-APGD for sparse
    adversarial attacks on image classifiers", ICML 2021 (l1).
  """
  if norm == "linf":
    changed = jnp.clip(changed, inputs - epsilon, inputs + epsilon)
  elif norm == "l2":
    delta = changed - inputs
    length = per_example(sizes(delta, norm), delta)
    changed = inputs + delta * jnp.minimum(1, epsilon / (length + _TINY))
  else:
    delta = changed - inputs
    room = jnp.where(delta > 0, bounds[1] - inputs, inputs - bounds[0])
    shrink = jax.vmap(_shrink_l1, in_axes=(0, 0, None))
    changed = inputs + shrink(delta, room, jnp.asarray(epsilon, inputs.dtype))
  return jnp.clip(changed, bounds[0], bounds[1])


def _shrink_l1(
  delta: jax.Array, room: jax.Array, epsilon: jax.Array
) -> jax.Array:
  """Return the nearest change within its room and of l1 norm <= epsilon.

  It is sign(d) clip(|d| - t, 0, room), where t >= 0 is the least threshold
  that fits. The norm falls in t: bisection needs no sorting.
  """
  size = jnp.abs(delta).reshape(-1)
  kept = jnp.minimum(size, room.reshape(-1))

  def halve(_: Any, ends: tuple[jax.Array, jax.Array]) -> Any:
    low, high = ends
    middle = (low + high) / 2
    above = jnp.clip(size - middle, 0, kept).sum() > epsilon
    return jnp.where(above, middle, low), jnp.where(above, high, middle)

  ends = (jnp.zeros_like(epsilon), size.max())
  _, threshold = jax.lax.fori_loop(0, _HALVINGS, halve, ends)
  threshold = jnp.where(kept.sum() > epsilon, threshold, 0)
  found = jnp.clip(size - threshold, 0, kept)
  found *= jnp.minimum(1, epsilon / (found.sum() + _TINY))  # Rounding.
  return jnp.sign(delta) * found.reshape(delta.shape)


def steepest(
  gradient: jax.Array, norm: str, fraction: jax.Array | float = 0.0
) -> jax.Array:
  """Return the step of norm 1 along which a linear loss rises.

  Args:
    gradient: float[n, ...].
    norm: "linf" (its signs), "l2" (its direction), or "l1" (the signs of its
      greatest coordinates).
    fraction: Share of the coordinates that an l1 step changes, at least one;
      a number or float[n].

  Returns:
    float[n, ...]; zero where the gradient is zero.
  """
  if norm == "linf":
    return jnp.sign(gradient)
  if norm == "l2":
    return gradient / per_example(sizes(gradient, norm) + _TINY, gradient)
  count = math.prod(gradient.shape[1:])
  shares = jnp.broadcast_to(jnp.asarray(fraction), (len(gradient),))
  index = jnp.clip((1 - shares) * count, 0, count - 1).astype(jnp.int32)

  def least(size: jax.Array, index: jax.Array) -> jax.Array:
    return jnp.sort(size.reshape(-1))[index]

  size = jnp.abs(gradient)
  large = size >= per_example(jax.vmap(least)(size, index), gradient)
  signs = jnp.where(large, jnp.sign(gradient), 0)
  return signs / per_example(jnp.maximum(sizes(signs, norm), 1), signs)


def misclassified(
  logits: jax.Array, labels: jax.Array, targets: jax.Array | None = None
) -> jax.Array:
  """Return whether examples got a wrong class, or their target; bool[n].

  Logits that are not finite are no success.
  """
  found = logits.argmax(-1).astype(jnp.int32)
  hit = found != labels.astype(jnp.int32)
  if targets is not None:
    hit = found == targets.astype(jnp.int32)
  return hit & jnp.isfinite(logits).all(-1)


def value_and_gradient(
  logits_fn: LogitsFn,
  loss: Callable[[jax.Array], jax.Array],
  inputs: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Return loss[n], logits[n, classes] and the gradient of loss, as inputs.

  Args:
    logits_fn: Function from inputs to logits.
    loss: Function from logits to float[n]; each depends on its own row.
    inputs: float[n, ...].
  """

  def evaluate(inputs: jax.Array) -> tuple[jax.Array, ...]:
    logits, to_inputs = jax.vjp(lambda x: as_float(logits_fn(x)), inputs)
    value, to_logits = jax.vjp(loss, logits)
    return value, logits, *to_inputs(*to_logits(jnp.ones_like(value)))

  value, logits, gradient = channels_last(evaluate)(inputs)
  return value, logits, gradient


def random_start(
  rng: jax.Array,
  inputs: jax.Array,
  epsilon: Any,
  norm: str,
  bounds: Bounds = (0.0, 1.0),
) -> jax.Array:
  """Return uniformly random points of the balls, moved into the box.

  Args:
    rng: PRNG key, or one for each example.
    inputs: float[n, ...].
    epsilon: Radius of the ball.
    norm: "linf", "l2" or "l1".
    bounds: Least and greatest value of a pixel.
  """

  def draw(rng: jax.Array, x: jax.Array) -> jax.Array:
    if norm == "linf":
      return jax.random.uniform(rng, x.shape, x.dtype, -1, 1)
    direction, radius = jax.random.split(rng)
    if norm == "l2":
      found = jax.random.normal(direction, x.shape, x.dtype)
    else:
      found = jax.random.laplace(direction, x.shape, x.dtype)
    length = jax.random.uniform(radius, dtype=x.dtype) ** (1 / x.size)
    return found * length / sizes(found[None], norm)[0]

  delta = jax.vmap(draw)(example_rngs(rng, len(inputs), inputs), inputs)
  return project(inputs, inputs + epsilon * delta, epsilon, norm, bounds)


def example_rngs(
  rng: jax.Array, n: int, like: jax.Array | None = None
) -> jax.Array:
  """Return a PRNG key for each example.

  Args:
    rng: PRNG key; or one for each example, which are returned.
    n: Number of examples.
    like: Array [n, ...] whose sharding over n the keys of one key get, as they
      must on meshes with explicit axes.
  """
  rng = _typed(rng)
  if rng.ndim:
    return rng
  number = jnp.arange(n, dtype=jnp.int32)
  if like is not None:  # A sum with zeros has their sharding.
    zeros = jnp.isnan(like).any(tuple(range(1, like.ndim)))
    number += zeros.astype(jnp.int32) * 0
  return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(rng, number)


def batch_rng(rng: jax.Array) -> jax.Array:
  """Return one PRNG key for a batch, other than those of its examples."""
  rng = _typed(rng)
  return jax.random.fold_in(rng[0] if rng.ndim else rng, _BATCH)


def _typed(rng: jax.Array) -> jax.Array:
  if jnp.issubdtype(rng.dtype, jax.dtypes.prng_key):
    return rng
  return jax.random.wrap_key_data(rng)


def per_example(values: jax.Array, like: jax.Array) -> jax.Array:
  """Return values[n] with the axes that broadcast them over like[n, ...]."""
  return jnp.expand_dims(values, tuple(range(1, like.ndim)))


def choose(mask: jax.Array, yes: jax.Array, no: jax.Array) -> jax.Array:
  """Return the examples of `yes` where mask[n] is true, else those of `no`."""
  return jnp.where(per_example(mask, yes), yes, no)


def all_finite(*arrays: jax.Array) -> jax.Array:
  """Return whether all values of each example are finite, bool[n]."""
  found = [jnp.isfinite(x).all(tuple(range(1, x.ndim))) for x in arrays]
  return jnp.stack(found).all(0)


def as_float(logits: jax.Array) -> jax.Array:
  """Return logits of at least 32 bits."""
  narrow = jnp.finfo(logits.dtype).bits < 32
  return logits.astype(jnp.float32) if narrow else logits
