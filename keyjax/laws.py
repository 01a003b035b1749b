"""The laws of a scheme, as checks for built-in schemes and your own.

    laws.check(my_scheme(), params, batch)

1. `decrypt(key, encrypt(key, p))` is `p`, bit for bit.
2. Structure, shapes and dtypes are kept, except that a cipher returns the
   unsigned integer of the same width; leaves that are neither floats nor int8
   are unchanged.
3. A chain undoes itself in reverse: a chain of schemes keeps law 1.
4. Eager, jit, and vmap over keys agree (pmap and meshes: `tests/test_laws.py`).
5. One compilation serves every key: keys are arrays, passed as arguments.
6. A wrong key restores no encrypted leaf, that is, none that was changed in at
   least half of its elements (two keys of AdvParams may share a few positions).
7. No two leaves, positions or nonces share a keystream. Its meaning depends on
   the scheme, which needs a test for it.

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

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import tree
from keyjax.scheme import Key, PyTree, Scheme
from keyjax.secrets import Secret

_ENOUGH = 5  # Elements that no wrong key restores by chance.


class LawError(AssertionError):
  """A scheme breaks a law; the message names the law and the leaf."""


def check(scheme: Scheme, params: PyTree, batch: Any = None) -> None:
  """Check laws 1, 2, 4, 5 and 6 for a scheme's tree functions.

  Args:
    scheme: Any scheme; its keys are made from fresh secrets.
    params: Tree to encrypt, with random values: zeros would hide errors.
    batch: Batch for `keygen`.

  Raises:
    LawError: If the scheme breaks a law.
  """
  key, other = (
    scheme.keygen(Secret.generate(), params, batch) for _ in range(2)
  )
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
