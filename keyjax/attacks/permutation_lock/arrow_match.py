"""ArrowMatch: the public base model shows every order.

Fine-tuning hardly turns the rows of a kernel. So a row of the locked kernel
points where the same row of the public model points, and the assignment of rows
with the largest sum of cosines is the secret order. Where columns are permuted
as well, rows are first compared by their sorted values, which no order of
columns changes, then columns by direction, then rows again.

Needs: the file, the scheme, and the public model that the target was fine-tuned
from. Cost: a product of matrices and an assignment for each axis of each
kernel; no data and no query.

Source: Wang et al., "Game of Arrows: On the (In-)Security of Weight Obfuscation
for On-Device TEE-Shielded LLM Partition Algorithms", USENIX Security 2025.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from keyjax import tree
from keyjax.attacks import registry
from keyjax.attacks.game import Attacker, Budget, Claim, Cost, Goal, Model
from keyjax.attacks.views import View
from keyjax.scheme import PyTree
from keyjax.schemes.permutation_lock import NAME


@registry.register(
  "arrow_match", Goal.WEIGHTS, (NAME,), Attacker(has_base=True)
)
def arrow_match(view: View, budget: Budget) -> Iterator[Claim]:
  """Claim the weights in the order of the public model."""
  del budget  # There is nothing to search.
  yield Claim(matched(view), Cost(steps=1))


@registry.register(
  "arrow_match_function", Goal.FUNCTION, (NAME,), Attacker(has_base=True)
)
def arrow_match_function(view: View, budget: Budget) -> Iterator[Claim]:
  """Claim the model with these weights, after the public model for comparison.

  The first claim is the public model itself: what the file adds to it is what
  the second one has more.
  """
  del budget
  yield Claim(Model(view.floats(view.base), view.apply_fn), Cost())
  yield Claim(Model(view.floats(matched(view)), view.apply_fn), Cost(steps=1))


def matched(view: View) -> PyTree:
  """Return the stolen weights, each kernel in the order of the public one.

  Args:
    view: The file, the scheme's options and the public model.
  """
  pattern = view.options.get("layers", ".*kernel")
  axes = view.options.get("axes", ("inputs", "outputs"))
  match = tree.matcher(pattern)
  paths, leaves, treedef = tree.flatten(view.locked)
  bases = tree.flatten(view.base)[1]
  found = [
    restore(np.asarray(leaf), np.asarray(base), axes)
    if match(path) and leaf.ndim > 1
    else leaf
    for path, leaf, base in zip(paths, leaves, bases, strict=True)
  ]
  return jax.tree.unflatten(treedef, [jnp.asarray(x) for x in found])


def restore(
  locked: np.ndarray, base: np.ndarray, axes: tuple[str, ...]
) -> np.ndarray:
  """Return a locked kernel in the order of a public one.

  Args:
    locked: [..., n, m], permuted along some axes.
    base: Kernel of the public model, of the same shape.
    axes: `inputs`, `outputs` or both: the axes that are permuted.

  Returns:
    The values of `locked`, in another order.

  Example:
    >>> rng = np.random.default_rng(0)
    >>> base = rng.normal(size=(6, 5))
    >>> tuned = base + 0.01 * rng.normal(size=(6, 5))
    >>> locked = tuned[rng.permutation(6)][:, rng.permutation(5)]
    >>> bool((restore(locked, base, ("inputs", "outputs")) == tuned).all())
    True
  """
  # [..., n, m] -> rows [n, ..., m]
  rows, wanted = np.moveaxis(locked, -2, 0), np.moveaxis(base, -2, 0)
  if "outputs" not in axes:
    rows = rows[_order(rows, wanted)]
    return np.moveaxis(rows, 0, -2)
  if "inputs" in axes:  # Sorted values do not depend on the columns' order.
    rows = rows[_order(np.sort(rows, -1), np.sort(wanted, -1))]
  for _ in range(2):  # The second time, with columns in place.
    columns = np.moveaxis(rows, -1, 0)
    order = _order(columns, np.moveaxis(wanted, -1, 0))
    rows = np.moveaxis(columns[order], 0, -1)
    if "inputs" in axes:
      rows = rows[_order(rows, wanted)]
  return np.moveaxis(rows, 0, -2)


def _order(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
  """Return the assignment of rows [n, ...] with the largest sum of cosines.

  Returns:
    int[n]: row `order[i]` of `found` belongs where row i of `wanted` is.
  """
  cosines = _directions(wanted) @ _directions(found).T
  return scipy.optimize.linear_sum_assignment(cosines, maximize=True)[1]


def _directions(rows: np.ndarray) -> np.ndarray:
  flat = rows.reshape(len(rows), -1).astype(np.float32)
  sizes = np.linalg.norm(flat, axis=1, keepdims=True)
  return np.nan_to_num(flat / np.where(sizes > 0, sizes, 1))
