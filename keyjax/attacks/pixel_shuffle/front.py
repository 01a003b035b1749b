"""Pixel shuffle: train a map in front of the frozen network.

One map of N values serves all blocks and images, so it has few unknowns, and
gradients reach them through the stolen network:

- SHF: a matrix that Sinkhorn's iterations keep doubly stochastic, rounded to
  the nearest permutation at the end;
- NP: a gate for each position, tanh of which blends keeping and inverting;
- FFX: the same gates, and a free table of 256 values;
- any of them: a free N x N matrix with a bias, which is a 1 x 1 convolution on
  space-to-depth images, linear as SHF and affine as NP are.

Needs: the file, the block size and labelled images. Cost: one training step
for each step.

Sources: Mena et al., "Learning Latent Permutations with Gumbel-Sinkhorn
Networks", ICLR 2018, for the relaxation; none of the schemes' papers tries
these. MaungMaung, Echizen, Kiya, arXiv 2309.01620, concede that adaptive
attacks defeat key-based input transformations.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from keyjax.attacks import registry
from keyjax.attacks.fit import Recipe, fit
from keyjax.attacks.game import (
  Attacker,
  Budget,
  Claim,
  Cost,
  Goal,
  Model,
)
from keyjax.attacks.pixel_shuffle import block_keys, block_referees
from keyjax.attacks.views import View
from keyjax.scheme import ApplyFn
from keyjax.schemes import pixel_shuffle
from keyjax.schemes.pixel_shuffle import NpKey, ShfKey

_TEMPERATURE = 0.1
_ITERATIONS = 20
_RATES = tuple({"learning_rate": r} for r in (0.03, 0.1))
# (theta, blocks) -> blocks
Front = Callable[[Any, jax.Array], jax.Array]


def _train(
  view: View, budget: Budget, front: Front, theta: Any, learning_rate: float
) -> Iterator[tuple[Cost, Any]]:
  """Train the parameters of a front; the network's weights are frozen."""
  start = {"params": theta, "net": view.stolen()}
  apply = in_front(view.apply_fn, front, block_keys.block_size(view))
  recipe = Recipe(learning_rate=learning_rate)
  marks = budget.marks()
  loss = view.task.loss
  for at in fit(apply, start, view.data, marks, recipe, budget.seed, loss=loss):
    yield Cost(steps=at.step, flops=at.flops), at.params


@functools.lru_cache(maxsize=16)
def in_front(apply_fn: ApplyFn, front: Front, m: int) -> ApplyFn:
  """Return a pass over `{"params": theta, "net": weights}`: front, network.

  Args:
    apply_fn: Plain pass of the network.
    front: Map of the blocks of its input.
    m: Block size.
  """

  def apply(
    variables: Any, x: jax.Array, train: bool = False, mutable: Any = ()
  ) -> Any:
    del train  # The network is frozen.
    # [n, h, w, c] -> [n, h / m, w / m, N] and back
    blocks = front(variables["params"], block_keys.to_blocks(x, m))
    logits = apply_fn(variables["net"], block_keys.from_blocks(blocks, m))
    return (logits, {"net": variables["net"]}) if mutable else logits

  return apply


# ------------------------------------------------------------------------ SHF


def sinkhorn(theta: jax.Array) -> jax.Array:
  """Return a doubly stochastic matrix, float[n, n].

  Args:
    theta: float[n, n], unnormalised scores.

  Example:
    >>> found = sinkhorn(jnp.eye(3))
    >>> bool(jnp.allclose(found.sum(0), 1) and jnp.allclose(found.sum(1), 1))
    True
  """
  scores = theta / _TEMPERATURE
  for _ in range(_ITERATIONS):
    scores = jax.nn.log_softmax(scores, axis=0)
    scores = jax.nn.log_softmax(scores, axis=1)
  return jnp.exp(scores)


def _permuted(theta: Any, blocks: jax.Array) -> jax.Array:
  return blocks @ sinkhorn(theta["scores"]).T


