"""A network with one hidden layer, fitted to logits in float64 on the host.

Models compute in float32, and their rounding limits the attack that uses this;
float64 adds none.
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
    rest: float[size, classes]: neurons that are always on, and the linear
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
    """Number of hidden neurons."""
    return int(self.rows.shape[1])


def none(size: int, classes: int) -> Layers:
  """Return layers without neurons, which are zero everywhere."""
  zeros = [(size, 0), (0,), (0, classes), (size, classes), (classes,)]
  return Layers(*map(np.zeros, zeros))


def forward(layers: Layers, x: Any) -> Any:
  """Return the logits of flat inputs, of NumPy or JAX as the arguments are."""
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
  """Fit everything except rows and biases by least squares.

  Args:
    layers: Layers whose rows and biases are known.
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

  Each row was read at one bend; all inputs together average the rounding away.
  A step that does not lower the error is discarded.
  """
  hidden = x @ layers.rows + layers.biases
  on = hidden > 0
  ones = np.concatenate([x, np.ones((len(x), 1))], 1)
  # The last layer is eliminated by projection: what remains of a change of
  # rows after the last layer is fitted again.
  base = np.linalg.qr(np.concatenate([hidden * on, ones], 1))[0]
  size = ones.shape[1]
  classes = logits.shape[1]
  matrix = np.empty((len(x), classes, layers.neurons, size))
  for j in range(layers.neurons):
    part = ones * on[:, j : j + 1]
    part -= base @ (base.T @ part)
    matrix[:, :, j] = layers.out[j][None, :, None] * part[:, None]
  # [n, classes, neurons, size] -> [n * classes, neurons * size]
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
  """Flip neurons until no linear rest is left.

  A neuron and its mirror image bend alike, `relu(-z) = relu(z) - z`: the rest
  is minus the sum of `w a^T` over the mirrored ones, a linear system.

  Args:
    layers: Fitted layers, each neuron with either sign.
    tolerance: Largest remaining rest, relative to the largest term.

  Returns:
    The layers, and whether the rest has vanished. If not, a neuron that never
    switches is part of it, and the layers are unchanged.
  """
  if not layers.neurons:
    return layers, False
  # [size, classes, neurons] -> [size * classes, neurons]
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
