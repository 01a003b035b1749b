"""Two models between which adversarial inputs do not transfer.

Inputs get two more features, a s and a s y, where y in {-1, 1} is the class and
s a random sign: each alone says nothing, their product is the class. A linear
model cannot use them and takes the pixels. A quadratic one takes the features,
which are the larger. Each is fooled by changes of what it looks at, and the
other does not see them. Where the two signs are independent (`linked=False`),
both models look at the pixels, and the same attacks transfer.

So transfer is no law: it follows where two models learn the same features.

Reference:
  Florian Tramer, Nicolas Papernot, Ian Goodfellow, Dan Boneh and Patrick
  McDaniel, "The space of transferable adversarial examples", arXiv 1704.03453,
  2017, section 5 (XOR artefacts; the sizes here are our own).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.attacks.evasion.problem import LogitsFn


def with_artefact(
  inputs: np.ndarray,
  labels: np.ndarray,
  *,
  scale: float = 2.5,
  linked: bool = True,
  seed: int,
) -> np.ndarray:
  """Return inputs with two more features, whose product is the class.

  Args:
    inputs: float[n, d], centred: of mean 0.
    labels: int[n] of 0 and 1.
    scale: Size a of the features.
    linked: Whether the product is the class; otherwise it is random, the
      control.
    seed: Seed of the signs.

  Returns:
    float[n, d + 2], of the dtype of the inputs.

  Raises:
    ValueError: If there are other labels than 0 and 1.

  Example:
    >>> found = with_artefact(np.zeros((3, 4)), np.asarray([0, 1, 1]), seed=0)
    >>> found.shape, np.sign(found[:, 4] * found[:, 5]).tolist()
    ((3, 6), [-1.0, 1.0, 1.0])
  """
  draw = np.random.default_rng(seed).choice([-1, 1], (len(inputs), 2))
  first, second = draw.T
  if linked:
    second = first * _signs(labels)
  features = scale * np.stack([first, second], 1)
  return np.concatenate([inputs, features.astype(inputs.dtype)], 1)


def linear(
  inputs: np.ndarray, labels: np.ndarray, *, penalty: float = 10.0
) -> LogitsFn:
  """Return a linear model of two classes: ridge regression.

  Args:
    inputs: float[n, d].
    labels: int[n] of 0 and 1.
    penalty: Weight of the squared norm of the coefficients.

  Example:
    >>> inputs = np.asarray([[-1.0], [1.0]], np.float32)
    >>> model = linear(inputs, np.asarray([0, 1]), penalty=0.5)
    >>> [round(float(x), 2) for x in model(inputs)[1]]
    [-0.8, 0.8]
  """
  return _kernel_ridge(lambda a, b: a @ b.T, inputs, labels, penalty)


def quadratic(
  inputs: np.ndarray,
  labels: np.ndarray,
  *,
  penalty: float = 10.0,
  offset: float = 4.0,
) -> LogitsFn:
  """Return a quadratic model: ridge regression under a polynomial kernel.

  Args:
    inputs: float[n, d].
    labels: int[n] of 0 and 1.
    penalty: Weight of the squared norm of the coefficients.
    offset: c of the kernel (x x' + c)^2.

  Example:
    >>> inputs = np.asarray([[-1, -1], [1, 1], [-1, 1], [1, -1]], np.float32)
    >>> model = quadratic(inputs, np.asarray([1, 1, 0, 0]))
    >>> model(inputs).argmax(-1).tolist()
    [1, 1, 0, 0]
  """
  kernel = lambda a, b: (a @ b.T + offset) ** 2  # noqa: E731
  return _kernel_ridge(kernel, inputs, labels, penalty)


def _kernel_ridge(
  kernel: Callable, inputs: np.ndarray, labels: np.ndarray, penalty: float
) -> LogitsFn:
  if not penalty > 0:
    raise ValueError(f"penalty is {penalty}: it must be above 0")
  # In 64 bits: the kernel's eigenvalues span many orders of magnitude.
  wide = np.asarray(inputs, np.float64)
  matrix = kernel(wide, wide) + penalty * np.eye(len(wide))
  weights = np.linalg.solve(matrix, _signs(labels))

  def logits_fn(x: jax.Array) -> jax.Array:
    points = jnp.asarray(inputs, x.dtype)
    value = kernel(x, points) @ jnp.asarray(weights, x.dtype)
    return jnp.stack([-value, value], -1)

  return logits_fn


def _signs(labels: np.ndarray) -> np.ndarray:
  labels = np.asarray(labels)
  if not np.isin(labels, (0, 1)).all():
    raise ValueError("labels must be 0 and 1: these are models of two classes")
  return 2 * labels - 1
