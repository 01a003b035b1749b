"""Pytrees of parameters: leaf paths, words, and which leaves may be locked.

A leaf is **lockable** when it is an array of floats of 8, 16 or 32 bits, or
of int8 (quantized weights). Every other leaf - integers, bools, JAX PRNG keys,
Python numbers, empty arrays - passes through every scheme unchanged.

Ciphertext is stored in unsigned words of the leaf's width (`as_words`). As
floats it contains NaN and subnormal values, which do not survive `x + 0` or a
collective; `as_floats` returns that view, which is what an attacker would run.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import arguments
from keyjax.hidden import Hidden, is_hidden

try:
  from jax.experimental.shard_alike import shard_alike
except ImportError:  # Gone in JAX 0.12.
  shard_alike = None  # type: ignore[assignment]
PyTree = Any
_WORDS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}


class LeafSpec(NamedTuple):
  """What a key stores about a leaf: public, static, hashable."""

  path: str
  shape: tuple[int, ...]
  dtype: str
  locked: bool


Spec = tuple[LeafSpec, ...]


def path_str(path: Sequence[Any]) -> str:
  """Return a leaf's path, such as `params/conv_0/kernel`."""
  return jax.tree_util.keystr(tuple(path), simple=True, separator="/")


def flatten(
  params: PyTree,
) -> tuple[list[str], list[Any], jax.tree_util.PyTreeDef]:
  """Return the paths, the leaves and the structure of a tree.

  A hidden leaf counts as one leaf, so paths do not depend on a mask.
  """
  found, treedef = jax.tree_util.tree_flatten_with_path(
    params, is_leaf=is_hidden
  )
  return [path_str(p) for p, _ in found], [x for _, x in found], treedef


def hide(params: PyTree, select: Callable[[str], bool]) -> PyTree:
  """Hide the leaves whose path is not selected, and hidden leaves again."""
  paths, leaves, treedef = flatten(params)
  out = [
    x if select(p) and not is_hidden(x) else Hidden(x)
    for p, x in zip(paths, leaves, strict=True)
  ]
  return jax.tree.unflatten(treedef, out)


def merge(
  changed: PyTree, params: PyTree, select: Callable[[str], bool]
) -> PyTree:
  """Return the selected leaves of `changed` and the other ones of `params`.

  Args:
    changed: What a scheme returned for `hide(params, select)`. It may have
      mapped over the values of hidden leaves too.
    params: Tree before it was hidden.
    select: Function of a path.

  Raises:
    ValueError: If the scheme returned another structure.
  """
  paths, leaves, treedef = flatten(params)
  new_paths, new_leaves, _ = flatten(changed)
  if new_paths != paths:
    raise ValueError(
      "masked: the scheme returned a tree of another structure: "
      f"{_lacks(paths, new_paths, 'its argument', 'its result')}"
    )
  out = [
    new if select(p) and not is_hidden(old) else old
    for p, old, new in zip(paths, leaves, new_leaves, strict=True)
  ]
  return jax.tree.unflatten(treedef, out)


def unhide(params: PyTree) -> PyTree:
  """Remove one level of hiding: the inverse of `hide`."""
  return jax.tree.map(
    lambda x: x.value if is_hidden(x) else x, params, is_leaf=is_hidden
  )


def reveal(params: PyTree) -> PyTree:
  """Remove all levels of hiding, which gives the tree that a model can run.

  A scheme calls this before it passes `params` to a loss or an `apply_fn`.
  """
  while any(map(is_hidden, jax.tree.leaves(params, is_leaf=is_hidden))):
    params = unhide(params)
  return params


def lockable(leaf: Any) -> bool:
  """Return whether a scheme may change this leaf; see the module docstring."""
  dtype = getattr(leaf, "dtype", None)
  if dtype is None or is_hidden(leaf) or leaf.size == 0:
    return False
  if jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
    return False
  if dtype == jnp.int8:
    return True
  return bool(jnp.issubdtype(dtype, jnp.floating))


def make_spec(params: PyTree, scheme: str) -> Spec:
  """Describe a tree for a key.

  Args:
    params: Pytree of arrays or of `jax.ShapeDtypeStruct`.
    scheme: Name of the scheme, for the error.

  Raises:
    ValueError: If no leaf is lockable, or a leaf has floats of 4 or 64 bits.
  """
  paths, leaves, _ = flatten(params)
  for path, leaf in zip(paths, leaves, strict=True):
    if lockable(leaf) and _num_bits(leaf.dtype) not in (8, 16, 32):
      raise ValueError(
        f"{scheme}: leaf {path} is {leaf.dtype}; cast it to a float of "
        "8, 16 or 32 bits"
      )
  spec = tuple(
    LeafSpec(path, _shape(x), _dtype_name(x), lockable(x))
    for path, x in zip(paths, leaves, strict=True)
  )
  if not any(s.locked for s in spec):
    raise ValueError(f"{scheme}: nothing to encrypt: {_why_not(spec)}")
  return spec


