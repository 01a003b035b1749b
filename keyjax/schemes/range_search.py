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
_ROUNDS = 2  # Times that each move is taken back for a better one.
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

  Once all slots are taken, exchange moves. It ends earlier when no move raises
  the loss.
  """
  leaves = tree.flatten(params)[1]
  first = tuple(jnp.asarray(leaves[i]) for i in chosen)
  ranges = gradient_search.ranges(first)
  allowed = set(order[: options.max_layers].tolist())
  layers = tuple(
    _layer(ranges[i], options, _draw(secret, leaf, x.size, i in allowed))
    for i, (leaf, x) in enumerate(zip(chosen, first, strict=True))
  )
  search = _Search(chosen, loss_fn, options.max_steps, layers, (params, batch))
  state = gradient_search.start(first, options.max_params)
  state = gradient_search.placed(state, (params, batch))
  loss = search.loss(state)
  state = state._replace(first_loss=loss, loss=loss)
  for _ in range(options.max_params):
    if not state.loss <= options.loss_threshold:  # Also if it is NaN.
      return state
    found = search.best(state, state.loss)
    if found is None:
      return state
    state = found
  for slot in list(range(options.max_params)) * _ROUNDS:
    if state.loss > options.loss_threshold:
      break
    found = search.best(_undone(state, first, slot), state.loss)
    state = state if found is None else found
  return state


class _Search(NamedTuple):
  """A loss as a function of the chosen layers, and which moves there are."""

  chosen: tuple[int, ...]
  loss_fn: LossFn
  max_steps: int
  layers: tuple[Layer, ...]
  given: tuple[Any, Any]  # params and batch

  def loss(self, state: State) -> jax.Array:
    """Return the loss, float32[]."""
    return _loss(self.chosen, self.loss_fn, state, *self.given)

  def best(self, state: State, least: jax.Array) -> State | None:
    """Take the best move; return None if its loss is not above `least`."""
    moves = _promising(
      self.chosen,
      self.loss_fn,
      state,
      self.layers,
      self.max_steps,
      *self.given,
    )
    tried = []
    for k in range(int((moves.gain > 0).sum())):
      loss = self.loss(_taken(state, moves, k))
      # A move that makes the loss infinite or NaN is none.
      tried.append(float(loss) if jnp.isfinite(loss) else -np.inf)
    if not tried or max(tried) <= least:
      return None
    k = int(np.argmax(tried))
    return _taken(state, moves, k)._replace(loss=jnp.float32(tried[k]))


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
  low, high, _ = (x.astype(jnp.float32) for x in ends)
  span = high - low  # The layer's dtype may not hold it.
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
) -> Moves:
  """Return the moves with the largest first-order gain."""
  loss_of = gradient_search.loss_with(chosen, loss_fn, params, batch)
  grads = jax.grad(loss_of)(state.leaves)
  like = Moves(*[jnp.zeros(0)] * 4)
  return meshes.as_auto(_rank, like, grads, layers, max_steps, state)


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
def _loss(
  chosen: tuple[int, ...],
  loss_fn: LossFn,
  state: State,
  params: Any,
  batch: Any,
) -> jax.Array:
  loss_of = gradient_search.loss_with(chosen, loss_fn, params, batch)
  return loss_of(state.leaves).astype(jnp.float32)


@jax.jit
def _taken(state: State, moves: Moves, k: int) -> State:
  """Take a move."""
  return meshes.as_auto(_take, state, state, moves, k)


def _take(state: State, moves: Moves, k: jax.Array) -> State:
  layer, index, value = moves.layer[k], moves.place[k], moves.value[k]
  values = tuple(value for _ in state.leaves)
  state = _written(state, layer, index, values, 1)
  state = gradient_search.record(state, layer, index, jnp.bool_(True))
  return state._replace(steps=state.steps + 1)


@jax.jit
def _undone(state: State, first: tuple[jax.Array, ...], slot: int) -> State:
  """Put the weight of a slot back, and free the slot."""
  return meshes.as_auto(_undo, state, state, first, slot)


def _undo(state: State, first: tuple[jax.Array, ...], slot: jax.Array) -> State:
  layer, index = state.slot_layer[slot], state.slot_index[slot]
  values = tuple(x.reshape(-1)[jnp.minimum(index, x.size - 1)] for x in first)
  state = _written(state, layer, index, values, 0)
  return state._replace(slot_layer=state.slot_layer.at[slot].set(-1))


def _written(
  state: State,
  layer: jax.Array,
  index: jax.Array,
  values: tuple[jax.Array, ...],
  count: int,
) -> State:
  """Set a weight, from the values for each layer, and its count of changes."""
  leaves = []
  counts = []
  each = zip(state.leaves, state.counts, values, strict=True)
  for i, (x, n, value) in enumerate(each):
    here = layer == i
    leaves.append(gradient_search.write(x, index, value, here))
    counts.append(gradient_search.write(n, index, jnp.int32(count), here))
  return state._replace(leaves=tuple(leaves), counts=tuple(counts))


def margin_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Return how far the best wrong class leads, at most 1, for each example.

  A search that raises its mean misleads one example after another; the
  cross-entropy grows most on those that are wrong already.

  Args:
    logits: float[..., classes].
    labels: int[...].

  Returns:
    float[...]: min(max_{j != y} z_j - z_y, 1).

  Source: Carlini, Wagner, "Towards Evaluating the Robustness of Neural
  Networks", IEEE S&P 2017, f6.

  Example:
    >>> margin_loss(jnp.array([[3.0, 1.0], [0.0, 5.0]]), jnp.array([0, 0]))
    Array([-2.,  1.], dtype=float32)
  """
  true = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
  other = jnp.where(true, -jnp.inf, logits).max(-1)
  right = jnp.where(true, logits, 0).sum(-1)
  return jnp.minimum(other - right, 1)
