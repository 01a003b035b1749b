"""Functionally equivalent extraction of a network with one hidden ReLU layer.

A key protects a file, not a function. A neuron switches on a hyperplane, where
the logits bend; random lines meet these hyperplanes, differences of gradients
on both sides of a bend give the neuron's row, and the last layer is a linear
system. The result is the authorised network up to what no query can tell: the
order of the neurons, their positive scales, and neurons that never switch.

References:
  Carlini, Jagielski, Mironov, "Cryptanalytic Extraction of Neural Network
  Models", CRYPTO 2020.
  Jagielski, Carlini, Berthelot, Kurakin, Papernot, "High Accuracy and High
  Fidelity Extraction of Neural Networks", USENIX Security 2020.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import tree
from keyjax.attacks import registry
from keyjax.attacks.any_scheme.cryptanalytic import bends, layers
from keyjax.attacks.any_scheme.cryptanalytic.bends import (
  Bends,
  FlatOracle,
  Unsuitable,
)
from keyjax.attacks.any_scheme.cryptanalytic.layers import Layers
from keyjax.attacks.game import (
  Attacker,
  Budget,
  Claim,
  Cost,
  Goal,
  Model,
)
from keyjax.attacks.views import View

_FRESH = 256  # Inputs that judge the copy.
_NEAR = 1e-2  # Share of a line within which a bend is a known neuron's.
_CLOSE = 1e-2  # Error, in deviations, at which no neuron is missing.
_POOL = 32  # Inputs from which one is chosen.
_STRAIGHT = 1e-3  # Share of the weights below which an affine rest is rounding.


@registry.register(
  "cryptanalytic",
  Goal.FUNCTION,
  (registry.ANY,),
  Attacker(knows_scheme=False, has_locked=False, queries=1),
  condition="api",
  classes_only=True,
)
def cryptanalytic(
  view: View,
  budget: Budget,
  num_lines: int = 8,
  rounds: int = 24,
  polish: int = 4,
  tolerance: float = 1e-2,
) -> Iterator[Claim]:
  """Recover both layers by queries, and claim a copy with the same logits.

  All queries are inside the unit cube. A neuron that does not switch there is
  part of an affine rest, which the copy has too.

  Args:
    view: The oracle; images, if any, are ends of lines.
    budget: Its seed; the oracle limits everything else.
    num_lines: Number of lines in a round.
    rounds: Largest number of rounds; each looks where the copy is still wrong.
    polish: Gauss-Newton steps on all weights, against rounding.
    tolerance: Largest difference from the oracle's logits, in units of their
      standard deviation, with which a copy is claimed.

  Yields:
    One claim: a model, or None if the model is not an MLP with one hidden
    layer, is not piecewise linear, or the queries ran out before the copy
    agreed. `details` has `reason`, `neurons`, `hidden`, `max_difference` (of
    logits, on inputs that the copy was not made from), `agreement` (of their
    labels), `noise` (the oracle's rounding), `signs` (whether every neuron's
    sign is known, so that no affine rest is left).
  """
  assert view.oracle is not None
  hidden = _hidden(view)
  shape = view.data.image.shape[1:]
  details: dict[str, Any] = {"hidden": hidden, "neurons": 0, "reason": ""}
  model = None
  try:
    if not hidden:
      raise Unsuitable("the model is no MLP with one hidden layer")
    oracle = FlatOracle(view.oracle, shape)
    rng = np.random.default_rng(budget.seed)
    oracle.listen(rng)
    draw = _Inputs(view, oracle, rng)
    copy = _recover(oracle, draw, hidden, num_lines, rounds, polish)
    copy, details["signs"] = layers.with_signs(copy, _STRAIGHT)
    details |= _judge(copy, oracle, draw(_FRESH))
    if details["max_difference"] > tolerance * details["deviation"]:
      raise Unsuitable("the copy does not agree with the oracle")
    model = Model(jax.tree.map(jnp.asarray, copy), layers.apply)
  except Unsuitable as reason:
    details["reason"] = str(reason)
  yield Claim(model, Cost(queries=view.oracle.used), details)


def _hidden(view: View) -> int:
  """Return the hidden layer's width, or 0 for another architecture."""
  shapes = [x.shape for x in tree.flatten(view.like)[1]]
  kernels = [s for s in shapes if len(s) == 2]
  biases = sorted(s[0] for s in shapes if len(s) == 1)
  if len(kernels) != 2 or len(biases) != len(shapes) - 2:
    return 0
  size = int(np.prod(view.data.image.shape[1:]))
  for first, last in (kernels, kernels[::-1]):
    chained = first[0] == size and first[1] == last[0]
    if chained and biases == sorted([first[1], last[1]]):
      return int(first[1])
  return 0


