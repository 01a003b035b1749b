"""Scores of claimed HPNN signs, up to symmetry.

Two sign vectors that compute the same function cannot be told apart, and need
not be. These signs are free in every score:

- units that no neuron is scheduled on;
- neurons whose flip leaves the logits unchanged: their own weights or all
  outgoing ones vanish, everything after them does, or their activation is
  even;
- pairs of successive locked layers that can be flipped together as a whole:
  an odd activation between them, and no bias in the second.
"""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import tasks
from keyjax.attacks import referee
from keyjax.attacks.game import Score, Target
from keyjax.attacks.hpnn import sign_model
from keyjax.scheme import ApplyFn, PyTree
from keyjax.schemes.hpnn import HpnnKey

# A flip that changes no logit by more than this share of the largest is free.
_TOLERANCE = 1e-5
# Each neuron takes a pass: a language model has a hundred thousand of them.
_MOST_NEURONS = 8192


class Symmetries(NamedTuple):
  """Sign flips that leave the function unchanged.

  Attributes:
    neurons: Path of each module -> bool[features], whether a flip does nothing.
    pairs: Pairs of modules that can be flipped together.
  """

  neurons: dict[str, np.ndarray]
  pairs: list[tuple[str, str]]


def symmetries(
  apply_fn: ApplyFn, params: PyTree, key: HpnnKey, images: Any
) -> Symmetries:
  """Find the flips that leave the function unchanged, by trying them.

  Args:
    apply_fn: Plain pass.
    params: Weights of the locked model.
    key: The right key.
    images: Images, or other inputs, on which functions are compared; of floats,
      noise is added.

  Returns:
    The flips; none for more than 8,192 neurons, where they are not tried, so
    that a bit without effect counts as wrong if it differs.
  """
  sizes = {path: units.size for path, units in key.units.items()}
  if sum(sizes.values()) > _MOST_NEURONS:
    return Symmetries({p: np.zeros(n, bool) for p, n in sizes.items()}, [])
  rng = np.random.default_rng(0)

  def with_noise(x: np.ndarray) -> jax.Array:
    real = jnp.issubdtype(x.dtype, jnp.floating)
    more = rng.random(x.shape, np.float32) if real else x
    return jnp.asarray(np.concatenate([x, more]))

  x = jax.tree.map(with_noise, images)
  paths = list(key.units)
  start = np.cumsum([0, *(key.units[p].size for p in paths)])
  units = {
    p: jnp.arange(a, a + key.units[p].size)
    for p, a in zip(paths, start[:-1], strict=True)
  }
  values = np.concatenate([np.asarray(key.signs(p), np.float32) for p in paths])
  logits = sign_model.logits(apply_fn)

  def outputs(values: np.ndarray) -> jax.Array:
    leaves = jax.tree.leaves(logits(params, units, values, x))
    return jnp.concatenate([jnp.ravel(leaf) for leaf in leaves])

  want = outputs(values)
  limit = _TOLERANCE * float(jnp.abs(want).max())

  def same(flipped: Any) -> bool:
    trial = values.copy()
    trial[flipped] *= -1
    return float(jnp.abs(outputs(trial) - want).max()) <= limit

  neurons = {
    p: np.array([same(units[p][i : i + 1]) for i in range(units[p].size)])
    for p in paths
  }
  pairs = [
    (a, b)
    for a, b in itertools.pairwise(paths)
    if same(np.concatenate([units[a], units[b]]))
    and not (neurons[a].all() and neurons[b].all())
  ]
  return Symmetries(neurons, pairs)


def agreement(claimed: HpnnKey, true: HpnnKey, found: Symmetries) -> dict:
  """Count the right bits and neurons of a claimed key, up to symmetry.

  A key bit is right when the sign of every neuron on its unit is, by the true
  schedule; the claim may use another schedule.

  Returns:
    `bits_right` of `bits` that act, `bits_free`, and the same for `neurons`.
  """
  best: dict[str, int] = {"neurons_right": -1}
  for chosen in itertools.product((1, -1), repeat=len(found.pairs)):
    turn = dict.fromkeys(true.units, 1)
    for sign, pair in zip(chosen, found.pairs, strict=True):
      for path in pair:
        turn[path] *= sign
    counts = _count(claimed, true, found, turn)
    if counts["neurons_right"] > best["neurons_right"]:
      best = counts
  return best


def _count(
  claimed: HpnnKey, true: HpnnKey, found: Symmetries, turn: dict[str, int]
) -> dict[str, int]:
  acts = np.zeros(true.bits.size, bool)
  wrong = np.zeros(true.bits.size, bool)
  neurons = right = 0
  for path, units in true.units.items():
    fixed = ~found.neurons[path]
    ours = turn[path] * np.asarray(claimed.signs(path))
    bad = (ours != np.asarray(true.signs(path))) & fixed
    acts[np.asarray(units)[fixed]] = True
    wrong[np.asarray(units)[bad]] = True
    neurons += int(fixed.sum())
    right += int((fixed & ~bad).sum())
  return {
    "bits": int(acts.sum()),
    "bits_right": int((acts & ~wrong).sum()),
    "bits_free": int((~acts).sum()),
    "neurons": neurons,
    "neurons_right": right,
    "neurons_free": sum(int(n.sum()) for n in found.neurons.values()),
    "layer_pairs_free": len(found.pairs),
  }


@functools.lru_cache(maxsize=4)
def _symmetries(target: Target) -> Symmetries:
  return symmetries(
    target.apply_fn,
    target.floats(target.locked),
    target.key,
    tasks.take(target.test.image, slice(64)),
  )


def judge(claimed: HpnnKey, target: Target) -> tuple[Score, dict]:
  """Return the accuracy under a claimed key, and its counts."""
  model = sign_model.model_of(
    claimed, target.apply_fn, target.floats(target.locked)
  )
  counts = agreement(claimed, target.key, _symmetries(target))
  return referee.judge(model, target.test, target.task), counts


def key_referee(claimed: HpnnKey, target: Target) -> Score:
  """Score the share of acting key bits that are right, up to symmetry."""
  accuracy, counts = judge(claimed, target)
  share = counts["bits_right"] / max(counts["bits"], 1)
  return Score(share, share, share, {**counts, "accuracy": accuracy.value})


def function_referee(claimed: HpnnKey, target: Target) -> Score:
  """Score the accuracy under a claimed key."""
  accuracy, counts = judge(claimed, target)
  return accuracy._replace(details={**(accuracy.details or {}), **counts})
