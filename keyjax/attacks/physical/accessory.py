"""The accessory attack: one pattern, worn on every photo of a person."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from keyjax.arguments import describe
from keyjax.attacks.evasion import checks, losses, problem
from keyjax.attacks.evasion.convolutions import channels_last
from keyjax.attacks.evasion.problem import Bounds, LogitsFn
from keyjax.attacks.physical.pattern import (
  non_printability,
  total_variation,
  wear,
)


class Accessory(NamedTuple):
  """An accessory, and what it does to the photos that it was made for.

  Attributes:
    pattern: float[h, w, c]; of no meaning outside the mask.
    success: bool[n], whether the photo with the accessory is misclassified, or
      classified as its target.
    control: bool[n], the same with random pixels in the place of the pattern,
      drawn for each photo.
    variation: Total variation of the pattern, a mean over the mask.
    non_printability: Non-printability score of the pattern, a mean over the
      mask; 0 without a palette.
    queries: Number of forward passes over one photo; one with its gradient
      counts as one.
    finite: Whether all logits and gradients on the way were finite.
  """

  pattern: jax.Array
  success: jax.Array
  control: jax.Array
  variation: jax.Array
  non_printability: jax.Array
  queries: jax.Array
  finite: jax.Array


def accessory_attack(
  logits_fn: LogitsFn,
  inputs: jax.Array,
  labels: jax.Array,
  mask: jax.Array,
  *,
  targets: jax.Array | None = None,
  steps: int = 200,
  learning_rate: float = 0.05,
  smoothness: Any = 0.1,
  palette: jax.Array | None = None,
  printability: Any = 1.0,
  shift: int = 0,
  bounds: Bounds = (0.0, 1.0),
  rng: jax.Array,
) -> Accessory:
  """Return one pattern that makes the photos of a class misclassified.

  Minimises, by Adam inside the box, the mean over photos of minus the
  cross-entropy of the labels (dodging), or of the cross-entropy of the targets
  (impersonation), plus smoothness times the total variation, plus printability
  times the non-printability score. Of all points it returns the one with the
  most successes, and among equals the least objective. The photos depend on
  each other by design: shard none of them.

  Success is that on the photos that the pattern was made for. With `wear`,
  judge it on others. Pass photos that are classified correctly: others count as
  dodged.

  Args:
    logits_fn: Function from inputs to logits; `evasion.expectation` over
      `photograph` for an accessory that survives a photo.
    inputs: float[n, h, w, c], several photos, as a rule of one class.
    labels: int[n].
    mask: bool[h, w], where the accessory covers the photo, such as `glasses`.
    targets: int[n], the classes to impersonate; None to dodge.
    steps: Number of steps of Adam.
    learning_rate: Learning rate of Adam.
    smoothness: Weight of the total variation.
    palette: float[k, c], printable colours; None for no such term.
    printability: Weight of the non-printability score.
    shift: Greatest shift of the accessory along each axis, in pixels: drawn
      again for each photo in each step, and where success is judged.
    bounds: Least and greatest value of a pixel.
    rng: PRNG key.

  Returns:
    An `Accessory`.

  Raises:
    ValueError: If an argument is wrong, or a logit or gradient not finite.

  Reference:
    Mahmood Sharif, Sruti Bhagavatula, Lujo Bauer and Michael K. Reiter,
    "Accessorize to a crime: real and stealthy attacks on state-of-the-art face
    recognition", CCS 2016. There the terms are sums and the descent has
    momentum.

  Example:
    >>> from keyjax.attacks.physical import glasses
    >>> photos = jnp.full((3, 4, 4, 1), 0.5)
    >>> def logits_fn(x):
    ...   mean = x.mean((1, 2, 3))
    ...   return jnp.stack([mean, 1 - mean + 0.01], -1)
    >>> found = accessory_attack(logits_fn, photos, jnp.ones(3, jnp.int32),
    ...   glasses(4, 4), rng=jax.random.key(0))
    >>> found.success.tolist(), round(float(found.pattern[1, 0, 0]), 2)
    ([True, True, True], 1.0)
  """
  problem.check(logits_fn, inputs, labels, targets=targets, bounds=bounds)
  _check(inputs, mask, palette)
  weights = {"smoothness": smoothness, "printability": printability}
  _check_weights(weights | {"shift": shift})
  if steps < 1 or not learning_rate > 0:
    raise ValueError(
      f"steps {steps}, learning_rate {learning_rate}: pass 1 or more, above 0"
    )
  inputs = jnp.asarray(inputs)
  found = _Attack(
    logits_fn=logits_fn,
    inputs=inputs,
    labels=labels,
    targets=targets,
    mask=jnp.asarray(mask),
    palette=None if palette is None else jnp.asarray(palette, inputs.dtype),
    weights=(smoothness, printability),
    shift=shift,
    bounds=bounds,
  ).run(rng, steps, optax.adam(learning_rate))
  finite = checks.concrete(found.finite)
  if finite is not None and not finite:
    raise ValueError(
      "accessory_attack: logits or gradients were NaN or infinite"
    )
  return found


class _Descent(NamedTuple):
  pattern: jax.Array
  optimizer: Any
  best: jax.Array
  hits: jax.Array  # Successes of the best.
  loss: jax.Array  # Of the best.
  finite: jax.Array


class _Attack(NamedTuple):
  """The arguments of `accessory_attack`, and its parts."""

  logits_fn: LogitsFn
  inputs: jax.Array
  labels: jax.Array
  targets: jax.Array | None
  mask: jax.Array
  palette: jax.Array | None
  weights: tuple[Any, Any]
  shift: int
  bounds: Bounds

  def run(
    self, rng: jax.Array, steps: int, optimizer: optax.GradientTransformation
  ) -> Accessory:
    first, path, last, other = jax.random.split(rng, 4)
    start = self._random(first, self.inputs.shape[1:])
    state = _Descent(
      pattern=start,
      optimizer=optimizer.init(start),
      best=start,
      hits=jnp.int32(-1),
      loss=jnp.full((), jnp.inf, start.dtype),
      finite=jnp.bool_(True),
    )

    def step(index: jax.Array, state: _Descent) -> _Descent:
      return self._step(jax.random.fold_in(path, index), state, optimizer)

    state = jax.lax.fori_loop(0, steps, step, state)
    shifts = self._shifts(last)
    fills = self._random(other, self.inputs.shape)
    success, right = self._judge(state.best, shifts)
    control, proper = self._judge(fills, shifts)
    return Accessory(
      pattern=state.best,
      success=success,
      control=control,
      variation=total_variation(state.best, self.mask),
      non_printability=self._score(state.best),
      queries=jnp.int32(steps + 2),
      finite=state.finite & right & proper,
    )

  def _step(
    self,
    rng: jax.Array,
    state: _Descent,
    optimizer: optax.GradientTransformation,
  ) -> _Descent:
    """Take a step of Adam, and record the point that it started from."""
    objective = functools.partial(self._objective, shifts=self._shifts(rng))
    evaluate = channels_last(jax.value_and_grad(objective, has_aux=True))
    (loss, logits), gradient = evaluate(state.pattern)
    finite = jnp.isfinite(logits).all() & jnp.isfinite(gradient).all()
    hit = problem.misclassified(logits, self.labels, self.targets)
    hits = hit.sum(dtype=jnp.int32)
    better = (hits > state.hits) | ((hits == state.hits) & (loss < state.loss))
    with jax.numpy_dtype_promotion("standard"):  # Optax counts in int32.
      update, moments = optimizer.update(gradient, state.optimizer)
    moved = jnp.clip(state.pattern + update, *self.bounds)
    return _Descent(
      pattern=jnp.where(finite, moved, state.pattern),
      optimizer=moments,
      best=jnp.where(better, state.pattern, state.best),
      hits=jnp.where(better, hits, state.hits),
      loss=jnp.where(better, loss, state.loss),
      finite=state.finite & finite,
    )

  def _objective(
    self, pattern: jax.Array, shifts: jax.Array | None
  ) -> tuple[jax.Array, jax.Array]:
    """Return the objective, and the logits of the photos."""
    worn = wear(self.inputs, pattern, self.mask, shifts)
    logits = problem.as_float(self.logits_fn(worn))
    gain = losses.cross_entropy(logits, self.labels, self.targets).mean()
    smoothness, printability = self.weights
    loss = smoothness * total_variation(pattern, self.mask) - gain
    return loss + printability * self._score(pattern), logits

  def _score(self, pattern: jax.Array) -> jax.Array:
    if self.palette is None:
      return jnp.zeros((), pattern.dtype)
    return non_printability(pattern, self.mask, self.palette)

  def _judge(
    self, patterns: jax.Array, shifts: jax.Array | None
  ) -> tuple[jax.Array, jax.Array]:
    """Return the successes, bool[n], and whether all logits are finite."""
    worn = wear(self.inputs, patterns, self.mask, shifts)
    logits = problem.as_float(self.logits_fn(worn))
    hit = problem.misclassified(logits, self.labels, self.targets)
    return hit, jnp.isfinite(logits).all()

  def _shifts(self, rng: jax.Array) -> jax.Array | None:
    if not self.shift:
      return None
    shape = (len(self.inputs), 2)
    return jax.random.randint(
      rng, shape, -self.shift, self.shift + 1, jnp.int32
    )

  def _random(self, rng: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jax.random.uniform(rng, shape, self.inputs.dtype, *self.bounds)


def _check(inputs: Any, mask: Any, palette: Any) -> None:
  """Raise ValueError if the mask or the palette does not fit the photos."""
  if np.ndim(inputs) != 4:
    raise ValueError(f"inputs are {describe(inputs)}: pass [n, h, w, c]")
  shape = np.shape(inputs)
  if np.shape(mask) != shape[1:3] or jnp.result_type(mask) != jnp.bool_:
    raise ValueError(f"mask is {describe(mask)}: pass bool{list(shape[1:3])}")
  known = checks.concrete(mask)
  if known is not None and not known.any():
    raise ValueError("mask is empty: the accessory covers no pixel")
  if palette is None:
    return
  if np.ndim(palette) != 2 or np.shape(palette)[1:] != shape[3:]:
    raise ValueError(f"palette is {describe(palette)}: pass [k, {shape[3]}]")


def _check_weights(weights: dict[str, Any]) -> None:
  """Raise ValueError if a weight that is known is below 0."""
  for name, weight in weights.items():
    known = checks.concrete(weight)
    if known is not None and not known >= 0:
      raise ValueError(f"{name} is {known}: pass 0 or more")
