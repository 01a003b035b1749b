"""Line search along the coordinates with the most promising gradients."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import tasks
from keyjax.attacks import registry
from keyjax.attacks.adv_params import kernels
from keyjax.attacks.game import Attacker, Budget, Claim, Cost, Goal, Model
from keyjax.attacks.views import View
from keyjax.scheme import ApplyFn, PyTree
from keyjax.tasks.task import Loss

_FRACTIONS = (0.0, 0.5, 1.0)  # Points of the inner range that are tried.
_AT_ONCE = 16  # Weights that a step tries.
_SCREEN = 100  # Images on which every candidate is tried first,
_FINALISTS = 6  # and number of candidates that are then tried on all of them.


@registry.register(
  "line_search",
  Goal.FUNCTION,
  kernels.SCHEMES,
  Attacker(images=1),
  ({"held_out": 0.0}, {"held_out": 0.3}),
)
def line_search(
  view: View, budget: Budget, held_out: float = 0.0
) -> Iterator[Claim]:
  """Move one weight at a time to where a few images want it.

  A step takes the coordinates with the largest first-order gain in each kernel,
  tries values over the layer's inner range, and keeps the change that lowers
  the loss most. It stops when no change does, or when the loss on held-out
  images stops falling.

  Args:
    view: The stolen file and labelled images.
    budget: Its `steps` are the largest number of changes.
    held_out: Share of the images that only decide which step was best.
  """
  batch, rest = kernels.split(
    view.data, round(tasks.num_examples(view.data) * (1 - held_out))
  )
  params = view.stolen()
  search = _Search(view.apply_fn, params, view.task.loss)
  best_loss = float(search.loss(params, rest))
  best = params
  flops = search.flops(params, batch)
  marks = budget.marks()
  yield Claim(Model(params, view.apply_fn), Cost())
  for step in range(1, budget.steps + 1):
    found = search.step(params, batch)
    if found is None:
      break
    params = found
    loss = float(search.loss(params, rest))
    if loss < best_loss:
      best_loss, best = loss, params
    if step in marks:
      cost = Cost(steps=step, flops=step * flops)
      yield Claim(Model(best, view.apply_fn), cost)
  yield Claim(
    Model(best, view.apply_fn),
    Cost(steps=step, flops=step * flops),
    {"loss": best_loss, "images": tasks.num_examples(view.data)},
  )


class _Change(NamedTuple):
  """A new value for one weight of one leaf."""

  leaf: int
  place: int
  value: float


class _Search:
  """Tries changes of single weights; one compilation serves all of them."""

  def __init__(self, apply_fn: ApplyFn, params: PyTree, loss_fn: Loss):
    leaves = jax.tree.leaves(params)
    # Of the stolen file: the search stays where unchanged weights are.
    self._ranges = {
      i: kernels.inner_range(leaves[i]) for i in kernels.indices(params)
    }

    def loss(params: PyTree, batch: Any) -> jax.Array:
      return loss_fn(apply_fn(params, batch[0]), batch[1]).mean()

    self.loss = jax.jit(loss)
    self._grad = jax.jit(jax.value_and_grad(loss))

  def flops(self, params: PyTree, batch: Any) -> float:
    """Return the operations of a step, by XLA's count."""
    once = self.loss.lower(params, batch).cost_analysis() or {}
    images = tasks.num_examples(batch)
    tries = _AT_ONCE * len(_FRACTIONS) * min(_SCREEN, images) / images
    return float(once.get("flops", 0.0)) * (tries + _FINALISTS + 3)

  def step(self, params: PyTree, batch: Any) -> PyTree | None:
    """Return the params with the best single change, or None."""
    loss, grads = self._grad(params, batch)
    few = tasks.take(batch, slice(_SCREEN))
    tried = [_apply(params, c) for c in self._promising(params, grads)]
    tried.sort(key=lambda new: float(self.loss(new, few)))
    # The others are tried on all images only when no finalist helps.
    for part in (tried[:_FINALISTS], tried[_FINALISTS:]):
      losses = [float(self.loss(new, batch)) for new in part]
      best = int(np.argmin(losses))
      if losses[best] < float(loss) - 1e-6:
        return part[best]
    return None

  def _promising(self, params: PyTree, grads: PyTree) -> list[_Change]:
    """Return values for the weights with the largest first-order gain."""
    leaves, slopes = jax.tree.leaves(params), jax.tree.leaves(grads)
    places = []
    for i, span in self._ranges.items():
      gain = kernels.first_order(leaves[i], slopes[i], span)
      most = min(_AT_ONCE, gain.size)
      at = np.argpartition(gain, -most)[-most:]
      places += [(float(gain[j]), i, int(j)) for j in at]
    best = sorted(places, reverse=True)[:_AT_ONCE]
    return [
      _Change(i, j, float(low + f * (high - low)))
      for _, i, j in best
      for low, high in [self._ranges[i]]
      for f in _FRACTIONS
    ]


def _apply(params: PyTree, change: _Change) -> PyTree:
  leaves, treedef = jax.tree.flatten(params)
  x = np.array(leaves[change.leaf])
  x.reshape(-1)[change.place] = change.value
  leaves[change.leaf] = jnp.asarray(x)
  return jax.tree.unflatten(treedef, leaves)
