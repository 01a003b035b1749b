"""The search of AdvParams inside the range of a layer.

See `keyjax.schemes.adv_params` for the algorithm.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import meshes, tree
from keyjax.schemes import gradient_search
from keyjax.schemes.gradient_search import LossFn, Options, State
from keyjax.secrets import Secret

_TRIED = 8  # Moves whose loss is computed in each step.
_LABEL = "adv_params/in_range/{}"


class Layer(NamedTuple):
  """A layer's range, and what the secret draws for its weights."""

  low: jax.Array  # float32[]
  high: jax.Array  # float32[]
  band: jax.Array  # float32[], width of the two ends where weights may go
  draw: jax.Array  # uint32[n]: lowest bit, may change; 24 upper ones, where to


class Moves(NamedTuple):
  """Moves of one weight each, by falling gain."""

  gain: jax.Array  # float32[K], to first order; 0 or below: not a move
  layer: jax.Array  # int32[K]
  place: jax.Array  # int32[K], into the flattened layer
  value: jax.Array  # float32[K], exact in the layer's dtype


def run(
  chosen: tuple[int, ...],
  loss_fn: LossFn,
  options: Options,
  order: np.ndarray,
  secret: Secret,
  params: Any,
  batch: Any,
) -> State:
  """Move one weight at a time until the loss exceeds the threshold.

  It ends earlier when all slots are taken or no move raises the loss.
  """
  leaves = tree.flatten(params)[1]
  first = tuple(jnp.asarray(leaves[i]) for i in chosen)
  ranges = gradient_search.ranges(first)
  allowed = set(order[: options.max_layers].tolist())
  layers = tuple(
    _layer(ranges[i], options, _draw(secret, leaf, x.size, i in allowed))
    for i, (leaf, x) in enumerate(zip(chosen, first, strict=True))
  )
  start = gradient_search.start(first, options.max_params)
  state = gradient_search.placed(start, (params, batch))
  given = (params, batch)
  for step in range(options.max_params):
    loss, moves = _promising(
      chosen, loss_fn, state, layers, options.max_steps, *given
    )
    if step == 0:
      state = state._replace(first_loss=loss, loss=loss)
    if not loss <= options.loss_threshold:  # Also if it is NaN.
      break
    tried = [
      float(_loss_after(chosen, loss_fn, state, moves, k, *given))
      for k in range(int((moves.gain > 0).sum()))
    ]
    # A move that makes the loss infinite or NaN is none.
    tried = [x if np.isfinite(x) else -np.inf for x in tried]
    if not tried or max(tried) <= loss:
      break
    best = int(np.argmax(tried))
    state = _taken(state, moves, best)._replace(loss=jnp.float32(tried[best]))
  return state


def _draw(secret: Secret, leaf: int, size: int, allowed: bool) -> jax.Array:
  if not allowed:
    return jnp.zeros(size, jnp.uint32)
  stream = secret.stream(_LABEL.format(leaf), 4 * size)
  return jnp.asarray(np.frombuffer(stream, "<u4"))


def _layer(
  ends: tuple[jax.Array, jax.Array, jax.Array],
  options: Options,
  draw: jax.Array,
) -> Layer:
  low, high, span = (x.astype(jnp.float32) for x in ends)
  margin = (options.beta or 0.0) * span
  return Layer(low + margin, high - margin, options.theta * span, draw)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _promising(
  chosen: tuple[int, ...],
  loss_fn: LossFn,
  state: State,
  layers: tuple[Layer, ...],
  max_steps: jax.Array,
  params: Any,
  batch: Any,
) -> tuple[jax.Array, Moves]:
  """Return the loss, and the moves with the largest first-order gain."""
  loss_of = gradient_search.loss_with(chosen, loss_fn, params, batch)
  loss, grads = jax.value_and_grad(loss_of)(state.leaves)
  like = Moves(*[jnp.zeros(0)] * 4)
  moves = meshes.as_auto(_rank, like, grads, layers, max_steps, state)
  return loss.astype(jnp.float32), moves


def _rank(
  grads: tuple[jax.Array, ...],
  layers: tuple[Layer, ...],
  max_steps: jax.Array,
  state: State,
) -> Moves:
  found = []
  for i, (layer, grad) in enumerate(zip(layers, grads, strict=True)):
    x = state.leaves[i]
    ends = _ends(layer, x.dtype)  # [2, n]
    w, slope = (v.reshape(-1).astype(jnp.float32) for v in (x, grad))
    gains = slope[None] * (ends - w[None])  # [2, n]
    free = (layer.draw & 1 == 1) & (state.counts[i].reshape(-1) == 0)
    free &= (state.slot_layer == i).sum() < max_steps
    score = jnp.where(free, gains.max(0), 0.0)
    score = jnp.where(jnp.isfinite(score), score, 0.0)
    gain, index = jax.lax.top_k(score, min(_TRIED, w.size))
    value = jnp.where(gains[0] > gains[1], ends[0], ends[1])[index]
    found.append(Moves(gain, jnp.full_like(index, i), index, value))
  # [K] of each layer -> [K] of all layers
  joined = Moves(*(jnp.concatenate(x) for x in zip(*found, strict=True)))
  _, best = jax.lax.top_k(joined.gain, min(_TRIED, joined.gain.size))
  return Moves(*(x[best] for x in joined))


def _ends(layer: Layer, dtype: jnp.dtype) -> jax.Array:
  """Return where each weight may go, float32[2, n], exact in `dtype`."""
  share = (layer.draw >> 8).astype(jnp.float32) * 2.0**-24  # [n], below 1
  step = share * layer.band
  ends = jnp.stack([layer.low + step, layer.high - step])
  ends = jnp.clip(ends, layer.low, layer.high)
  return ends.astype(dtype).astype(jnp.float32)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _loss_after(
  chosen: tuple[int, ...],
  loss_fn: LossFn,
  state: State,
  moves: Moves,
  k: int,
  params: Any,
  batch: Any,
) -> jax.Array:
  loss_of = gradient_search.loss_with(chosen, loss_fn, params, batch)
  return loss_of(_taken(state, moves, k).leaves).astype(jnp.float32)


@jax.jit
def _taken(state: State, moves: Moves, k: int) -> State:
  """Take a move."""
  return meshes.as_auto(_take, state, state, moves, k)


def _take(state: State, moves: Moves, k: jax.Array) -> State:
  layer, index, value = moves.layer[k], moves.place[k], moves.value[k]
  leaves = []
  counts = []
  for i, (x, n) in enumerate(zip(state.leaves, state.counts, strict=True)):
    here = layer == i
    leaves.append(gradient_search.write(x, index, value, here))
    counts.append(gradient_search.write(n, index, jnp.int32(1), here))
  state = gradient_search.record(state, layer, index, jnp.bool_(True))
  return state._replace(
    leaves=tuple(leaves), counts=tuple(counts), steps=state.steps + 1
  )
