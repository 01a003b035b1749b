"""The search of AdvParams: gradient-guided changes, one at a time.

See `keyjax.schemes.adv_params` for the algorithm.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from keyjax import meshes, tree

LossFn = Callable[[Any, Any], jax.Array]
PUBLISHED = "published"
IN_RANGE = "in_range"


class Options(NamedTuple):
  """Options of the search; see `adv_params`."""

  theta: float
  beta: float | None
  max_layers: int
  max_steps: int
  max_changes: int
  max_params: int
  loss_threshold: float
  search: str = PUBLISHED


class Limits(NamedTuple):
  """Where the search stops; traced, so that one program serves all limits."""

  max_layers: int
  max_steps: int
  max_changes: int
  loss_threshold: float


class Bounds(NamedTuple):
  """A layer's range R and theta, and the bounds of its values."""

  span: jax.Array
  theta: jax.Array
  low: jax.Array
  high: jax.Array


class State(NamedTuple):
  """Carry of the search, all of it on the device."""

  leaves: tuple[jax.Array, ...]  # layers that may change
  counts: tuple[jax.Array, ...]  # int32, changes so far; saturated: max_changes
  slot_layer: jax.Array  # int32[K], index into `leaves`, or -1
  slot_index: jax.Array  # int32[K]
  position: jax.Array  # int32[], index into the order of layers
  layer_steps: jax.Array  # int32[], steps in this layer
  steps: jax.Array  # int32[]
  first_loss: jax.Array
  loss: jax.Array
  done: jax.Array  # bool[]


def run(
  chosen: tuple[int, ...],
  loss_fn: LossFn,
  options: Options,
  order: np.ndarray,
  params: Any,
  batch: Any,
) -> State:
  """Run the search: one compiled loop, or a compiled step on a CPU.

  XLA's CPU compiler uses its fast convolutions only outside of loops: the
  gradient of a small CNN took 5 s in the body of a loop and 0.2 s outside, so
  on a CPU the loop is in Python. The steps are the same.
  """
  leaves = tree.flatten(params)[1]
  first = tuple(jnp.asarray(leaves[i]) for i in chosen)
  bounds = tuple(
    _bounds(low, high, span, options) for low, high, span in ranges(first)
  )
  limits = Limits(
    max_layers=min(options.max_layers, len(chosen)),
    max_steps=options.max_steps,
    max_changes=options.max_changes,
    loss_threshold=options.loss_threshold,
  )
  args = (limits, jnp.asarray(order), params, batch, bounds)
  state = placed(start(first, options.max_params), (params, batch))
  if jax.default_backend() != "cpu":
    return _loop(chosen, loss_fn, state, *args)
  while not state.done:
    state = _turn(chosen, loss_fn, state, *args)
  return state


def loss_with(
  chosen: tuple[int, ...], loss_fn: LossFn, params: Any, batch: Any
) -> Callable[[tuple[jax.Array, ...]], jax.Array]:
  """Return the loss as a function of the chosen leaves."""
  _, leaves, treedef = tree.flatten(params)

  def loss_of(layers: tuple[jax.Array, ...]) -> jax.Array:
    full = list(leaves)
    for i, x in zip(chosen, layers, strict=True):
      full[i] = x
    return loss_fn(tree.reveal(jax.tree.unflatten(treedef, full)), batch)

  return loss_of


def _turn_fn(
  chosen: tuple[int, ...],
  loss_fn: LossFn,
  state: State,
  limits: Limits,
  order: jax.Array,
  params: Any,
  batch: Any,
  bounds: tuple[Bounds, ...],
) -> State:
  """Evaluate the loss and, unless it is high enough, take one step."""
  loss_of = loss_with(chosen, loss_fn, params, batch)
  loss, grads = jax.value_and_grad(loss_of)(state.leaves)
  over = (loss > limits.loss_threshold) | ~jnp.isfinite(loss)
  state = state._replace(
    loss=loss.astype(jnp.float32),
    first_loss=jnp.where(state.steps == 0, loss, state.first_loss),
    done=over | (state.position >= limits.max_layers),
  )

  def step(s: State) -> State:
    args = (grads, bounds, order, limits, s)
    return meshes.as_auto(_step, s, *args)

  return jax.lax.cond(state.done, lambda s: s, step, state)


_turn = functools.partial(jax.jit, static_argnums=(0, 1))(_turn_fn)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _loop(
  chosen: tuple[int, ...],
  loss_fn: LossFn,
  state: State,
  *args: Any,
) -> State:
  turn = lambda s: _turn_fn(chosen, loss_fn, s, *args)  # noqa: E731
  return jax.lax.while_loop(lambda s: ~s.done, turn, state)


def start(leaves: tuple[jax.Array, ...], slots: int) -> State:
  """Return the state before any step."""
  zero = jnp.int32(0)
  return State(
    leaves=leaves,
    counts=tuple(jnp.asarray(np.zeros(x.shape, np.int32)) for x in leaves),
    slot_layer=jnp.asarray(np.full(slots, -1, np.int32)),
    slot_index=jnp.asarray(np.zeros(slots, np.int32)),
    position=zero,
    layer_steps=zero,
    steps=zero,
    first_loss=jnp.float32(0),
    loss=jnp.float32(0),
    done=jnp.bool_(False),
  )


