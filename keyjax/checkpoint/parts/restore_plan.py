"""From the requested tree to boxes of leaves, and from boxes to arrays."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from keyjax.aes.host import Impl
from keyjax.checkpoint.errors import CheckpointContentError
from keyjax.checkpoint.format import layout, tree_structure
from keyjax.checkpoint.format.layout import Box
from keyjax.checkpoint.format.manifest import DTYPES, Leaf, Manifest
from keyjax.checkpoint.parts import rng_keys
from keyjax.checkpoint.parts.opening import LeafRequest
from keyjax.checkpoint.parts.sealing import uses_device
from keyjax.checkpoint.parts.selection import whole_leaf
from keyjax.errors import ArgumentError
from keyjax.tree import path_str

Assemble = Callable[[list[Any]], Any]  # Boxes of a leaf to the leaf.


class RestorePlan(NamedTuple):
  """What to open, and how to make a tree of it.

  Attributes:
    requests: Requested boxes, a leaf each.
    assemble: For each leaf, a function from its boxes to the leaf.
    build: Function from the leaves to the tree.
  """

  requests: list[LeafRequest]
  assemble: list[Assemble]
  build: Callable[[list[Any]], Any]


def plan_restore(
  manifest: Manifest, numbers: Sequence[int], like: Any, impl: Impl
) -> RestorePlan:
  """Plan which boxes to open and how to make the tree of them.

  Args:
    manifest: What the checkpoint holds.
    numbers: Numbers of the selected leaves.
    like: Arrays or `jax.ShapeDtypeStruct` in the requested structure; None
      for the tree as it was saved.
    impl: Where parts are opened.

  Raises:
    CheckpointContentError: If `like` has other leaves, shapes or dtypes.
  """
  if like is None:
    return _plan_as_saved(manifest, numbers, impl)
  targets, treedef = jax.tree_util.tree_flatten_with_path(like)
  by_path = {path_str(path): x for path, x in targets}
  selected = {manifest.leaves[i].path: i for i in numbers}
  _check_targets([manifest.leaves[i] for i in numbers], by_path)
  return _plan_leaves(
    manifest,
    [selected[path_str(path)] for path, _ in targets],
    [x for _, x in targets],
    impl,
    lambda leaves: jax.tree.unflatten(treedef, leaves),
  )


def _plan_as_saved(
  manifest: Manifest, numbers: Sequence[int], impl: Impl
) -> RestorePlan:
  count = len(manifest.leaves)

  def build(leaves: list[Any]) -> Any:
    by_number = dict(zip(numbers, leaves, strict=True))
    return tree_structure.rebuild(manifest.tree, by_number, count)

  targets = [_target_as_saved(manifest.leaves[i]) for i in numbers]
  return _plan_leaves(manifest, numbers, targets, impl, build)


def _plan_leaves(
  manifest: Manifest,
  numbers: Sequence[int],
  targets: Sequence[Any],
  impl: Impl,
  build: Callable[[list[Any]], Any],
) -> RestorePlan:
  planned = [
    _plan_leaf(i, manifest.leaves[i], target, impl)
    for i, target in zip(numbers, targets, strict=True)
  ]
  return RestorePlan(
    requests=[request for request, _ in planned],
    assemble=[assemble for _, assemble in planned],
    build=build,
  )


def _check_targets(leaves: list[Leaf], targets: dict[str, Any]) -> None:
  have = {leaf.path: _describe_stored(leaf) for leaf in leaves}
  want = {path: _describe(x, have.get(path, "")) for path, x in targets.items()}
  for path in sorted({*have, *want}):
    found = have.get(path, "absent")
    wanted = want.get(path, "absent")
    if found != wanted:
      raise CheckpointContentError(
        f"leaf {path} is {found} there, {wanted} was expected"
      )


def _describe_stored(leaf: Leaf) -> str:
  if leaf.rng:
    return rng_keys.describe(leaf.rng, leaf.shape)
  return f"{leaf.dtype}{list(leaf.shape)}"


def _describe(x: Any, found: str) -> str:
  is_number = found.endswith("[]") and not found.startswith("key<")
  if isinstance(x, int | float) and is_number:
    return found  # A Python number accepts any scalar.
  if not hasattr(x, "dtype"):
    return type(x).__name__
  return f"{x.dtype}{list(x.shape)}"


def _target_as_saved(leaf: Leaf) -> Any:
  dtype = DTYPES[leaf.dtype]
  if leaf.rng:
    return jax.ShapeDtypeStruct(leaf.shape, dtype)
  if leaf.kind in ("int", "float", "bool"):
    return {"int": 0, "float": 0.0, "bool": False}[leaf.kind]
  if leaf.kind == "jax" and fits_jax(dtype):
    return jax.ShapeDtypeStruct(leaf.shape, dtype)
  return np.empty((), dtype)


def _plan_leaf(
  number: int, leaf: Leaf, target: Any, impl: Impl
) -> tuple[LeafRequest, Assemble]:
  """Return the boxes to open for a target, and how to make a leaf of them."""
  if leaf.rng:
    return _plan_rng_keys(number, leaf, target, impl)
  whole = whole_leaf(number, leaf)
  if isinstance(target, np.ndarray | np.generic):
    return whole, lambda boxes: boxes[0]
  if isinstance(target, int | float):
    return whole, lambda boxes: boxes[0].item()
  sharding = getattr(target, "sharding", None)
  if not fits_jax(leaf.dtype):
    if sharding is None:
      return whole, lambda boxes: boxes[0]
    raise ArgumentError(
      f"leaf {leaf.path} is of {leaf.dtype}, which JAX holds only with "
      "jax_enable_x64: request a NumPy array"
    )
  if sharding is None:
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  index: Any = sharding.addressable_devices_indices_map(leaf.shape)
  by_device = {
    device: layout.slice_bounds(slices, leaf.shape)
    for device, slices in index.items()
  }
  spec = jax.ShapeDtypeStruct(leaf.shape, DTYPES[leaf.dtype], sharding=sharding)
  if uses_device(spec, impl):
    on_devices = LeafRequest(number, list(by_device.values()), list(by_device))
    make = jax.make_array_from_single_device_arrays
    return on_devices, lambda boxes: make(leaf.shape, sharding, boxes)
  boxes = list(dict.fromkeys(by_device.values()))
  assemble = _copy_to_devices(leaf, sharding, boxes, by_device)
  return LeafRequest(number, boxes, None), assemble


def fits_jax(dtype: Any) -> bool:
  """Return whether JAX arrays keep a dtype; without x64, not all do.

  Example:
    >>> fits_jax("float32")
    True
  """
  dtype = DTYPES.get(str(dtype), dtype)
  return bool(jax.dtypes.canonicalize_dtype(dtype) == dtype)


def _plan_rng_keys(
  number: int, leaf: Leaf, target: Any, impl: Impl
) -> tuple[LeafRequest, Assemble]:
  """Plan a leaf of PRNG keys, of which the words are stored."""
  rng_keys.check_words(leaf.rng, leaf.shape)
  words = jax.ShapeDtypeStruct(
    leaf.shape,
    DTYPES[leaf.dtype],
    sharding=rng_keys.sharding_of_words(target, leaf.rng)
    if rng_keys.is_rng(target)
    else None,
  )
  request, assemble = _plan_leaf(number, leaf._replace(kind="jax"), words, impl)
  return request, lambda boxes: rng_keys.from_words(assemble(boxes), leaf.rng)


def _copy_to_devices(
  leaf: Leaf,
  sharding: jax.sharding.Sharding,
  boxes: list[Box],
  by_device: dict[jax.Device, Box],
) -> Assemble:
  def assemble(opened: list[np.ndarray]) -> jax.Array:
    by_box = dict(zip(boxes, opened, strict=True))
    shards = [
      jax.device_put(by_box[box], device) for device, box in by_device.items()
    ]
    return jax.make_array_from_single_device_arrays(
      leaf.shape, sharding, shards
    )

  return assemble
