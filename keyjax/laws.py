"""The laws of a scheme, as checks for built-in schemes and your own.

    laws.check(my_scheme(), params, batch)
    laws.check(my_scheme(), params, batch, apply_fn=model.apply)  # If it binds.

1. `decrypt(key, encrypt(key, p))` is `p`, bit for bit.
2. Structure, shapes and dtypes are kept, except that a cipher returns the
   unsigned integer of the same width; leaves that are neither floats nor int8
   are unchanged.
3. A chain undoes itself in reverse: a chain of schemes keeps law 1.
4. Eager, jit, and vmap over keys agree (pmap, meshes: `tests/test_laws*.py`).
5. One compilation serves every key: keys are arrays, passed as arguments.
6. Something is locked, by every part of a chain that has a key, and by another
   key otherwise. A wrong key restores no encrypted leaf, that is, none that was
   changed in at least half of its elements (two keys of AdvParams may share a
   few positions). If the scheme binds, the pass differs without the key, and
   with a wrong one.
7. No two leaves, positions or nonces share a keystream. Its meaning depends on
   the scheme, which needs a test for it.
8. If keys can be absorbed, the plain pass on the absorbed file computes what
   the key holder's pass computes, and absorbing twice changes nothing.

Your own scheme is up to four functions; the defaults are identities:

  >>> import jax, jax.numpy as jnp
  >>> from keyjax import Scheme, keys, laws, secrets
  >>> @keys.key_dataclass
  ... class RowKey(keys.Key):  # Its repr shows no key material.
  ...   order: jax.Array
  >>> def keygen(secret, params, batch):
  ...   order = secrets.permutation(secret, "rows", params["kernel"].shape[0])
  ...   return RowKey(order=jnp.asarray(order))
  >>> def encrypt(key, params):
  ...   return params | {"kernel": params["kernel"][key.order]}
  >>> def decrypt(key, params):
  ...   return params | {"kernel": params["kernel"][jnp.argsort(key.order)]}
  >>> params = {"kernel": jnp.arange(64.0).reshape(16, 4), "bias": jnp.ones(4)}
  >>> laws.check(Scheme(keygen, encrypt, decrypt), params)
  >>> laws.check(Scheme(keygen, encrypt, encrypt), params)
  Traceback (most recent call last):
  ...
  keyjax.laws.LawError: law 1: decrypt(encrypt(p)) is not p at kernel
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import tree
from keyjax.scheme import (
  ApplyFn,
  Key,
  PyTree,
  Scheme,
  TreeFn,
  authorize,
  require_scheme,
)
from keyjax.secrets import Secret

_ENOUGH = 5  # Elements that no wrong key restores by chance.
_TRIES = 6  # Keys of a few bits that are not all equal by chance.


class LawError(AssertionError):
  """A scheme breaks a law; the message names the law and the leaf."""


def check(
  scheme: Scheme,
  params: PyTree,
  batch: Any = None,
  *,
  apply_fn: ApplyFn | None = None,
  image: Callable[[Any], Any] = lambda batch: batch["image"],
  absorb: TreeFn | None = None,
  locks_nothing: bool = False,
) -> None:
  """Check laws 1, 2, 4, 5, 6 and 8.

  Args:
    scheme: Any scheme; its keys are made from fresh secrets.
    params: Tree to encrypt, with random values: zeros would hide errors.
    batch: Batch for `keygen` and, with `apply_fn`, for the forward pass.
    apply_fn: Forward pass, `apply_fn(params, inputs)`: needed if the scheme
      binds, since laws of `encrypt` alone say nothing about such a scheme.
    image: Function from a batch to the inputs of `apply_fn`.
    absorb: Function (key, locked) -> params for law 8, such as `keyjax.absorb`.
    locks_nothing: Whether the scheme is meant to lock nothing, as `identity`
      is; it is an error if it locks something after all.

  Raises:
    LawError: If the scheme breaks a law.
  """
  require_scheme(scheme, "laws.check")
  key, other = (_new_key(scheme, params, batch) for _ in range(2))
  _check_arrays(key)
  locked = scheme.encrypt(key, params)
  _check_kept(params, locked)
  _same(1, "decrypt(encrypt(p)) is not p", params, scheme.decrypt(key, locked))
  encrypt, decrypt = _counted(scheme.encrypt), _counted(scheme.decrypt)
  jitted = encrypt(key, params)
  _same(4, "encrypt differs under jit", locked, jitted)
  _same(4, "decrypt differs under jit", params, decrypt(key, jitted))
  again = encrypt(other, params)
  _same(1, "decrypt(encrypt(p)) is not p", params, decrypt(other, again))
  if encrypt.traces > 1 or decrypt.traces > 1:
    raise LawError("law 5: another key is compiled again")
  _check_vmap(scheme, (key, other), params, (locked, again))
  _check_wrong(params, locked, decrypt(other, locked))
  parts = _other_parts(key, other)
  silent = [
    i
    for i, others in parts.items()
    if all(tree.same_bits(encrypt(k, params), locked) for k in others)
  ]
  changed = not tree.same_bits(params, locked)
  if apply_fn is not None:
    new = functools.partial(_new_key, scheme, params, batch)
    laws = _Bound(scheme, apply_fn, params, image(batch), new)
    changed |= laws.check(key, other)
    silent = [i for i in silent if all(laws.same(key, k) for k in parts[i])]
    if absorb is not None:
      laws.check_absorbed(absorb, key)
  elif absorb is not None:
    raise ValueError("laws.check: absorb= needs apply_fn=, the forward pass")
  _check_locks(changed, silent, apply_fn, locks_nothing)


def _new_key(scheme: Scheme, params: PyTree, batch: Any) -> Key:
  with warnings.catch_warnings():
    # Of a few bits, one of the keys drawn may be the plain model's.
    warnings.filterwarnings(
      "ignore", ".*the key of this secret changes nothing"
    )
    return scheme.keygen(Secret.generate(), params, batch)


def _other_parts(
  key: Key, other: Key, at: tuple[int, ...] = ()
) -> dict[tuple[int, ...], list[Key]]:
  """Return keys with one part changed, by its positions in nested chains.

  A key of no chain is one part. A part is that of another key, and the same
  with other numbers: what AdvParams finds may depend on the params alone. Parts
  without arrays have no key, such as `identity`.
  """
  if type(key) is not tuple:
    others = [other, jax.tree.map(_another, key)]
    return {at: others} if jax.tree.leaves(key) else {}
  return {
    place: [(*key[:i], part, *key[i + 1 :]) for part in parts]
    for i in range(len(key))
    for place, parts in _other_parts(key[i], other[i], (*at, i)).items()
  }


def _another(x: jax.Array) -> jax.Array:
  """Return an array of other numbers, integers in nearly the same range."""
  if jnp.issubdtype(x.dtype, jnp.floating):
    return x + 1
  return x ^ jnp.ones_like(x)


def _check_locks(
  changed: bool,
  silent: list[tuple[int, ...]],
  apply_fn: ApplyFn | None,
  locks_nothing: bool,
) -> None:
  binds = (
    ""
    if apply_fn
    else "; if it binds to a forward pass, pass apply_fn=model.apply"
  )
  if locks_nothing and changed:
    raise LawError("law 6: locks_nothing=True, but the scheme locks something")
  if not locks_nothing and not changed:
    raise LawError(
      "law 6: nothing is locked: no leaf is changed"
      f"{binds}; if that is meant, as for identity(), pass locks_nothing=True"
    )
  if silent and not locks_nothing:
    part = ".".join(map(str, silent[0]))
    problem = (
      f"part {part} of the chain locks nothing: its key makes"
      if part
      else "the lock does not depend on the key: another one makes"
    )
    raise LawError(f"law 6: {problem} no difference{binds}")


class _Bound:
  """The laws of a bound forward pass."""

  def __init__(
    self,
    scheme: Scheme,
    apply_fn: ApplyFn,
    params: PyTree,
    x: Any,
    new_key: Callable[[], Key],
  ):
    self._scheme = scheme
    self._apply = apply_fn
    self._params = params
    self._x = x
    self._new_key = new_key
    self._encrypt = jax.jit(scheme.encrypt)
    self._run = _counted(self._forward)

  def _forward(self, key: Key, locked: PyTree) -> Any:
    bound = authorize(self._scheme, key, self._apply)
    return bound(locked, self._x)

  def check(self, key: Key, other: Key) -> bool:
    """Check laws 4, 5 and 6; return whether the pass is another than plain."""
    keys = (key, other)
    locked = [self._encrypt(k, self._params) for k in keys]
    jitted = [self._run(k, p) for k, p in zip(keys, locked, strict=True)]
    if self._run.traces > 1:
      raise LawError("law 5: the bound pass is compiled again for another key")
    if not _near(self._forward(key, locked[0]), jitted[0]):
      raise LawError("law 4: the bound pass differs under jit")
    if not jax.tree.leaves(key):
      return not _near(self._plain(self._params), jitted[0])
    mapped = jax.vmap(self._forward)(_stack(*keys), _stack(*locked))
    for one, at in zip(jitted, _unstack(mapped), strict=True):
      if not _near(one, at):
        raise LawError("law 4: the bound pass differs under vmap")
    # Small keys may be equal by chance.
    tried = [other, *(self._new_key() for _ in range(_TRIES))]
    plain = self._plain(self._params)
    own = (
      not _near(plain, self._run(k, self._encrypt(k, self._params)))
      for k in (key, *tried)
    )
    binds = any(own)
    if all(_near(jitted[0], self._run(k, locked[0])) for k in tried):
      if binds or not tree.same_bits(locked[0], self._params):
        raise LawError("law 6: the bound pass is the same with a wrong key")
    return binds

  def same(self, key: Key, other: Key) -> bool:
    """Return whether two keys give one pass."""
    locked = self._encrypt(key, self._params)
    return _near(self._run(key, locked), self._run(other, locked))

  def check_absorbed(self, absorb: TreeFn, key: Key) -> None:
    """Check law 8."""
    locked = self._encrypt(key, self._params)
    absorbed = absorb(key, locked)
    want = self._run(key, locked)
    if not _near(want, self._plain(absorbed)):
      raise LawError("law 8: absorbed params compute something else")
    _same(8, "absorbing twice is not p", locked, absorb(key, absorbed))

  def _plain(self, params: PyTree) -> Any:
    return self._apply(params, self._x)


def _near(a: Any, b: Any) -> bool:
  """Return whether outputs agree up to rounding; NaN never does."""
  pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  return all(_near_arrays(np.asarray(x), np.asarray(y)) for x, y in pairs)


def _near_arrays(x: np.ndarray, y: np.ndarray) -> bool:
  if not jnp.issubdtype(x.dtype, jnp.inexact):
    return np.array_equal(x, y)
  tolerance = min(2 * float(jnp.finfo(x.dtype).eps) ** 0.5, 0.05)
  wide = np.complex128 if np.iscomplexobj(x) else np.float64
  x, y = x.astype(wide), y.astype(wide)
  scale = np.abs(x[np.isfinite(x)]).max(initial=0)
  return np.allclose(x, y, rtol=0, atol=tolerance * scale)


class _counted:
  """A jitted function that counts how often it is traced."""

  def __init__(self, function: Callable[..., Any]):
    self.traces = 0

    def traced(key: Key, params: PyTree) -> PyTree:
      self.traces += 1
      return function(key, params)

    self._jitted = jax.jit(traced)

  def __call__(self, key: Key, params: PyTree) -> PyTree:
    return self._jitted(key, params)


def _check_arrays(key: Key) -> None:
  for leaf in jax.tree.leaves(key):
    if not isinstance(leaf, jax.Array | np.ndarray):
      raise LawError(
        f"law 5: the key contains a {type(leaf).__name__}; make it an array, "
        "or static() if it is public"
      )


def _check_kept(params: PyTree, locked: PyTree) -> None:
  if jax.tree.structure(params) != jax.tree.structure(locked):  # type: ignore[operator]
    raise LawError("law 2: encrypt returns another structure")
  for path, x, y in _leaves(params, locked):
    if not tree.lockable(x):
      if not tree.same_bits(x, y):
        raise LawError(f"law 2: encrypt changes {path}, which is not a weight")
      continue
    if x.shape != y.shape:
      raise LawError(f"law 2: encrypt changes the shape of {path}")
    if y.dtype not in (x.dtype, tree.word_dtype(x.dtype)):
      raise LawError(f"law 2: encrypt makes {path} {y.dtype}")


def _check_vmap(
  scheme: Scheme, keys: tuple[Key, Key], params: PyTree, want: tuple[Any, Any]
) -> None:
  if not jax.tree.leaves(keys):  # No key to map over.
    return
  found = jax.vmap(scheme.encrypt, (0, None))(_stack(*keys), params)
  for one, at in zip(want, _unstack(found), strict=True):
    _same(4, "encrypt differs under vmap", one, at)


@jax.jit
def _stack(*trees: PyTree) -> PyTree:
  return jax.tree.map(lambda *x: jnp.stack(x), *trees)


@jax.jit
def _unstack(pair: PyTree) -> list[PyTree]:
  return [jax.tree.map(lambda x, i=i: x[i], pair) for i in range(2)]


def _check_wrong(params: PyTree, locked: PyTree, opened: PyTree) -> None:
  trees = zip(_leaves(params, locked), jax.tree.leaves(opened), strict=True)
  for (path, x, y), z in trees:
    if not tree.lockable(x) or x.size < _ENOUGH:
      continue
    changed = np.mean(tree.bits(x) != tree.bits(y))
    if changed >= 0.5 and tree.same_bits(x, z):
      raise LawError(f"law 6: a wrong key restores {path}")


def _same(law: int, what: str, want: PyTree, found: PyTree) -> None:
  for path, x, y in _leaves(want, found):
    if not tree.same_bits(x, y):
      raise LawError(f"law {law}: {what} at {path}")


def _leaves(a: PyTree, b: PyTree) -> list[tuple[str, Any, Any]]:
  paths, leaves, _ = tree.flatten(a)
  return list(zip(paths, leaves, jax.tree.leaves(b), strict=True))
