"""Sealed arrays and trees, inside `jit` and out of it; see the package."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import aes, tree
from keyjax.aes.host import Impl
from keyjax.keys import Key, Secret, key_dataclass
from keyjax.seal.cobblestone import (
  HEADER,
  SealError,
  checked_salt,
  derive,
  seal,
  size_of_plain,
  unseal,
)

PyTree = Any

_SECRET_LABEL = "seal/cobblestone-256"


@key_dataclass
class SealKey(Key):
  """What seals or opens one message inside `jit`; used for one message only.

  Attributes:
    round_keys: uint32[rounds + 1, 4].
    base_nonce: uint8[12].
    header: uint8[56], the salt and the commitment.
  """

  round_keys: jax.Array
  base_nonce: jax.Array
  header: jax.Array


def seal_key(
  key: bytes, context: bytes = b"", *, salt: bytes | None = None
) -> SealKey:
  """Derives the key of one message, for `seal_array`.

  Args:
    key: 16 or 32 uniform bytes.
    context: what the message is bound to.
    salt: 24 bytes; random to seal, the message's first 24 to open.

  Raises:
    ValueError: the key or the salt has another size.
  """
  salt = checked_salt(salt)
  subkey, base, commitment = derive(key, salt, context)
  return SealKey(
    round_keys=aes.expand_key(subkey),
    base_nonce=_array(base),
    header=_array(salt + commitment),
  )


def _array(data: bytes) -> jax.Array:
  return jnp.asarray(np.frombuffer(data, np.uint8))


def seal_array(
  key: SealKey, data: jax.Array, *, impl: Impl = "auto"
) -> jax.Array:
  """Seals bytes on the device: what `seal` returns, as uint8[m].

  Args:
    key: from `seal_key`, with a salt that was never used.
    data: uint8[n].
    impl: "host" for OpenSSL, "device" for the bit-sliced circuit, "auto" for
      the first on a CPU and the second elsewhere.

  Raises:
    ValueError: `data` is not uint8[n], or too long.

  Example:
    >>> key = Secret.generate().derive("demo", 16)
    >>> data = jnp.asarray([104, 105], jnp.uint8)
    >>> unseal(key, bytes(seal_array(seal_key(key), data)))
    b'hi'
  """
  return aes.seal_chunks(
    key.round_keys, key.base_nonce, data, key.header, impl=impl
  )


def unseal_array(
  key: SealKey, sealed: jax.Array, *, impl: Impl = "auto"
) -> tuple[jax.Array, jax.Array]:
  """Opens bytes on the device, or gives zeros and says so.

  Args:
    key: from `seal_key`, with the message's salt.
    sealed: uint8[m].
    impl: as in `seal_array`.

  Returns:
    The plaintext uint8[n], zeros if anything was altered, and bool[]: whether
    nothing was.

  Raises:
    SealError: no message has this size.
  """
  size_of_plain(sealed.shape[0])
  data, valid = aes.open_chunks(
    key.round_keys, key.base_nonce, sealed[HEADER:], impl=impl
  )
  valid = valid & jnp.all(sealed[:HEADER] == key.header)
  return jnp.where(valid, data, np.uint8(0)), valid


def seal_tree(secret: Secret, params: PyTree, context: bytes = b"") -> PyTree:
  """Seals each leaf of a tree, bound to its path, shape and dtype.

  Args:
    secret: what the sealing key is derived from.
    params: a pytree of arrays.
    context: what the tree is bound to, such as a model's name and step.

  Returns:
    The tree with NumPy arrays uint8[m] for leaves.

  Raises:
    TypeError: a leaf is not an array of numbers.

  Example:
    >>> secret, params = Secret.generate(), {"w": jnp.ones(3)}
    >>> sealed = seal_tree(secret, params)
    >>> unseal_tree(secret, sealed, params)["w"]
    array([1., 1., 1.], dtype=float32)
  """
  key = secret.derive(_SECRET_LABEL, 32)
  paths, leaves, treedef = tree.flatten(params)
  out = []
  for path, leaf in zip(paths, leaves, strict=True):
    bound = _bind(context, path, leaf)
    data = np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)
    out.append(np.frombuffer(seal(key, data.data, bound), np.uint8))
  return jax.tree.unflatten(treedef, out)


def unseal_tree(
  secret: Secret, sealed: PyTree, like: PyTree, context: bytes = b""
) -> PyTree:
  """Opens what `seal_tree` sealed.

  Args:
    secret: what it was sealed with.
    sealed: the tree of sealed leaves.
    like: the tree before sealing, or its shapes (`jax.eval_shape`).
    context: what the tree was bound to.

  Returns:
    The tree, its leaves NumPy arrays.

  Raises:
    SealError: the secret, the context or `like` is wrong, or a leaf is
      damaged, missing, or stands in another's place.
  """
  key = secret.derive(_SECRET_LABEL, 32)
  paths, leaves, treedef = tree.flatten(like)
  names, messages, _ = tree.flatten(sealed)
  if names != paths:
    raise SealError
  out = []
  for path, leaf, message in zip(paths, leaves, messages, strict=True):
    data = unseal(key, np.asarray(message).data, _bind(context, path, leaf))
    out.append(np.frombuffer(data, leaf.dtype).reshape(leaf.shape))
  return jax.tree.unflatten(treedef, out)


def _bind(context: bytes, path: str, leaf: Any) -> bytes:
  """Returns a leaf's context, with lengths so that no two leaves share it."""
  dtype = getattr(leaf, "dtype", None)
  if dtype is None or jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
    raise TypeError(f"leaf {path} is {type(leaf).__name__}, not numbers")
  text = f"{path}|{dtype}|{tuple(leaf.shape)}".encode()
  return len(context).to_bytes(8, "big") + context + text
