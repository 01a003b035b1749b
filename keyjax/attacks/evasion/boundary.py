"""Walks along a boundary of which only decisions are seen."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from keyjax.attacks.evasion.problem import Bounds, choose, per_example, sizes

_BLENDS = 10  # Bisections of the first, random point: to 0.001.
_HALVINGS = 24  # Of a step, and of an interval: bits of float32.
_TINY = 1e-12

Decide = Callable[[jax.Array, jax.Array, "Counts"], tuple[jax.Array, "Counts"]]


class Counts(NamedTuple):
  """What each example has cost, and whether its logits were finite."""

  queries: jax.Array
  finite: jax.Array


class State(NamedTuple):
  """State of HopSkipJump between two steps."""

  step: jax.Array
  current: jax.Array  # At the boundary, on the adversarial side.
  spread: jax.Array  # float[n], sets the size of probes.
  best: jax.Array
  active: jax.Array
  counts: Counts


class Walk(NamedTuple):
  """Parts of a step of HopSkipJump, for all examples at once."""

  decide: Decide
  inputs: jax.Array
  norm: str
  bounds: Bounds
  budget: int
  gamma: float

  @property
  def features(self) -> int:
    """Number of features of an example."""
    return math.prod(self.inputs.shape[1:])

  @property
  def bisections(self) -> int:
    """Number of bisections to the boundary."""
    power = 1.5 if self.norm == "l2" else 2.0
    wanted = math.ceil(math.log2(self.features**power / self.gamma))
    return min(max(wanted, 1), _HALVINGS)

  def from_noise(
    self, rngs: jax.Array, wanted: jax.Array, counts: Counts
  ) -> tuple[jax.Array, jax.Array, Counts]:
    """Return points that succeed between inputs and noise, and where any."""
    low, high = self.bounds
    shape, dtype = self.inputs.shape[1:], self.inputs.dtype

    def attempt(carry: tuple) -> tuple:
      index, point, found, counts = carry

      def draw(rng: jax.Array) -> jax.Array:
        rng = jax.random.fold_in(rng, index)
        return jax.random.uniform(rng, shape, dtype, low, high)

      noise = jax.vmap(draw)(rngs)
      asked = wanted & ~found & (counts.queries < self.budget)
      success, counts = self.decide(noise, asked, counts)
      success &= asked
      return index + 1, choose(success, noise, point), found | success, counts

    def unfinished(carry: tuple) -> jax.Array:
      found, counts = carry[2:]
      return (wanted & ~found & (counts.queries < self.budget)).any()

    _, point, found, counts = jax.lax.while_loop(
      unfinished,
      attempt,
      (jnp.int32(0), self.inputs, jnp.zeros_like(wanted), counts),
    )
    asked = found & (counts.queries + _BLENDS <= self.budget)
    point, counts = self._bisect(point, asked, counts, "l2", _BLENDS)
    return point, found, counts

  def to_boundary(
    self, points: jax.Array, asked: jax.Array, counts: Counts
  ) -> tuple[jax.Array, Counts]:
    """Return points that succeed, moved towards the inputs."""
    return self._bisect(points, asked, counts, self.norm, self.bisections)

  def _bisect(
    self,
    points: jax.Array,
    asked: jax.Array,
    counts: Counts,
    norm: str,
    bisections: int,
  ) -> tuple[jax.Array, Counts]:
    size = sizes(points - self.inputs, "linf")

    def shrink(share: jax.Array) -> jax.Array:
      if norm == "l2":
        return self.inputs + per_example(share, points) * (points - self.inputs)
      radius = per_example(share * size, points)
      return jnp.clip(points, self.inputs - radius, self.inputs + radius)

    def halve(_: jax.Array, carry: tuple) -> tuple:
      low, high, best, counts = carry
      share = (low + high) / 2
      tried = shrink(share)
      success, counts = self.decide(tried, asked, counts)
      success &= asked
      low = jnp.where(success, low, share)
      high = jnp.where(success, share, high)
      return low, high, choose(success, tried, best), counts

    carry = (jnp.zeros_like(size), jnp.ones_like(size), points, counts)
    carry = jax.lax.fori_loop(0, bisections, halve, carry)
    return carry[2:]

  def normal(
    self, state: State, samples: jax.Array, rngs: jax.Array
  ) -> tuple[jax.Array, Counts]:
    """Return the estimated unit normal of the boundary at each point."""
    low, high = self.bounds
    width = self.gamma * state.spread / self.features
    width = jnp.where(state.step == 0, 0.1 * (high - low), width)
    width = per_example(jnp.maximum(width, _TINY), state.current)
    shape, dtype = self.inputs.shape[1:], self.inputs.dtype

    def probe(index: jax.Array, carry: tuple) -> tuple:
      weighted, moves, signs, counts = carry

      def draw(rng: jax.Array) -> jax.Array:
        rng = jax.random.fold_in(rng, index)
        if self.norm == "l2":
          return jax.random.normal(rng, shape, dtype)
        return jax.random.uniform(rng, shape, dtype, -1, 1)

      noise = _unit(jax.vmap(draw)(rngs))
      points = jnp.clip(state.current + width * noise, low, high)
      move = (points - state.current) / width  # What the box left of the noise.
      success, counts = self.decide(points, state.active, counts)
      sign = jnp.where(success, 1.0, -1.0).astype(dtype)
      weighted += per_example(sign, move) * move
      return weighted, moves + move, signs + sign, counts

    zero = jnp.zeros_like(state.current)
    carry = (zero, zero, jnp.zeros_like(state.spread), state.counts)
    carry = jax.lax.fori_loop(0, samples, probe, carry)
    weighted, moves, signs, counts = carry
    # The mean sign is a baseline, unless all signs are equal.
    mean = signs / samples.astype(signs.dtype)
    mean = per_example(jnp.where(jnp.abs(mean) == 1, 0, mean), moves)
    return _unit(weighted - mean * moves), counts

  def along(self, normal: jax.Array, state: State) -> tuple[jax.Array, Counts]:
    """Return points that succeed along the normal, or the current ones."""
    direction = jnp.sign(normal) if self.norm == "linf" else normal
    length = sizes(state.current - self.inputs, self.norm)
    length /= jnp.sqrt(state.step.astype(length.dtype) + 1)

    def attempt(carry: tuple) -> tuple:
      halvings, length, reached, trying, counts = carry
      point = state.current + per_example(length, direction) * direction
      point = jnp.clip(point, *self.bounds)
      asked = trying & (counts.queries + self.bisections < self.budget)
      success, counts = self.decide(point, asked, counts)
      reached = choose(success & asked, point, reached)
      return halvings + 1, length / 2, reached, asked & ~success, counts

    carry = jax.lax.while_loop(
      lambda carry: (carry[0] < _HALVINGS) & carry[3].any(),
      attempt,
      (jnp.int32(0), length, state.current, state.active, state.counts),
    )
    return carry[2], carry[4]


def _unit(x: jax.Array) -> jax.Array:
  return x / per_example(sizes(x, "l2") + _TINY, x)