def placed(state: State, others: Any) -> State:
  """Put all of the state on the Explicit axes of the params or the batch."""
  arrays = [x for x in jax.tree.leaves(others) if isinstance(x, jax.Array)]
  shardings = [x.sharding for x in arrays if meshes.explicit_sharding(x)]
  found = next((s for s in shardings if isinstance(s, NamedSharding)), None)
  if found is None:
    return state
  whole = NamedSharding(found.mesh, PartitionSpec())
  leaves = [
    x.sharding if meshes.explicit_sharding(x) else whole for x in state.leaves
  ]
  places = jax.tree.map(lambda _: whole, state)
  places = places._replace(leaves=tuple(leaves), counts=tuple(leaves))
  return jax.device_put(state, places)


@jax.jit
def ranges(
  leaves: tuple[jax.Array, ...],
) -> list[tuple[jax.Array, jax.Array, jax.Array]]:
  """Return each layer's least and largest value, and their difference R."""
  ends = [(x.min(), x.max()) for x in leaves]
  return [(low, high, high - low) for low, high in ends]


def _bounds(
  low: jax.Array, high: jax.Array, span: jax.Array, options: Options
) -> Bounds:
  theta = jnp.asarray(options.theta, span.dtype)
  if options.beta is None:
    limit = jnp.finfo(span.dtype).max
    return Bounds(span, theta, jnp.asarray(-limit), jnp.asarray(limit))
  margin = options.beta * span
  return Bounds(span, theta, low + margin, high - margin)


def _step(
  grads: tuple[jax.Array, ...],
  bounds: tuple[Bounds, ...],
  order: jax.Array,
  limits: Limits,
  state: State,
) -> State:
  """Change one parameter, or go to the next layer when none is left."""
  layer = order[jnp.minimum(state.position, order.size - 1)]
  found = [
    _best(i, g, x, n, b, state, limits)
    for i, (g, x, n, b) in enumerate(
      zip(grads, state.leaves, state.counts, bounds, strict=True)
    )
  ]
  # One candidate a layer: [layers] -> [], that of the current layer.
  score = jnp.stack([f.score for f in found])[layer]
  index = jnp.stack([f.at for f in found])[layer]
  active = score > 0
  leaves = []
  counts = []
  for i, f in enumerate(found):
    here = active & (layer == i)
    leaves.append(write(state.leaves[i], f.at, f.value, here))
    counts.append(write(state.counts[i], f.at, f.changes, here))
  state = record(state, layer, index, active)
  layer_steps = state.layer_steps + 1
  leave = ~active | (layer_steps >= limits.max_steps)
  return state._replace(
    leaves=tuple(leaves),
    counts=tuple(counts),
    position=state.position + leave.astype(jnp.int32),
    layer_steps=jnp.where(leave, 0, layer_steps),
    steps=state.steps + active.astype(jnp.int32),
  )


class _Best(NamedTuple):
  score: jax.Array  # |gradient|, or -1 when no parameter is left
  at: jax.Array  # int32[], its index in the flattened layer
  value: jax.Array  # the parameter after its step
  changes: jax.Array  # int32[], its changes after the step


def _best(
  i: int,
  grad: jax.Array,
  x: jax.Array,
  counts: jax.Array,
  bounds: Bounds,
  state: State,
  limits: Limits,
) -> _Best:
  """Find the free parameter of a layer with the largest |gradient|."""
  free = (counts < limits.max_changes).reshape(-1)  # bool[n]
  # With all slots taken, only parameters that have one may change again.
  slot = jnp.where(state.slot_layer == i, state.slot_index, x.size)
  owned = jnp.zeros(x.size, bool).at[slot].set(True, mode="drop")
  free &= owned | (state.slot_layer < 0).any()
  flat = x.reshape(-1)  # [...] -> [n]
  slope = grad.reshape(-1)
  raw = flat + bounds.theta * jnp.sign(slope) * bounds.span
  moved = jnp.clip(raw, bounds.low, bounds.high)
  free &= moved != flat  # Not those pushed against a bound they are at.
  score = jnp.where(free, jnp.abs(slope).astype(jnp.float32), -1.0)
  index = jnp.argmax(score).astype(jnp.int32)
  value = moved[index]
  count = counts.reshape(-1)[index] + 1
  saturated = raw[index] != value
  return _Best(
    score[index],
    index,
    value,
    jnp.where(saturated, limits.max_changes, count).astype(jnp.int32),
  )


def write(
  x: jax.Array, index: jax.Array, value: jax.Array, here: jax.Array
) -> jax.Array:
  """Set one entry of a flattened array if `here`; else keep every bit."""
  where = jnp.where(here, index, x.size)
  flat = x.reshape(-1).at[where].set(value.astype(x.dtype), mode="drop")
  return flat.reshape(x.shape)


def record(
  state: State, layer: jax.Array, index: jax.Array, active: jax.Array
) -> State:
  """Assign a slot to a changed parameter, unless it has one."""
  known = (state.slot_layer == layer) & (state.slot_index == index)
  new = active & ~known.any()
  size = state.slot_layer.size
  free = jnp.where(new, jnp.argmax(state.slot_layer < 0), size)
  return state._replace(
    slot_layer=state.slot_layer.at[free].set(layer, mode="drop"),
    slot_index=state.slot_index.at[free].set(index, mode="drop"),
  )