def _why_not(spec: Spec) -> str:
  """Explain why no leaf of a tree is lockable."""
  if len(spec) == 1 and not spec[0].path and not spec[0].shape:
    return (
      f"params is of type {spec[0].dtype}, not a tree of arrays; give what "
      "model.init returns, or nnx.state(model)"
    )
  hidden = sum(s.dtype == "hidden" for s in spec)
  more = ""
  if hidden:
    every = "all" if hidden == len(spec) else "the others"
    more = f"; `masked` hides {every}, so check its pattern"
  seen = ", ".join(f"{s.path or '(root)'}: {s.dtype}" for s in spec[:4])
  return (
    f"no array of floats or int8 among {len(spec)} leaves "
    f"({seen or 'an empty tree'}){more}"
  )


def _shape(leaf: Any) -> tuple[int, ...]:
  return tuple(getattr(leaf, "shape", ()))


def _num_bits(dtype: Any) -> int:
  return 8 if dtype == jnp.int8 else jnp.finfo(dtype).bits


def _dtype_name(leaf: Any) -> str:
  if is_hidden(leaf):
    return "hidden"
  return str(getattr(leaf, "dtype", type(leaf).__name__))


def check_spec(
  spec: Spec, params: PyTree, scheme: str, words: bool
) -> tuple[list[Any], jax.tree_util.PyTreeDef]:
  """Check that a key fits a tree, and return its leaves and structure.

  Args:
    spec: Leaves that the key is for.
    params: Tree that the key is used on.
    scheme: Name of the scheme, for the error.
    words: Whether locked leaves are words (ciphertext) rather than values.

  Raises:
    ValueError: If the structure, a shape or a dtype differs; the message names
      the leaf.
  """
  paths, leaves, treedef = flatten(params)
  known = [s.path for s in spec]
  if paths != known:
    raise ValueError(
      f"{scheme}: this key is for another tree: {_lacks(known, paths)}"
    )
  for s, leaf in zip(spec, leaves, strict=True):
    cipher = words and s.locked
    want = str(word_dtype(s.dtype)) if cipher else s.dtype
    got = _dtype_name(leaf)
    if got != want or _shape(leaf) != tuple(s.shape):
      state = "encrypted" if cipher else "plain"
      raise ValueError(
        f"{scheme}: leaf {s.path} is {got}{list(_shape(leaf))}, but this "
        f"key's {state} leaf is {want}{list(s.shape)}"
      )
  return leaves, treedef


def _lacks(
  known: list[str],
  paths: list[str],
  first: str = "the key",
  second: str = "the tree",
) -> str:
  """Describe how the leaves of two trees differ."""
  parts = []
  for who, some, others in (
    (first, known, paths),
    (second, paths, known),
  ):
    only = [p for p in some if p not in set(others)]
    if only:
      more = ", ..." if len(only) > 4 else ""
      parts.append(f"only {who} has {', '.join(only[:4])}{more}")
  return "; ".join(parts) or "the leaves are in another order"


def word_dtype(dtype: Any) -> np.dtype:
  """Return the unsigned integer dtype with the width of a dtype.

  Raises:
    ValueError: If the width is not 8, 16 or 32 bits.
  """
  size = np.dtype(jnp.dtype(dtype)).itemsize
  if size not in _WORDS:
    raise ValueError(f"no words of {dtype}: cast it to 8, 16 or 32 bits")
  return np.dtype(_WORDS[size])


def as_words(x: Any) -> jax.Array:
  """Return the bit patterns of a leaf as unsigned words of its width.

  Raises:
    ValueError: If the width is not 8, 16 or 32 bits.

  Example:
    >>> as_words(jnp.float32(1.0))
    Array(1065353216, dtype=uint32)
  """
  # NumPy's own dtype: JAX would convert a float64 array to float32.
  words = word_dtype(x.dtype if hasattr(x, "dtype") else jnp.result_type(x))
  return jax.lax.bitcast_convert_type(jnp.asarray(x), words)


def from_words(words: Any, dtype: Any) -> jax.Array:
  """Return the leaf whose bit patterns are `words`: inverse of `as_words`."""
  return jax.lax.bitcast_convert_type(jnp.asarray(words), jnp.dtype(dtype))


