"""Pixel shuffle: train something in front of the frozen network.

One map of N values serves all blocks and images, so it has few unknowns, and
gradients reach them through the stolen network:

- SHF: a matrix that Sinkhorn's iterations keep doubly stochastic, rounded to
  the nearest permutation at the end;
- NP: a gate for each position, tanh of it between keeping and inverting;
- FFX: the same gates, and a free table of 256 values;
- any of them: a free N x N matrix with a bias, which is a 1 x 1 convolution on
  space-to-depth images, linear as SHF and affine as NP are.

Needs: the file, the block size and labelled images. Cost: a training step each
step.

Sources: Mena et al., "Learning Latent Permutations with Gumbel-Sinkhorn
Networks", ICLR 2018, for the relaxation; none of the schemes' papers tries
these. MaungMaung, Echizen, Kiya, arXiv 2309.01620, concede that adaptive
attacks get by key-based input transformations.
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
from keyjax.attacks.pixel_shuffle import keys as pixel_keys
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
  """Trains a front's theta, the network's weights staying as they are."""
  start = {"params": theta, "net": view.stolen()}
  apply = in_front(view.apply_fn, front, pixel_keys.block_size(view))
  recipe, marks = Recipe(learning_rate=learning_rate), budget.marks()
  for at in fit(apply, start, view.data, marks, recipe, budget.seed):
    yield Cost(steps=at.step, flops=at.flops), at.params


@functools.lru_cache(maxsize=16)
def in_front(apply_fn: ApplyFn, front: Front, m: int) -> ApplyFn:
  """Returns a network behind a front: `{"params": theta, "net": weights}`.

  Args:
    apply_fn: the plain pass of the network.
    front: what its input goes through.
    m: the block size.
  """

  def apply(
    variables: Any, x: jax.Array, train: bool = False, mutable: Any = ()
  ) -> Any:
    del train  # The network is as it was stolen.
    blocks = front(variables["params"], pixel_keys.to_blocks(x, m))
    logits = apply_fn(variables["net"], pixel_keys.from_blocks(blocks, m))
    return (logits, {"net": variables["net"]}) if mutable else logits

  return apply


def _size(view: View) -> int:
  return pixel_keys.block_size(view) ** 2 * view.data.image.shape[-1]


# ------------------------------------------------------------------------ SHF


def sinkhorn(theta: jax.Array) -> jax.Array:
  """Returns a doubly stochastic matrix, float[n, n].

  Args:
    theta: float[n, n], scores.

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
  referee=pixel_keys.function_referee,
)
def sinkhorn_attack(
  view: View, budget: Budget, learning_rate: float = 0.1
) -> Iterator[Claim]:
  """Learns a permutation, and claims the nearest one at every mark."""
  size, m = _size(view), pixel_keys.block_size(view)
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
  """Returns the mask of the scheme's weight with the lowest gates."""
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
  referee=pixel_keys.function_referee,
)
def gates(
  view: View, budget: Budget, learning_rate: float = 0.1
) -> Iterator[Claim]:
  """Learns which positions NP inverts."""
  rng = np.random.default_rng(budget.seed)
  start = jnp.asarray(rng.normal(0, 0.1, _size(view)), jnp.float32)
  for cost, at in _train(
    view, budget, _inverted, {"gate": start}, learning_rate
  ):
    mask = jnp.asarray(balanced(np.asarray(at["params"]["gate"])))
    yield Claim(NpKey(mask=mask, block_size=pixel_keys.block_size(view)), cost)


def _tabled(theta: Any, blocks: jax.Array) -> jax.Array:
  mixed = jax.nn.sigmoid(theta["gate"]).reshape(1, 1, 1, -1)
  value = jnp.round(jnp.clip(blocks, 0, 1) * 255).astype(jnp.int32)
  looked = jnp.take(theta["table"], value)
  return mixed * looked + (1 - mixed) * theta["scale"] * blocks


@registry.register(
  "pixel_table", Goal.FUNCTION, ("ffx",), Attacker(images=1), _RATES
)
def table(
  view: View, budget: Budget, learning_rate: float = 0.1
) -> Iterator[Claim]:
  """Learns which positions FFX encrypts, and to what."""
  rng = np.random.default_rng(budget.seed)
  theta = {
    "gate": jnp.asarray(rng.normal(0, 0.1, _size(view)), jnp.float32),
    "table": jnp.full(256, 0.5),
    "scale": jnp.asarray(255 / 999, jnp.float32),
  }
  apply = in_front(view.apply_fn, _tabled, pixel_keys.block_size(view))
  for cost, at in _train(view, budget, _tabled, theta, learning_rate):
    yield Claim(Model(at, apply), cost)


# ------------------------------------------------------------------------ any


def _linear(theta: Any, blocks: jax.Array) -> jax.Array:
  return blocks @ theta["matrix"] + theta["bias"].reshape(1, 1, 1, -1)


@registry.register(
  "pixel_conv",
  Goal.FUNCTION,
  pixel_keys.KINDS,
  Attacker(images=1),
  tuple({"learning_rate": r} for r in (0.003, 0.01, 0.03)),
)
def conv(
  view: View, budget: Budget, learning_rate: float = 0.01
) -> Iterator[Claim]:
  """Learns a free 1 x 1 convolution on space-to-depth images."""
  size = _size(view)
  theta = {"matrix": jnp.eye(size), "bias": jnp.zeros(size)}
  apply = in_front(view.apply_fn, _linear, pixel_keys.block_size(view))
  yield Claim(Model({"params": theta, "net": view.stolen()}, apply))
  for cost, at in _train(view, budget, _linear, theta, learning_rate):
    yield Claim(Model(at, apply), cost)
