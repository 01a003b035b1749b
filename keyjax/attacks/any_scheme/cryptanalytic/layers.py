"""A network with one hidden layer, fitted to logits in float64 on the host.

The repository computes in float32; rounding is what limits the attack that
uses this, so nothing here adds to it.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

# More unknowns than this make Gauss-Newton too slow for a laptop.
_MOST = 6000


class Layers(NamedTuple):
  """`relu(x rows + biases) out + x rest + offset`.

  Attributes:
    rows: float[size, neurons].
    biases: float[neurons].
    out: float[neurons, classes].
    rest: float[size, classes]: neurons that are always on, and the straight
      halves of those whose sign is not known.
    offset: float[classes].
  """

  rows: Any
  biases: Any
  out: Any
  rest: Any
  offset: Any

  @property
  def neurons(self) -> int:
    """How many hidden neurons there are."""
    return int(self.rows.shape[1])


def none(size: int, classes: int) -> Layers:
  """Return layers of no neuron, which are zero everywhere."""
  zeros = [(size, 0), (0,), (0, classes), (size, classes), (classes,)]
  return Layers(*map(np.zeros, zeros))


def forward(layers: Layers, x: Any) -> Any:
  """Return the logits of flat inputs: NumPy's or JAX's, as the arguments."""
  hidden = x @ layers.rows + layers.biases[None]
  on = (hidden > 0).astype(hidden.dtype)
  return (hidden * on) @ layers.out + x @ layers.rest + layers.offset[None]


def apply(layers: Layers, images: jax.Array) -> jax.Array:
  """Return the logits of images, for `game.Model`."""
  flat = images.reshape(len(images), -1).astype(layers.offset.dtype)
  logits: jax.Array = forward(layers, flat)
  return logits


def with_neuron(
  layers: Layers, row: np.ndarray, bias: float, out: np.ndarray
) -> Layers:
  """Return the layers with one more neuron."""
  return layers._replace(
    rows=np.concatenate([layers.rows, row[:, None]], 1),
    biases=np.append(layers.biases, bias),
    out=np.concatenate([layers.out, out[None]]),
  )


def last_layer(layers: Layers, x: np.ndarray, logits: np.ndarray) -> Layers:
  """Return the layers with all but rows and biases by least squares.

  Args:
    layers: Whose rows and biases are known.
    x: float64[n, size].
    logits: float64[n, classes].
  """
  hidden = np.maximum(x @ layers.rows + layers.biases, 0)
  matrix = np.concatenate([hidden, x, np.ones((len(x), 1))], 1)
  found = np.linalg.lstsq(matrix, logits, rcond=None)[0]
  out, rest, offset = np.split(found, [layers.neurons, len(found) - 1])
  return layers._replace(out=out, rest=rest, offset=offset[0])


def can_polish(layers: Layers) -> bool:
  """Return whether the network is small enough for `polish`."""
  return layers.rows.size <= _MOST


def polish(layers: Layers, x: np.ndarray, logits: np.ndarray) -> Layers:
  """Take one Gauss-Newton step on rows, biases and outgoing weights.

  Each row was read beside one bend; all inputs together average the rounding
  away. A step that does not lower the error is not taken.
  """
  hidden = x @ layers.rows + layers.biases
  on = hidden > 0
  ones = np.concatenate([x, np.ones((len(x), 1))], 1)
  # The last layer's unknowns are solved for by projection: what is left of a
  # change of rows once the best last layer has followed it.
  base = np.linalg.qr(np.concatenate([hidden * on, ones], 1))[0]
  size, classes = ones.shape[1], logits.shape[1]
  matrix = np.empty((len(x), classes, layers.neurons, size))
  for j in range(layers.neurons):
    part = ones * on[:, j : j + 1]
    part -= base @ (base.T @ part)
    matrix[:, :, j] = layers.out[j][None, :, None] * part[:, None]
  flat = matrix.reshape(len(x) * classes, -1)
  wrong = logits - base @ (base.T @ logits)
  gram = flat.T @ flat
  damping = 1e-12 * np.trace(gram) / max(len(gram), 1)
  step = np.linalg.solve(
    gram + damping * np.eye(len(gram)), flat.T @ wrong.reshape(-1)
  ).reshape(layers.neurons, size)
  moved = layers._replace(
    rows=layers.rows + step[:, :-1].T, biases=layers.biases + step[:, -1]
  )
  moved = last_layer(moved, x, logits)
  before, after = (
    np.square(forward(m, x) - logits).sum() for m in (layers, moved)
  )
  return moved if after < before else layers


def with_signs(layers: Layers, tolerance: float) -> tuple[Layers, bool]:
  """Turns neurons round until no straight rest is left.

  A neuron and its mirror image bend alike, `relu(-z) = relu(z) - z`: the rest
  is minus the sum of `w a^T` over the mirrored ones, a linear system.

  Args:
    layers: Fitted, each neuron with either sign.
    tolerance: Of the rest, as a share of the largest that there was.

  Returns:
    The layers, and whether the rest has vanished. If it has not, a neuron that
    never switches is part of it, and the layers come back as they were.
  """
  if not layers.neurons:
    return layers, False
  straight = np.einsum("dj,jc->dcj", layers.rows, layers.out)
  straight = straight.reshape(layers.rest.size, -1)
  share = np.linalg.lstsq(straight, -layers.rest.reshape(-1), rcond=None)[0]
  mirrored = share > 0.5
  rest = layers.rest + (straight @ mirrored).reshape(layers.rest.shape)
  scale = max(np.abs(straight).max(), np.abs(layers.rest).max())
  if np.abs(rest).max() > tolerance * scale:
    return layers, False
  sign = 1 - 2 * mirrored.astype(np.float64)
  lost = (mirrored * layers.biases) @ layers.out
  turned = layers._replace(
    rows=layers.rows * sign,
    biases=layers.biases * sign,
    rest=np.zeros_like(rest),
    offset=layers.offset + lost,
  )
  return turned, True