@registry.register(
  "pixel_sinkhorn",
  Goal.FUNCTION,
  ("shf",),
  Attacker(images=1),
  _RATES,
  referee=block_referees.function_referee,
)
def sinkhorn_attack(
  view: View, budget: Budget, learning_rate: float = 0.1
) -> Iterator[Claim]:
  """Learn a permutation, and claim the nearest one at every mark."""
  size = block_keys.values_per_block(view)
  m = block_keys.block_size(view)
  rng = np.random.default_rng(budget.seed)
  scores = jnp.asarray(rng.normal(0, 0.01, (size, size)), jnp.float32)
  theta = {"scores": scores}
  for cost, at in _train(view, budget, _permuted, theta, learning_rate):
    matrix = np.asarray(sinkhorn(at["params"]["scores"]))
    order = scipy.optimize.linear_sum_assignment(-matrix)[1]
    yield Claim(ShfKey(order=jnp.asarray(order), block_size=m), cost)


# ------------------------------------------------------------------ NP and FFX


def _inverted(theta: Any, blocks: jax.Array) -> jax.Array:
  gate = jnp.tanh(theta["gate"])
  return 0.5 + gate.reshape(1, 1, 1, -1) * (blocks - 0.5)


def balanced(gate: np.ndarray) -> np.ndarray:
  """Return the mask of the positions with the lowest gates, bool[N].

  As many are chosen as the scheme's masks have.
  """
  mask = np.zeros(gate.size, bool)
  ones = pixel_shuffle.balanced_mask(np.arange(gate.size)).sum()
  mask[np.argsort(gate)[:ones]] = True
  return mask


@registry.register(
  "pixel_gates",
  Goal.FUNCTION,
  ("np",),
  Attacker(images=1),
  _RATES,
  referee=block_referees.function_referee,
)
def gates(
  view: View, budget: Budget, learning_rate: float = 0.1
) -> Iterator[Claim]:
  """Learn which positions NP inverts."""
  rng = np.random.default_rng(budget.seed)
  start = jnp.asarray(
    rng.normal(0, 0.1, block_keys.values_per_block(view)), jnp.float32
  )
  for cost, at in _train(
    view, budget, _inverted, {"gate": start}, learning_rate
  ):
    mask = jnp.asarray(balanced(np.asarray(at["params"]["gate"])))
    yield Claim(NpKey(mask=mask, block_size=block_keys.block_size(view)), cost)


def _tabled(theta: Any, blocks: jax.Array) -> jax.Array:
  mixed = jax.nn.sigmoid(theta["gate"]).reshape(1, 1, 1, -1)
  value = jnp.round(jnp.clip(blocks, 0, 1) * 255).astype(jnp.int32)
  encrypted = jnp.take(theta["table"], value)
  return mixed * encrypted + (1 - mixed) * theta["scale"] * blocks


@registry.register(
  "pixel_table", Goal.FUNCTION, ("ffx",), Attacker(images=1), _RATES
)
def table(
  view: View, budget: Budget, learning_rate: float = 0.1
) -> Iterator[Claim]:
  """Learn which positions FFX encrypts, and its table."""
  rng = np.random.default_rng(budget.seed)
  theta = {
    "gate": jnp.asarray(
      rng.normal(0, 0.1, block_keys.values_per_block(view)), jnp.float32
    ),
    "table": jnp.full(256, 0.5),
    "scale": jnp.asarray(255 / 999, jnp.float32),
  }
  apply = in_front(view.apply_fn, _tabled, block_keys.block_size(view))
  for cost, at in _train(view, budget, _tabled, theta, learning_rate):
    yield Claim(Model(at, apply), cost)


# ------------------------------------------------------------------------ any


def _linear(theta: Any, blocks: jax.Array) -> jax.Array:
  return blocks @ theta["matrix"] + theta["bias"].reshape(1, 1, 1, -1)


@registry.register(
  "pixel_conv",
  Goal.FUNCTION,
  block_keys.SCHEMES,
  Attacker(images=1),
  tuple({"learning_rate": r} for r in (0.003, 0.01, 0.03)),
)
def conv(
  view: View, budget: Budget, learning_rate: float = 0.01
) -> Iterator[Claim]:
  """Learn a free 1 x 1 convolution on space-to-depth images."""
  size = block_keys.values_per_block(view)
  theta = {"matrix": jnp.eye(size), "bias": jnp.zeros(size)}
  apply = in_front(view.apply_fn, _linear, block_keys.block_size(view))
  yield Claim(Model({"params": theta, "net": view.stolen()}, apply))
  for cost, at in _train(view, budget, _linear, theta, learning_rate):
    yield Claim(Model(at, apply), cost)
