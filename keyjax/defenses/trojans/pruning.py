"""Fine-pruning: remove units that clean images do not use, and train on.

A trojan may sit in units that only the trigger turns on.

Guarantees:
  None. While units are removed, the accuracy on the defender's images falls by
  `drop` at most.

Known breaks:
  Triggers that use the same units as clean images, as blended patterns do, and
  attackers who prune first and plant the trojan in the units that are left.

Reference:
  Kang Liu, Brendan Dolan-Gavitt and Siddharth Garg, "Fine-pruning: defending
  against backdooring attacks on deep neural networks", RAID 2018.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import tree
from keyjax.arguments import describe, require_apply, whole_number
from keyjax.attacks import fit
from keyjax.attacks.evasion import checks
from keyjax.attacks.game import Examples
from keyjax.attacks.privacy import signals
from keyjax.scheme import ApplyFn, PyTree

_DEFAULT = fit.Recipe(learning_rate=3e-4)


class Repaired(NamedTuple):
  """A model after fine-pruning.

  Attributes:
    pruned: Variables after pruning alone.
    tuned: Variables after training as well; removed units stay removed.
    units: int64[m], the units that were removed.
    accuracy: float64[m + 1], accuracy on the defender's images with the first
      0, 1, ... m of them removed.
  """

  pruned: PyTree
  tuned: PyTree
  units: np.ndarray
  accuracy: np.ndarray


def dormant_first(activations: Any) -> np.ndarray:
  """Return units in the order of their mean activation, least first.

  Args:
    activations: float[..., d], of clean images, after the nonlinearity; of a
      convolution, with its positions among the first axes.

  Returns:
    int64[d].

  Raises:
    ValueError: If there is no axis of examples, or a value is not finite.

  Example:
    >>> dormant_first(np.asarray([[3.0, 0.0, 1.0]])).tolist()
    [1, 2, 0]
  """
  found = np.asarray(activations)
  real = np.issubdtype(found.dtype, np.floating)
  if found.ndim < 2 or 0 in found.shape or not real:
    raise ValueError(
      f"activations are {describe(found)}: pass floats, [..., d]"
    )
  if not np.isfinite(found).all():
    raise ValueError("activations are NaN or infinite: pass finite ones")
  mean = found.reshape(-1, found.shape[-1]).mean(0, dtype=np.float64)
  return np.argsort(mean, kind="stable")


def pruned(variables: PyTree, layer: str, units: Any) -> PyTree:
  """Return variables whose layer gives 0 before the nonlinearity for units.

  Weights and biases of these units become 0, so that ReLU units are off.

  Args:
    variables: Variables of a linen model, `{"params": ...}`.
    layer: Path of the layer, such as `conv_1`.
    units: int[m], indices into the last axis of its kernel.

  Raises:
    ValueError: If there is no such layer or unit.

  Example:
    >>> layer = {"kernel": jnp.ones((1, 3)), "bias": jnp.ones(3)}
    >>> less = pruned({"params": {"dense": layer}}, "dense", [1])
    >>> less["params"]["dense"]["bias"].tolist()
    [1.0, 0.0, 1.0]
  """
  size = _width(variables, layer)
  index = np.asarray(units, np.int64).reshape(-1)
  if len(index) and not (index.min() >= 0 and index.max() < size):
    raise ValueError(f"units: {layer} has the units 0 to {size - 1}")
  kept = np.ones(size, np.float32)
  kept[index] = 0
  return _scaled(variables, layer, jnp.asarray(kept))


def fine_prune(
  apply_fn: ApplyFn,
  variables: PyTree,
  clean: Examples,
  activations: Any,
  *,
  layer: str,
  drop: float = 0.04,
  steps: int = 300,
  recipe: fit.Recipe = _DEFAULT,
  seed: int = 0,
) -> Repaired:
  """Remove dormant units of a layer one by one, and train what is left.

  Units are removed, least active first, until the accuracy on clean images
  would be more than `drop` below that of the whole model. At least one unit
  stays.

  Args:
    apply_fn: Forward pass, `apply_fn(variables, images)`.
    variables: Variables of a linen model, `{"params": ...}`.
    clean: The defender's images and labels, without a trigger.
    activations: float[..., d], of these images, after the layer's nonlinearity.
    layer: Path of the layer, the last convolution as published.
    drop: Accuracy that may be lost by pruning, 0 to 1.
    steps: Steps of training afterwards.
    recipe: Settings of training.
    seed: Seed of the order of images.

  Returns:
    A `Repaired`.

  Raises:
    ValueError: If the layer, its activations, an image, a label or a number is
      wrong.
  """
  require_apply(apply_fn, "fine_prune: apply_fn")
  drop = signals.check_share(drop, "drop")
  steps = whole_number(steps, "steps")
  size = _width(variables, layer)
  order = dormant_first(activations)
  if len(order) != size:
    raise ValueError(f"activations have {len(order)} units: {layer} has {size}")
  inputs, labels = jnp.asarray(clean.image), np.asarray(clean.label)
  checks.check_inputs(inputs, (0.0, 1.0))
  classes = checks.count_classes(lambda x: apply_fn(variables, x), inputs[:1])
  signals.check_labels(labels, (len(inputs), classes))
  judge = jax.jit(
    lambda kept: apply_fn(_scaled(variables, layer, kept), inputs).argmax(-1)
  )
  kept = np.ones(size, np.float32)
  found: list[float] = []
  for unit in (None, *order[:-1]):
    if unit is not None:
      kept[unit] = 0
    accuracy = float((np.asarray(judge(jnp.asarray(kept))) == labels).mean())
    if found and accuracy < found[0] - drop:
      break
    found.append(accuracy)
  units = order[: len(found) - 1]
  less = pruned(variables, layer, units)
  mask = jax.tree.map(lambda x: jnp.ones_like(x, jnp.float32), less)
  mask = pruned(mask, layer, units)
  [last] = fit.fit(apply_fn, less, clean, [steps], recipe, seed, mask)
  return Repaired(less, last.params, units, np.asarray(found))


def _width(variables: PyTree, layer: str) -> int:
  """Return the number of units of a layer, or raise ValueError."""
  paths, leaves, _ = tree.flatten(variables)
  named = dict(zip(paths, leaves, strict=True))
  kernel = named.get(f"params/{layer}/kernel")
  if kernel is None:
    known = [
      path.removeprefix("params/").removesuffix("/kernel")
      for path in paths
      if path.startswith("params/") and path.endswith("/kernel")
    ]
    raise ValueError(f"layer={layer!r}: choose {', '.join(known)}")
  return int(kernel.shape[-1])


def _scaled(variables: PyTree, layer: str, kept: jax.Array) -> PyTree:
  """Return variables with units of a layer multiplied by kept, float32[d]."""
  paths, leaves, treedef = tree.flatten(variables)
  ours = {f"params/{layer}/{name}" for name in ("kernel", "bias")}
  out = [
    x * kept.astype(x.dtype).reshape((1,) * (x.ndim - 1) + (-1,))
    if path in ours
    else x
    for path, x in zip(paths, leaves, strict=True)
  ]
  return jax.tree.unflatten(treedef, out)
