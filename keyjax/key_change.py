"""A new key for a locked model, without training where that is possible.

The article that asks for keys on models holds that a leaked key means training
again. For ciphers, AdvParams and HPNN that is not so.
"""

import jax

from keyjax import keys, tree
from keyjax.scheme import Key, PyTree, Scheme, binds


def rekey(scheme: Scheme, old: Key, new: Key, params: PyTree) -> PyTree:
  """Return params locked with another key: as accurate, and for it alone.

  What is encrypted is decrypted and encrypted again. What a model was trained
  under is converted exactly: HPNN's signs are absorbed into the weights and out
  of them. A model that was trained on images under a key (SHF, NP, FFX) must
  see those of the new one: train it further, or see `rekey_patch_embedding` for
  a first layer that takes whole blocks.

  It does not lock the old file: whoever has it and the old key can use it for
  ever. Nor does it hide the old key: of two files of HPNN, the signs in which
  they differ are those in which the keys do.

  Args:
    scheme: Any scheme or chain.
    old: Key that `params` are locked with.
    new: Key made by `scheme.keygen` from the plain params,
      `scheme.decrypt(old, params)`.
    params: Locked params.

  Raises:
    TypeError: If a key is of another scheme, or the model must be trained for
      the new key.
    ValueError: If the keys are equal, or one does not fit the params.

  Example:
    >>> import jax.numpy as jnp
    >>> from keyjax import Secret, deep_lock
    >>> scheme, params = deep_lock("counter"), {"w": jnp.ones(4)}
    >>> old, new = (
    ...   scheme.keygen(Secret.generate(), params, None) for _ in range(2))
    >>> locked = rekey(scheme, old, new, scheme.encrypt(old, params))
    >>> scheme.decrypt(new, locked)["w"].tolist()
    [1.0, 1.0, 1.0, 1.0]
  """
  # Not the structures: a key from a file has another one, as it only decrypts.
  arrays = [jax.tree.leaves(key) for key in (old, new)]
  if len(arrays[0]) == len(arrays[1]) and tree.same_bits(*arrays):
    raise ValueError("rekey: the new key is the old one")
  pairs = zip(_parts(old), _parts(new), strict=False)
  for part, (one, other) in enumerate(pairs):
    once = isinstance(one, keys.OneTimeKey) and isinstance(other, type(one))
    if once and tree.same_bits(jax.tree.leaves(one), jax.tree.leaves(other)):
      raise ValueError(
        f"rekey: part {part} of the new key is that of the old one, whose "
        "nonce has encrypted another tree"
      )
  opened = scheme.decrypt(old, params)
  if binds(scheme):
    opened = _rebind(old, new, opened)
  return scheme.encrypt(new, opened)


def _parts(key: Key) -> list[Key]:
  return jax.tree.leaves(key, is_leaf=lambda x: isinstance(x, keys.Key))


def _rebind(old: Key, new: Key, params: PyTree) -> PyTree:
  if isinstance(old, tuple):
    if not isinstance(new, tuple) or len(new) != len(old):
      raise TypeError(f"rekey: the old key has {len(old)} parts, not the new")
    for one, other in zip(old, new, strict=True):
      params = _rebind(one, other, params)
    return params
  if not isinstance(old, keys.Key):
    raise TypeError(
      f"rekey: the key is a {type(old).__name__}; a scheme that binds needs a "
      "keys.Key with `rebind`"
    )
  keys.require(new, type(old), "rekey")
  return old.rebind(new, params)
