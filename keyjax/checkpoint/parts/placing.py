"""From what a caller wants back to boxes, and from boxes to arrays."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

from keyjax.aes.host import Impl
from keyjax.checkpoint.errors import CheckpointContentError
from keyjax.checkpoint.format import layout, structure
from keyjax.checkpoint.format.layout import Index
from keyjax.checkpoint.format.manifest import DTYPES, Leaf, Manifest
from keyjax.checkpoint.parts.opening import Wanted
from keyjax.checkpoint.parts.sealing import on_device
from keyjax.errors import ArgumentError
from keyjax.tree import matcher, path_str, unmatched

Leaves = str | Callable[[str], bool] | Iterable[str]
Finish = Callable[[list[Any]], Any]


def select(manifest: Manifest, leaves: Leaves | None) -> list[int]:
  """Returns the numbers of the leaves that are wanted.

  Args:
    manifest: what there is.
    leaves: paths, or a regular expression for whole paths; all if None.

  Raises:
    ArgumentError: If a path is missing, or nothing matches.
  """
  paths = [leaf.path for leaf in manifest.leaves]
  if leaves is None:
    return list(range(len(paths)))
  if not isinstance(leaves, str) and not callable(leaves):
    wanted = set(leaves)
    if missing := sorted(wanted - set(paths))[:4]:
      raise ArgumentError(f"no leaf {', '.join(missing)} in this checkpoint")
    leaves = wanted.__contains__
  test = matcher(leaves)
  if found := [i for i, path in enumerate(paths) if test(path)]:
    return found
  raise ArgumentError(unmatched(leaves, paths))


def plan(
  manifest: Manifest, numbers: Sequence[int], like: Any, impl: Impl
) -> tuple[list[Wanted], list[Finish], Callable[[list[Any]], Any]]:
  """Says which boxes are wanted and how the tree is made of them.

  Args:
    manifest: what there is.
    numbers: the leaves that are wanted.
    like: arrays or `jax.ShapeDtypeStruct` in the structure that is wanted;
      None for the tree as it was saved.
    impl: where parts are opened.

  Returns:
    What is wanted, what makes a leaf of its boxes, and what makes the tree of
    the leaves.

  Raises:
    CheckpointError: `like` has other leaves, shapes or dtypes.
  """
  if like is None:
    known = [manifest.leaves[i] for i in numbers]
    targets = [_as_saved(leaf) for leaf in known]
    count = len(manifest.leaves)
    build = lambda out: structure.rebuild(  # noqa: E731
      manifest.tree, dict(zip(numbers, out, strict=True)), count
    )
  else:
    found, treedef = jax.tree_util.tree_flatten_with_path(like)
    by_path = {path_str(path): x for path, x in found}
    known = [manifest.leaves[i] for i in numbers]
    _check(known, by_path)
    number = {leaf.path: i for i, leaf in zip(numbers, known, strict=True)}
    numbers = [number[path_str(path)] for path, _ in found]
    known, targets = (
      [manifest.leaves[i] for i in numbers],
      [x for _, x in found],
    )
    build = lambda out: jax.tree.unflatten(treedef, out)  # noqa: E731
  placed = [
    _place(i, leaf, target, impl)
    for i, leaf, target in zip(numbers, known, targets, strict=True)
  ]
  return [w for w, _ in placed], [f for _, f in placed], build


def _check(known: list[Leaf], like: dict[str, Any]) -> None:
  have = {leaf.path: f"{leaf.dtype}{list(leaf.shape)}" for leaf in known}
  want = {path: _describe(x, have.get(path, "")) for path, x in like.items()}
  for path in sorted({*have, *want}):
    found, wanted = have.get(path, "absent"), want.get(path, "absent")
    if found != wanted:
      raise CheckpointContentError(
        f"leaf {path} is {found} there, {wanted} was expected"
      )


def _describe(x: Any, found: str) -> str:
  if isinstance(x, int | float) and found.endswith("[]"):
    return found  # A number of Python's takes any scalar.
  if not hasattr(x, "dtype"):
    return type(x).__name__
  return f"{x.dtype}{list(x.shape)}"


def _as_saved(leaf: Leaf) -> Any:
  dtype = DTYPES[leaf.dtype]
  if leaf.kind in ("int", "float", "bool"):
    return {"int": 0, "float": 0.0, "bool": False}[leaf.kind]
  if leaf.kind == "jax" and jax.dtypes.canonicalize_dtype(dtype) == dtype:
    return jax.ShapeDtypeStruct(leaf.shape, dtype)
  return np.empty((), dtype)


def _place(
  number: int, leaf: Leaf, target: Any, impl: Impl
) -> tuple[Wanted, Finish]:
  whole = ((0,) * len(leaf.shape), leaf.shape)
  if isinstance(target, np.ndarray | np.generic):
    return Wanted(number, [whole], None), lambda boxes: boxes[0]
  if isinstance(target, int | float):
    return Wanted(number, [whole], None), lambda boxes: boxes[0].item()
  sharding = getattr(target, "sharding", None)
  if sharding is None:
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  index: Any = sharding.addressable_devices_indices_map(leaf.shape)
  where = {d: layout.bounds(i, leaf.shape) for d, i in index.items()}
  spec = jax.ShapeDtypeStruct(leaf.shape, DTYPES[leaf.dtype], sharding=sharding)
  if on_device(spec, impl):
    make = jax.make_array_from_single_device_arrays
    return (
      Wanted(number, list(where.values()), list(where)),
      lambda boxes: make(leaf.shape, sharding, boxes),
    )
  boxes = list(dict.fromkeys(where.values()))
  return Wanted(number, boxes, None), _to_devices(leaf, sharding, boxes, where)


def _to_devices(
  leaf: Leaf,
  sharding: jax.sharding.Sharding,
  boxes: list[tuple[Index, Index]],
  where: dict[jax.Device, tuple[Index, Index]],
) -> Finish:
  def finish(opened: list[np.ndarray]) -> jax.Array:
    by_box = dict(zip(boxes, opened, strict=True))
    shards = [jax.device_put(by_box[box], d) for d, box in where.items()]
    return jax.make_array_from_single_device_arrays(
      leaf.shape, sharding, shards
    )

  return finish