def bits(x: Any) -> np.ndarray:
  """Return a leaf on the host: its words, or its values if not lockable."""
  if lockable(x):  # A view on the host, where no program is compiled.
    return np.asarray(x).view(word_dtype(x.dtype))
  if jax.dtypes.issubdtype(getattr(x, "dtype", None), jax.dtypes.prng_key):
    return np.asarray(jax.random.key_data(x))
  return np.asarray(x)


def same_bits(a: PyTree, b: PyTree) -> bool:
  """Return whether trees have the same leaves: dtypes and bit patterns.

  Example:
    >>> same_bits(jnp.float32(0.0), jnp.float32(-0.0))
    False
    >>> same_bits(jnp.float32(jnp.nan), jnp.float32(jnp.nan))
    True
  """
  pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  return all(
    _dtype_name(x) == _dtype_name(y) and np.array_equal(bits(x), bits(y))
    for x, y in pairs
  )


def alike(out: jax.Array, x: jax.Array) -> jax.Array:
  """Return `out` with the sharding of `x`, also under jit.

  Without it, the compiler may propagate one leaf's sharding to others through
  what they share, such as a keystream. JAX 0.12 has no way to ask for this;
  there, pass `out_shardings` to `jax.jit` when leaves are sharded differently
  over Auto axes. Over Explicit axes an operation's result is sharded like `x`.
  """
  return out if shard_alike is None else shard_alike(x, out)[1]


def as_floats(locked: PyTree, like: PyTree) -> PyTree:
  """Return the float view of ciphertext: what an attacker would run.

  Args:
    locked: Tree whose locked leaves are words.
    like: Same tree before locking, or its shapes (`jax.eval_shape`).

  Returns:
    `locked` with every leaf bit-cast to the dtype of `like`.
  """

  def view(x: Any, y: Any) -> Any:
    if not lockable(y) or x.dtype == y.dtype:
      return x
    return from_words(x, y.dtype)

  return jax.tree.map(view, locked, like)


@jax.jit
def count_nonfinite(tree: PyTree) -> jax.Array:
  """Return the number of NaN or infinite floats in a tree, int32[]."""
  floats = [
    x
    for x in jax.tree.leaves(tree)
    if jnp.issubdtype(jnp.result_type(x), jnp.floating)
  ]
  counts = [jnp.sum(~jnp.isfinite(x), dtype=jnp.int32) for x in floats]
  return sum(counts, jnp.int32(0))


def unmatched(pattern: Any, paths: Sequence[str]) -> str:
  """Return an error text: no leaf matches a pattern, and which leaves exist."""
  some = ", ".join(paths[:4]) + (", ..." if len(paths) > 4 else "")
  shown = repr(pattern) if isinstance(pattern, str) else "the function"
  return f"no leaf matches {shown} with its whole path; the leaves are {some}"


def no_floats(layers: str, spec: Spec) -> str:
  """Return an error text: no leaf of floats matches, and which leaves exist."""
  match = matcher(layers)
  more = ""
  if any(s.dtype == "hidden" and match(s.path) for s in spec):
    more = "; `masked` hides those that match"
  some = ", ".join(f"{s.path}: {s.dtype}" for s in spec[:4])
  return (
    f"no leaf of floats matches layers={layers!r} with its whole path; the "
    f"leaves are {some}{', ...' if len(spec) > 4 else ''}{more}"
  )


def matcher(pattern: str | Callable[[str], bool]) -> Callable[[str], bool]:
  """Return a predicate on leaf paths: the expression must match all of one.

  An array in a variable of nnx, or in a box of Flax, has the path
  `dense/kernel/value`: the expression may leave out its end.

  Raises:
    ValueError: If `pattern` is not a regular expression.
    TypeError: If it is neither text nor a function.

  Example:
    >>> matcher(".*kernel")("params/dense/kernel")
    True
    >>> matcher("dense")("params/dense/kernel")
    False
    >>> matcher(".*kernel")("dense/kernel/value")
    True
  """
  if callable(pattern):
    return pattern
  if not isinstance(pattern, str):
    raise TypeError(
      "a pattern of leaf paths is a regular expression, such as '.*kernel', or "
      f"a function of a path, got {arguments.describe(pattern)}"
    )
  try:
    compiled = re.compile(pattern)
  except re.error as error:
    raise ValueError(
      f"{pattern!r} is not a regular expression: {error}"
    ) from None

  def match(path: str) -> bool:
    whole, inner = path, path.removesuffix("/value")
    return any(compiled.fullmatch(x) for x in (whole, inner))

  return match
