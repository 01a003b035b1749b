"""The gradient that is observed, and functions that compute such gradients."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from keyjax import tree
from keyjax.arguments import describe, first_line, require_apply
from keyjax.attacks import fit
from keyjax.scheme import ApplyFn, PyTree

# (variables, images [b, ...], targets float[b, c]) -> gradient. Targets are
# probabilities: attacks look for them as they look for images.
GradientFn = Callable[[PyTree, jax.Array, jax.Array], PyTree]


@functools.lru_cache(maxsize=32)  # One function, or each would compile again.
def of_mean_loss(apply_fn: ApplyFn) -> GradientFn:
  """Return the gradient that a worker computes: of the mean cross-entropy.

  It is that of `variables["params"]` if the variables are in collections, such
  as a key beside the params, and else of all of them.

  Args:
    apply_fn: Forward pass, called as `apply_fn(variables, images)`.

  Raises:
    TypeError: If it is no function.

  Example:
    >>> gradient_fn = of_mean_loss(lambda w, x: x @ w)
    >>> x, targets = jnp.ones((1, 3)), jax.nn.one_hot(jnp.asarray([1]), 2)
    >>> gradient_fn(jnp.zeros((3, 2)), x, targets)[0].tolist()
    [0.5, -0.5]
  """
  require_apply(apply_fn, "of_mean_loss: apply_fn")

  def gradient(
    variables: PyTree, images: jax.Array, targets: jax.Array
  ) -> PyTree:
    params, rest = fit.split_collections(variables)

    def loss_fn(params: PyTree) -> jax.Array:
      whole = params if rest is None else {"params": params, **rest}
      logits = apply_fn(whole, images)
      return optax.softmax_cross_entropy(logits, targets).mean()

    return jax.grad(loss_fn)(params)

  return gradient


def check_observed(
  gradient_fn: GradientFn,
  variables: PyTree,
  observed: PyTree,
  shape: tuple[int, ...],
  classes: int,
) -> PyTree:
  """Return an observed gradient in float32, if it can be one of the function.

  Args:
    gradient_fn: The function.
    variables: Its first argument.
    observed: The gradient.
    shape: Shape of a batch of images.
    classes: Number of classes.

  Raises:
    ValueError: If the function fails on such images, the gradient is another
      tree, a leaf has another shape, or a value is NaN or infinite.
  """
  images = jax.ShapeDtypeStruct(shape, jnp.float32)
  targets = jax.ShapeDtypeStruct((shape[0], classes), jnp.float32)
  try:
    like = jax.eval_shape(gradient_fn, variables, images, targets)
  except Exception as error:
    raise ValueError(
      f"gradient_fn fails on images {list(shape)} of {classes} classes "
      f"({first_line(error)})"
    ) from error
  paths, leaves, treedef = tree.flatten(like)
  found = jax.tree.leaves(observed)
  if jax.tree.structure(observed) != treedef:
    raise ValueError(
      f"the observed gradient is another tree, of {len(found)} leaves: the "
      f"function's has {', '.join(paths)}"
    )
  for path, expected, leaf in zip(paths, leaves, found, strict=True):
    _check_leaf(path, expected, leaf)
  return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), observed)


def _check_leaf(path: str, expected: Any, leaf: Any) -> None:
  if np.shape(leaf) != expected.shape:
    raise ValueError(
      f"the observed gradient of {path} is {describe(leaf)}: the function's is "
      f"{describe(expected)}"
    )
  if not np.isfinite(np.asarray(leaf, np.float64)).all():
    raise ValueError(
      f"the observed gradient of {path} has values that are NaN or infinite: "
      "nothing can be matched with it"
    )