class _Inputs:
  """Source of inputs from the whole cube: dark and bright, sharp and grey.

  Uniform inputs alone would all be near its middle, and never meet hyperplanes
  far from it. Half are blends with images, if there are any.
  """

  def __init__(
    self, view: View, oracle: FlatOracle, rng: np.random.Generator
  ) -> None:
    self._oracle = oracle
    self._rng = rng
    images = np.asarray(view.data.image, np.float64)
    self._images = images.reshape(-1, oracle.size)

  def __call__(self, count: int) -> np.ndarray:
    rng = self._rng
    size = self._oracle.size
    bright = rng.random((count, size)) < rng.random((count, 1))
    sharp = np.minimum(1.5 * rng.random((count, 1)), 1)
    x = sharp * bright + (1 - sharp) * rng.random((count, size))
    if len(self._images):
      images = self._images[rng.integers(len(self._images), size=count)]
      share = rng.random((count, 1)) * (np.arange(count) % 2)[:, None]
      x = share * images + (1 - share) * x
    return self._oracle.round(x)

  def on_both_sides(self, copy: Layers, count: int) -> np.ndarray:
    """Draw inputs on which no neuron is nearly always on, or off."""
    pool = self(_POOL * count)
    on = pool @ copy.rows + copy.biases > 0
    share = on.mean(0)
    rare = (on / (share + 1e-3) + ~on / (1 - share + 1e-3)).sum(1) + 1e-3
    picked = self._rng.choice(len(pool), count, False, rare / rare.sum())
    return np.asarray(pool[picked])


def _recover(
  oracle: FlatOracle,
  draw: _Inputs,
  hidden: int,
  num_lines: int,
  rounds: int,
  steps: int,
) -> Layers:
  """Return the network, after rounds of lines where it is still wrong."""
  start = draw(num_lines)
  count = 2 * (hidden + oracle.size + 1)
  x = draw(count)
  logits = oracle(x)
  read = layers.none(oracle.size, logits.shape[1])
  classes = logits.shape[1]
  for _ in range(rounds):
    found = bends.find(oracle, start, draw(num_lines), hidden)
    read = _extend(read, oracle, found, hidden)
    copy = layers.last_layer(read, x, logits)
    fresh = draw.on_both_sides(read, count)
    want = oracle(fresh)
    error = np.abs(layers.forward(copy, fresh) - want).max(-1)
    x = np.concatenate([x, fresh])
    logits = np.concatenate([logits, want])
    if read.neurons == hidden:
      break
    start = fresh[np.argsort(-error)[:num_lines]]
  copy = layers.last_layer(read, x, logits)
  complete = read.neurons == hidden or error.max() < _CLOSE * logits.std()
  if not complete or not layers.can_polish(copy):
    return copy
  more = draw.on_both_sides(read, 4 * hidden * (oracle.size + 1) // classes)
  x = np.concatenate([x, more])
  logits = np.concatenate([logits, oracle(more)])
  for _ in range(steps):
    copy = layers.polish(copy, x, logits)
  return copy


def _extend(
  copy: Layers, oracle: FlatOracle, found: Bends, hidden: int
) -> Layers:
  """Add the neurons of bends that no known neuron explains, widest first."""
  order = np.argsort(-found.reach * np.linalg.norm(found.jump, axis=1))
  left = found.take(order)
  while len(left.point) and copy.neurons < hidden:
    left = left.take(~_explained(copy, left))
    if not len(left.point):
      break
    read = bends.row(oracle, left, 0)
    if read is not None:
      copy = layers.with_neuron(copy, *read)
    left = left.take(slice(1, None))
  return copy


def _explained(copy: Layers, found: Bends) -> np.ndarray:
  """Return which bends are on the hyperplane of a known neuron, bool[n]."""
  distance = found.point @ copy.rows + copy.biases
  speed = np.abs(found.line @ copy.rows)
  near = np.abs(distance) < _NEAR * speed
  # All bends of a neuron jump in the same direction.
  jump = found.jump / np.linalg.norm(found.jump, axis=1, keepdims=True)
  length = np.linalg.norm(copy.out, axis=1)
  alike = np.abs(jump @ copy.out.T) > 0.9 * length
  return np.asarray((near & alike).any(1))


def _judge(
  copy: Layers, oracle: FlatOracle, fresh: np.ndarray
) -> dict[str, Any]:
  """Return the copy's errors on inputs that it was not made from."""
  want = oracle(fresh)
  got = layers.forward(copy, fresh)
  return {
    "neurons": copy.neurons,
    "noise": oracle.noise,
    "max_difference": float(np.abs(want - got).max()),
    "deviation": float(want.std()),
    "agreement": float((want.argmax(-1) == got.argmax(-1)).mean()),
  }
