"""Networks that can be evaluated on ciphertexts: dense layers and a quadratic.

`apply` is the plain twin, for training and for comparison: the same function,
in JAX. `squared` gives the same function again as layers with x^2 between them,
so that any quadratic activation costs one level.

References:
  Pengtao Xie, Misha Bilenko, Tom Finley, Ran Gilad-Bachrach, Kristin Lauter and
  Michael Naehrig, "Crypto-nets: Neural networks over encrypted data", 2014.
  Nathan Dowlin, Ran Gilad-Bachrach, Kim Laine, Kristin Lauter, Michael Naehrig
  and John Wernsing, "CryptoNets: Applying neural networks to encrypted data
  with high throughput and accuracy", ICML 2016.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.arguments import describe
from keyjax.defenses.homomorphic.checks import reals, whole
from keyjax.errors import ArgumentError

Params = Mapping[str, Mapping[str, Any]]
Quadratic = tuple[float, float, float]
SQUARE: Quadratic = (0.0, 0.0, 1.0)


class Layer(NamedTuple):
  """A dense layer.

  Attributes:
    kernel: float64[inputs, outputs].
    bias: float64[outputs].
  """

  kernel: np.ndarray
  bias: np.ndarray


def init(rng: jax.Array, sizes: Sequence[int]) -> dict[str, dict[str, Any]]:
  """Return random params.

  Args:
    rng: JAX PRNG key.
    sizes: Inputs, units of each hidden layer, outputs.

  Raises:
    TypeError: If rng is no key.
    ArgumentError: If a size is not a whole number, or there are fewer than 2.

  Example:
    >>> params = init(jax.random.key(0), (4, 3, 2))
    >>> jax.tree.map(jnp.shape, params["dense_1"])
    {'bias': (2,), 'kernel': (3, 2)}
  """
  if not isinstance(rng, jax.Array):
    raise TypeError(f"rng is {describe(rng)}: pass jax.random.key(seed)")
  if not isinstance(sizes, Sequence) or len(sizes) < 2:
    raise ArgumentError(
      f"sizes={sizes}: numbers of inputs, of hidden units, and of outputs"
    )
  sizes = [whole(size, "a size") for size in sizes]
  draw = jax.nn.initializers.lecun_normal()
  rngs = jax.random.split(rng, len(sizes) - 1)
  shapes = list(zip(sizes, sizes[1:], strict=False))
  return {
    f"dense_{i}": {"kernel": draw(r, shape), "bias": jnp.zeros(shape[1])}
    for i, (r, shape) in enumerate(zip(rngs, shapes, strict=True))
  }


def apply(
  params: Params, inputs: jax.Array, activation: Quadratic = SQUARE
) -> jax.Array:
  """Return the outputs of the plain network, float[n, outputs].

  Args:
    params: Dense layers, by names that end in their number, as Flax has them.
    inputs: float[n, inputs].
    activation: Coefficients a, b, c of a + b x + c x^2.

  Raises:
    ArgumentError: If the inputs or the layers do not fit, or the activation has
      not three coefficients.
  """
  a, b, c = _three(activation)
  names = _ordered(params)
  x = inputs
  for name in names:
    if name != names[0]:
      x = a + b * x + c * x**2
    width = np.shape(params[name]["kernel"])[:1]
    if np.shape(x)[1:] != width:
      raise ArgumentError(
        f"{name} takes [n, {', '.join(map(str, width))}], got {describe(x)}"
      )
    x = x @ params[name]["kernel"] + params[name]["bias"][None]
  return x


def squared(
  params: Params, activation: Quadratic = SQUARE
) -> tuple[Layer, ...]:
  """Return the same network with x^2 for the activation.

  a + b x + c x^2 is c (x + s)^2 + t with s = b / 2c and t = a - b^2 / 4c: s
  goes into the bias before it, c and t into the layer behind it.

  Args:
    params: As for `apply`.
    activation: As for `apply`.

  Raises:
    ArgumentError: If params are not dense layers that fit one another, or not
      finite, or the activation is not a quadratic.

  Example:
    >>> one = {"kernel": [[1.0]], "bias": [0.0]}
    >>> layers = squared({"d_0": one, "d_1": one}, (0.0, 1.0, 0.5))
    >>> [(x.kernel.item(), x.bias.item()) for x in layers]
    [(1.0, 1.0), (0.5, -0.5)]
  """
  a, b, c = reals(_three(activation), "coefficients").tolist()
  if not c or not np.isfinite([a, b, c]).all():
    raise ArgumentError(
      f"activation={tuple(activation)}: finite coefficients a, b, c of "
      "a + b x + c x^2, c not 0"
    )
  shift, constant = b / (2 * c), a - b * b / (4 * c)
  layers = list(_dense(params))
  for i, layer in enumerate(layers):
    kernel, bias = layer
    if i:
      bias = bias + constant * kernel.sum(0)
      kernel = c * kernel
    if i < len(layers) - 1:
      bias = bias + shift
    layers[i] = Layer(kernel, bias)
  return tuple(layers)


def _three(activation: Any) -> tuple[Any, ...]:
  """Return the coefficients of a quadratic."""
  found = tuple(activation) if isinstance(activation, Iterable) else ()
  if len(found) != 3:
    raise ArgumentError(
      f"activation={activation}: three coefficients a, b, c of a + b x + c x^2"
    )
  return found


def _ordered(params: Params) -> list[str]:
  """Return the names of layers by the number at their end."""
  if not isinstance(params, Mapping):
    raise ArgumentError(
      f"params are {describe(params)}: pass dense layers, by their names"
    )
  number = {name: re.search(r"\d+$", str(name)) for name in params}
  if (
    not params
    or None in number.values()
    or not all(isinstance(name, str) for name in params)
  ):
    raise ArgumentError(
      f"layers {list(params)}: names of layers are texts, and end in their "
      "number"
    )
  for name, leaves in params.items():
    if not isinstance(leaves, Mapping) or set(leaves) != {"kernel", "bias"}:
      raise ArgumentError(
        f"{name} is {describe(leaves)}: a dense layer has kernel and bias"
      )
  return sorted(params, key=lambda name: int(number[name][0]))  # type: ignore[index]


def _dense(params: Params) -> Sequence[Layer]:
  """Return the layers in order, checked."""
  found: list[Layer] = []
  for name in _ordered(params):
    leaves = params[name]
    kernel, bias = (reals(leaves[k], f"{name}: {k}") for k in Layer._fields)
    inputs = found[-1].kernel.shape[1] if found else None
    fits = kernel.ndim == 2 and bias.shape == kernel.shape[1:] and kernel.size
    if not fits or inputs not in (None, len(kernel)):
      raise ArgumentError(
        f"{name}: a kernel of {kernel.shape} and a bias of {bias.shape} do not "
        f"fit{f' {inputs} inputs' if inputs else ' one another'}"
      )
    if not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
      raise ArgumentError(f"{name} has values that are not finite")
    found.append(Layer(kernel, bias))
  return found


def _require_layers(layers: Sequence[Layer]) -> None:
  if not len(layers):
    raise ArgumentError("a network has a layer, or more: there are none")


def levels(layers: Sequence[Layer]) -> int:
  """Return the multiplications of a network, one after another.

  Each layer is one, and each square between two layers.

  Raises:
    ArgumentError: If there are no layers.

  Example:
    >>> levels([Layer(np.ones((2, 2)), np.zeros(2))] * 3)
    5
  """
  _require_layers(layers)
  return 2 * len(layers) - 1


@np.errstate(over="ignore", invalid="ignore")
def largest(layers: Sequence[Layer], low: float, high: float) -> float:
  """Return a bound of all values that the network may compute; it may be inf.

  Args:
    layers: Layers with x^2 between them.
    low: Smallest input.
    high: Largest input.

  Raises:
    ArgumentError: If there are no layers.

  Example:
    >>> largest([Layer(np.eye(1), np.ones(1))] * 2, -3.0, 1.0)
    5.0
  """
  _require_layers(layers)
  lows = np.full(len(layers[0].kernel), low)
  highs = np.full(len(layers[0].kernel), high)
  found = 0.0
  for i, (kernel, bias) in enumerate(layers):
    if i:
      ends = lows**2, highs**2
      crosses = (lows < 0) & (highs > 0)
      lows = np.where(crosses, 0.0, np.minimum(*ends))
      highs = np.maximum(*ends)
      found = max(found, float(highs.max()))
    up, down = np.maximum(kernel, 0), np.minimum(kernel, 0)
    lows, highs = lows @ up + highs @ down, highs @ up + lows @ down
    lows, highs = lows + bias, highs + bias
    found = max(found, float(np.abs([lows, highs]).max()))
    if not np.isfinite(lows + highs).all():
      return float("inf")
  return found
