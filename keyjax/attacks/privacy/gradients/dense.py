"""The input of a dense first layer with a bias, by a division.

Of `z = x W + b`, the gradients of unit j are `dW_j = sum_i x_i d_ij` and
`db_j = sum_i d_ij`, with d_ij the derivative of the loss by z_ij. Of one
example, the quotient is x, in every unit with a gradient; of several, a
weighted sum of the examples that reach the unit. Multiplying z by the signs of
a key changes d alone: the quotient is the same.

Source: Phong, Aono, Hayashi, Wang, Moriai, "Privacy-preserving deep learning
via additively homomorphic encryption", IEEE TIFS 13(5), 2018, section 3.
"""

from typing import Any

import numpy as np

from keyjax.attacks.privacy import signals


def of_one(kernel: Any, bias: Any) -> np.ndarray:
  """Return the input of a batch of one example, float64[n].

  It is the least-squares quotient over all units, in which noise averages out.

  Args:
    kernel: float[n, h], gradient of the layer's kernel.
    bias: float[h], gradient of its bias.

  Raises:
    ValueError: If shapes differ, a value is NaN, or the gradient is 0.

  Example:
    >>> x, d = np.array([0.25, 0.5]), np.array([2.0, 0.0, -1.0])
    >>> of_one(np.outer(x, d), d).tolist()
    [0.25, 0.5]
  """
  kernel, bias = _check(kernel, bias)
  return np.asarray(kernel @ bias / (bias @ bias))


def of_each_unit(kernel: Any, bias: Any) -> np.ndarray:
  """Return the quotients of the units that have a gradient, float64[k, n].

  Of a batch, a unit that only one example reaches, as behind a ReLU, gives that
  example exactly. The attacker does not know which units these are.

  Args:
    kernel: float[n, h], gradient of the layer's kernel.
    bias: float[h], gradient of its bias.

  Raises:
    ValueError: If shapes differ, a value is NaN, or the gradient is 0.

  Example:
    >>> kernel = np.array([[1.0, 0.0, 4.0]])
    >>> of_each_unit(kernel, np.array([2.0, 0.0, 4.0])).tolist()
    [[0.5], [1.0]]
  """
  kernel, bias = _check(kernel, bias)
  has = np.abs(bias) > np.finfo(np.float32).tiny
  return np.asarray((kernel[:, has] / bias[has]).T)


def _check(kernel: Any, bias: Any) -> tuple[np.ndarray, np.ndarray]:
  found = signals.check_values(kernel, "the gradient of the kernel", (2,))
  other = signals.check_values(bias, "the gradient of the bias", (1,))
  if found.shape[1] != other.shape[0]:
    raise ValueError(
      f"the gradients of a kernel {list(found.shape)} and a bias "
      f"{list(other.shape)} are not of one layer: pass [n, h] and [h]"
    )
  for name, values in (("kernel", found), ("bias", other)):
    if not np.isfinite(values).all():
      raise ValueError(
        f"the gradient of the {name} has values that are NaN or infinite"
      )
  if not np.abs(other).max() > np.finfo(np.float32).tiny:
    raise ValueError(
      "the gradient of the bias is 0: no unit of the layer is reached"
    )
  return found, other
