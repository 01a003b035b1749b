"""AdvParams: find the few changed weights, and put them right.

A lock of some tens of scalars in hundreds of thousands is sparse, and four
kinds of attacker use it:

- who looks at values alone: outliers beyond the other weights of a layer, and
  values that occur twice, which a saturated step leaves (`suspects`);
- who has a few labelled images: a line search along the coordinates with the
  largest gradients, one weight at a time, inside the layer's own range
  (`line_search`), or fine-tuning of these coordinates alone (`sparse_tune`);
- who prunes the largest weights, or re-estimates batch statistics;
- who has a public base model: changed weights are where the files differ most.

References:
  Xue et al., arXiv 2105.13697, claims robustness to an adaptive attack by
  somebody who knows all steps; this is the attack.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import tree
from keyjax.attacks import fit, registry
from keyjax.attacks.game import (
  Attacker,
  Budget,
  Claim,
  Cost,
  Goal,
  Model,
)
from keyjax.attacks.views import View
from keyjax.scheme import ApplyFn, PyTree

NAMES = ("adv_params", "keyed_noise")
_LAYERS = ".*kernel"
_SPREAD = 6.0  # Quartile ranges beyond which a weight is an outlier.
_INNER = (0.01, 0.99)  # Quantiles between which honest weights are.
_FRACTIONS = (0.0, 0.5, 1.0)  # Places in that range that are tried.
_AT_ONCE = 16  # Weights that a step tries.
_SCREEN = 100  # Images that a try sees first,
_FINALISTS = 6  # and how many tries then see all.


@registry.register(
  "clip_outliers",
  Goal.FUNCTION,
  NAMES,
  Attacker(),
  tuple({"spread": s} for s in (1.5, 3.0, 6.0)),
)
def clip_outliers(
  view: View, budget: Budget, spread: float = _SPREAD
) -> Iterator[Claim]:
  """Pulls weights beyond `spread` quartile ranges to the layer's centre.

  A weight that was pushed out of its layer's range says so itself; what it was
  before is unknown, and zero is the best guess.
  """
  out, count = _edit(view.stolen(), lambda w: _outliers(w, spread))
  yield Claim(Model(out, view.apply_fn), Cost(steps=1), {"edited": count})


@registry.register("drop_duplicates", Goal.FUNCTION, NAMES, Attacker())
def drop_duplicates(view: View, budget: Budget) -> Iterator[Claim]:
  """Zeroes weights whose exact value occurs twice in a layer.

  A step that saturates leaves the layer's bound, the same float each time.
  """
  out, count = _edit(view.stolen(), _duplicates)
  yield Claim(Model(out, view.apply_fn), Cost(steps=1), {"edited": count})


@registry.register("prune_largest", Goal.FUNCTION, NAMES, Attacker())
def prune_largest(view: View, budget: Budget) -> Iterator[Claim]:
  """Zeroes the largest weights, ever more of them: a curve."""
  stolen = view.stolen()
  for share in (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2):
    out, count = _edit(stolen, functools.partial(_largest, share=share))
    claim = Model(out, view.apply_fn)
    yield Claim(claim, Cost(steps=count), {"edited": count, "share": share})


@registry.register(
  "nearest_base",
  Goal.FUNCTION,
  NAMES,
  Attacker(has_base=True),
  tuple({"spread": s} for s in (6.0, 20.0)),
)
def nearest_base(
  view: View, budget: Budget, spread: float = _SPREAD
) -> Iterator[Claim]:
  """Puts a public base model's value where the file is far from it."""

  def repair(w: np.ndarray, base: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    apart = np.abs(w - base)
    odd = apart > spread * np.quantile(apart, 0.9)
    return odd, base

  stolen, base = view.stolen(), view.floats(view.base)
  out, count = _edit(stolen, repair, base)
  yield Claim(Model(out, view.apply_fn), Cost(steps=1), {"edited": count})


def _edit(params: PyTree, find: Any, other: PyTree = None) -> Any:
  """Applies `find(w) -> (where, value)` to every kernel.

  Returns:
    The tree, and how many weights were replaced.
  """
  match = tree.matcher(_LAYERS)
  paths, leaves, treedef = tree.flatten(params)
  others = leaves if other is None else tree.flatten(other)[1]
  out, count = [], 0
  for path, x, y in zip(paths, leaves, others, strict=True):
    if match(path):
      w = np.asarray(x, np.float32)
      odd, value = find(w) if other is None else find(w, np.asarray(y))
      count += int(odd.sum())
      x = jnp.asarray(np.where(odd, value, w), x.dtype)
    out.append(x)
  return jax.tree.unflatten(treedef, out), count


def _outliers(w: np.ndarray, spread: float) -> tuple[np.ndarray, Any]:
  low, high = np.quantile(w, (0.25, 0.75))
  reach = spread * (high - low)
  return (w < low - reach) | (w > high + reach), 0.0


def _duplicates(w: np.ndarray) -> tuple[np.ndarray, Any]:
  values, counts = np.unique(w, return_counts=True)
  return np.isin(w, values[(counts > 1) & (values != 0)]), 0.0


def _largest(w: np.ndarray, share: float) -> tuple[np.ndarray, Any]:
  return np.abs(w) > np.quantile(np.abs(w), 1 - share), 0.0


# ------------------------------------------------------- with labelled images


@registry.register("batch_statistics", Goal.FUNCTION, NAMES, Attacker(images=1))
def batch_statistics(view: View, budget: Budget) -> Iterator[Claim]:
  """Estimates batch-norm statistics anew; labels are not looked at."""
  stolen = view.stolen()
  if not fit.has_statistics(stolen):
    more = {"no_batch_norm": True}
    yield Claim(Model(stolen, view.apply_fn), details=more)
    return
  out = fit.estimate(view.apply_fn, stolen, view.data.image)
  yield Claim(Model(out, view.apply_fn), Cost(steps=1))


@registry.register(
  "line_search",
  Goal.FUNCTION,
  NAMES,
  Attacker(images=1),
  ({"held_out": 0.0}, {"held_out": 0.3}),
)
def line_search(
  view: View, budget: Budget, held_out: float = 0.0
) -> Iterator[Claim]:
  """Moves one weight at a time to where a few images want it.

  A step takes in each kernel the coordinates with the largest gradient times
  value, tries values over the layer's inner range, and keeps the one change
  that lowers the loss most. It ends when no change does, or on images held
  out.

  Args:
    view: at least the file and labelled images.
    budget: `steps` changes at most.
    held_out: share of the images that only tell when to stop.
  """
  cut = round(len(view.data.label) * (1 - held_out))
  batch, rest = _batches(view, cut)
  params = view.stolen()
  search = _Search(view.apply_fn, params)
  best, kept = float(search.loss(params, rest)), params
  cost = search.flops(params, batch)
  marks = budget.marks()
  yield Claim(Model(params, view.apply_fn), Cost())
  for step in range(1, budget.steps + 1):
    found = search.step(params, batch)
    if found is None:
      break
    params = found
    loss = float(search.loss(params, rest))
    if loss < best:
      best, kept = loss, params
    if step in marks:
      yield Claim(
        Model(kept, view.apply_fn), Cost(steps=step, flops=step * cost)
      )
  yield Claim(
    Model(kept, view.apply_fn),
    Cost(steps=step, flops=step * cost),
    {"loss": best, "images": len(view.data.label)},
  )


def _batches(view: View, cut: int) -> tuple[Any, Any]:
  data = view.data
  first = (jnp.asarray(data.image[:cut]), jnp.asarray(data.label[:cut]))
  if cut == len(data.label):
    return first, first
  return first, (jnp.asarray(data.image[cut:]), jnp.asarray(data.label[cut:]))


class _Change(NamedTuple):
  """One weight of one leaf, and a value for it."""

  leaf: int
  place: int
  value: float


class _Search:
  """Tries changes of single weights; one compilation serves all of them."""

  def __init__(self, apply_fn: ApplyFn, params: PyTree):
    self._which = kernels(params)
    leaves = jax.tree.leaves(params)
    # The inner range of the file, where honest weights are.
    self._ranges = {
      i: np.quantile(np.asarray(leaves[i]), _INNER) for i in self._which
    }

    def loss(params: PyTree, batch: Any) -> jax.Array:
      return fit.cross_entropy(apply_fn(params, batch[0]), batch[1])

    self.loss = jax.jit(loss)
    self._grad = jax.jit(jax.value_and_grad(loss))

  def flops(self, params: PyTree, batch: Any) -> float:
    """Returns what a step computes, by XLA's count."""
    once = self.loss.lower(params, batch).cost_analysis() or {}
    images = len(batch[1])
    tries = _AT_ONCE * len(_FRACTIONS) * min(_SCREEN, images) / images
    return float(once.get("flops", 0.0)) * (tries + _FINALISTS + 3)

  def step(self, params: PyTree, batch: Any) -> PyTree | None:
    """Returns the params with the best single change, or None."""
    loss, grads = self._grad(params, batch)
    few = tuple(x[:_SCREEN] for x in batch)
    tried = [_apply(params, c) for c in self._promising(params, grads)]
    tried.sort(key=lambda new: float(self.loss(new, few)))
    # All others see all images only when none of the finalists helps.
    for part in (tried[:_FINALISTS], tried[_FINALISTS:]):
      losses = [float(self.loss(new, batch)) for new in part]
      best = int(np.argmin(losses))
      if losses[best] < float(loss) - 1e-6:
        return part[best]
    return None

  def _promising(self, params: PyTree, grads: PyTree) -> list[_Change]:
    """Returns values for the weights whose gradients promise most."""
    leaves, slopes = jax.tree.leaves(params), jax.tree.leaves(grads)
    places = []
    for i in self._which:
      gain = first_order(leaves[i], slopes[i], self._ranges[i])
      at = np.argpartition(gain, -_AT_ONCE)[-_AT_ONCE:]
      places += [(float(gain[j]), i, int(j)) for j in at]
    best = sorted(places, reverse=True)[:_AT_ONCE]
    return [
      _Change(i, j, float(low + f * (high - low)))
      for _, i, j in best
      for low, high in [self._ranges[i]]
      for f in _FRACTIONS
    ]


def kernels(params: PyTree) -> list[int]:
  """Returns which leaves a search may change."""
  match = tree.matcher(_LAYERS)
  return [i for i, p in enumerate(tree.flatten(params)[0]) if match(p)]


def first_order(x: Any, slope: Any, span: Any) -> np.ndarray:
  """Returns by how much a move inside the range may lower the loss."""
  w, g = (np.asarray(v, np.float32).reshape(-1) for v in (x, slope))
  low, high = span
  return np.nan_to_num(np.maximum(g * (w - low), g * (w - high)))


def _apply(params: PyTree, change: _Change) -> PyTree:
  leaves, treedef = jax.tree.flatten(params)
  x = np.array(leaves[change.leaf])
  x.reshape(-1)[change.place] = change.value
  leaves[change.leaf] = jnp.asarray(x)
  return jax.tree.unflatten(treedef, leaves)


@registry.register(
  "sparse_tune",
  Goal.FUNCTION,
  NAMES,
  Attacker(images=1),
  tuple(
    {"coordinates": k, "learning_rate": r}
    for k in (64, 1024)
    for r in (0.01, 0.1)
  ),
)
def sparse_tune(
  view: View, budget: Budget, coordinates: int = 64, learning_rate: float = 0.1
) -> Iterator[Claim]:
  """Fine-tunes the weights with the most promising gradients, and no others."""
  params = view.stolen()
  batch, _ = _batches(view, len(view.data.label))

  def loss(params: PyTree) -> jax.Array:
    return fit.cross_entropy(view.apply_fn(params, batch[0]), batch[1])

  leaves, treedef = jax.tree.flatten(params)
  slopes = jax.tree.leaves(jax.jit(jax.grad(loss))(params))
  which = set(kernels(params))
  gains = [
    first_order(x, g, np.quantile(np.asarray(x), _INNER))
    if i in which
    else np.zeros(np.size(x), np.float32)
    for i, (x, g) in enumerate(zip(leaves, slopes, strict=True))
  ]
  least = max(np.sort(np.concatenate(gains))[-coordinates], 1e-30)
  mask = [
    jnp.asarray((g >= least).astype(np.float32).reshape(np.shape(x)))
    for g, x in zip(gains, leaves, strict=True)
  ]
  recipe = fit.Recipe(learning_rate=learning_rate, batch_size=128)
  chosen = jax.tree.unflatten(treedef, mask)
  steps = fit.fit(
    view.apply_fn,
    params,
    view.data,
    budget.marks(),
    recipe,
    budget.seed,
    chosen,
  )
  for at in steps:
    cost = Cost(steps=at.step, flops=at.flops)
    yield Claim(Model(at.params, view.apply_fn), cost)
