"""Sealed arrays and trees, inside and outside `jit`; see `keyjax.seal`."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import aes, meshes, tree
from keyjax.aes import checks, schedule
from keyjax.aes.host import Impl
from keyjax.errors import SealError
from keyjax.keys import OneTimeKey, key_dataclass, require_unspent, static
from keyjax.seal import device
from keyjax.seal.format import (
  HEADER_BYTES,
  SALT_BYTES,
  checked_salt,
  derive,
  size_of_plain,
)
from keyjax.seal.host import seal, unseal
from keyjax.secrets import Secret

PyTree = Any

_SECRET_LABEL = "seal/cobblestone-256"
_WHOLE = np.uint8(0)  # The tag is over all bytes: results are not sharded.


@key_dataclass
class SealKey(OneTimeKey):
  """The key of one message for use inside `jit`; never reused for another.

  Attributes:
    round_keys: uint32[rounds + 1, 4].
    base_nonce: uint8[12].
    header: uint8[56], salt and commitment.
    opens_only: see `keyjax.keys.OneTimeKey`.
  """

  round_keys: jax.Array
  base_nonce: jax.Array
  header: jax.Array
  opens_only: bool = static(default=False)

  def check(self) -> None:
    """Raise a ValueError if a shape is wrong, or round keys were altered."""
    self.check_shapes()
    schedule.check_expanded(self.round_keys)

  def check_shapes(self) -> None:
    """Raise a ValueError if a shape or dtype is wrong."""
    checks.round_keys(self.round_keys)
    checks.array("header", self.header, np.uint8, (HEADER_BYTES,))


def seal_key(
  key: bytes, context: bytes = b"", *, salt: bytes | None = None
) -> SealKey:
  """Derive the key of one message, for `seal_array`.

  Args:
    key: 16 or 32 uniform bytes.
    context: Associated data that the message is bound to.
    salt: 24 bytes; by default random, for sealing. To open a message, its
      first 24 bytes.

  Raises:
    ValueError: If the key or the salt has another size.
  """
  salt = checked_salt(salt)
  subkey, base_nonce, commitment = derive(key, salt, context)
  return SealKey(
    round_keys=aes.expand_key(subkey),
    base_nonce=_byte_array(base_nonce),
    header=_byte_array(salt + commitment),
  )


def _byte_array(data: bytes) -> jax.Array:
  return jnp.asarray(np.frombuffer(data, np.uint8))


def seal_array(
  key: SealKey, data: jax.Array, *, impl: Impl = "auto"
) -> jax.Array:
  """Seal bytes on the device; return the message of `seal` as uint8[m].

  Args:
    key: Key from `seal_key`, with a salt that was never used before.
    data: uint8[n].
    impl: "host" for machine code, "device" for the bit-sliced circuit, "auto"
      for "host" on a CPU and "device" elsewhere.

  Raises:
    ValueError: If `data` is not uint8[n] or is too long, or the key was
      altered, or read from a file.

  Example:
    >>> key = Secret.generate().derive("demo", 16)
    >>> data = jnp.asarray([104, 105], jnp.uint8)
    >>> unseal(key, bytes(seal_array(seal_key(key), data)))
    b'hi'
  """
  require_unspent(key, "seal_array")
  key.check()
  seal_chunks = functools.partial(device.seal_chunks, impl=impl)
  args = (key.round_keys, key.base_nonce, data, key.header)
  return meshes.as_auto(seal_chunks, _WHOLE, *args)


def unseal_array(
  key: SealKey, sealed: jax.Array, *, impl: Impl = "auto"
) -> tuple[jax.Array, jax.Array]:
  """Open bytes on the device, or return zeros.

  Args:
    key: Key from `seal_key`, with the message's salt.
    sealed: uint8[m].
    impl: As in `seal_array`.

  Returns:
    The plaintext uint8[n], zeros if anything was altered, and whether the
    message is authentic, bool[].

  Raises:
    SealError: If no message has this size.
    ValueError: If `sealed` or an array of the key has another shape or dtype.
  """
  key.check_shapes()  # Altered round keys open nothing.
  checks.array("sealed", sealed, np.uint8, ("m",))
  size_of_plain(sealed.shape[0])
  args = (key.round_keys, key.base_nonce, key.header, sealed)
  unseal_whole = functools.partial(_unseal, impl=impl)
  return meshes.as_auto(unseal_whole, (_WHOLE, _WHOLE), *args)


@functools.partial(jax.jit, static_argnames="impl")
def _unseal(
  round_keys: jax.Array,
  base_nonce: jax.Array,
  header: jax.Array,
  sealed: jax.Array,
  impl: Impl,
) -> tuple[jax.Array, jax.Array]:
  data, valid = device.open_chunks(
    round_keys, base_nonce, sealed[HEADER_BYTES:], impl=impl
  )
  valid = valid & jnp.all(sealed[:HEADER_BYTES] == header)
  return jnp.where(valid, data, np.uint8(0)), valid


def seal_tree(secret: Secret, params: PyTree, context: bytes = b"") -> PyTree:
  """Seal each leaf of a tree, bound to this tree, its path, shape and dtype.

  The messages of one call have one random salt, and open only together: a leaf
  of another tree is refused, whatever the context. A whole older tree opens
  unless `context` says which one is meant.

  Args:
    secret: Secret that the sealing key is derived from.
    params: Pytree of arrays.
    context: Associated data that the tree is bound to, such as a model's name
      and step.

  Returns:
    The tree with NumPy arrays uint8[m] as leaves.

  Raises:
    TypeError: If a leaf is not a numeric array.

  Example:
    >>> secret, params = Secret.generate(), {"w": jnp.ones(3)}
    >>> sealed = seal_tree(secret, params)
    >>> unseal_tree(secret, sealed, params)["w"]
    array([1., 1., 1.], dtype=float32)
  """
  key = secret.derive(_SECRET_LABEL, 32)
  paths, leaves, treedef = tree.flatten(params)
  salt = checked_salt(None)
  messages = []
  for number, (path, leaf) in enumerate(zip(paths, leaves, strict=True)):
    leaf_context = _leaf_context(context, path, leaf) + _in_tree(number)
    data = np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)
    message = seal(key, data.data, leaf_context, salt=salt)
    messages.append(np.frombuffer(message, np.uint8))
  return jax.tree.unflatten(treedef, messages)


def unseal_tree(
  secret: Secret, sealed: PyTree, like: PyTree, context: bytes = b""
) -> PyTree:
  """Open a tree that `seal_tree` sealed.

  Args:
    secret: Secret that it was sealed with.
    sealed: Tree of sealed leaves.
    like: The tree before sealing, or its shapes (`jax.eval_shape`).
    context: Associated data that the tree is bound to.

  Returns:
    The tree, with NumPy arrays as leaves.

  Raises:
    SealError: If the secret, the context or `like` is wrong, or a leaf is
      damaged, missing, swapped with another, or of another tree.
  """
  key = secret.derive(_SECRET_LABEL, 32)
  paths, leaves, treedef = tree.flatten(like)
  sealed_paths, messages, _ = tree.flatten(sealed)
  if sealed_paths != paths:
    raise SealError
  messages = [np.asarray(message).data.cast("B") for message in messages]
  contexts = [
    _leaf_context(context, path, leaf)
    for path, leaf in zip(paths, leaves, strict=True)
  ]
  in_tree = [text + _in_tree(i) for i, text in enumerate(contexts)]
  one_salt = len({bytes(message[:SALT_BYTES]) for message in messages}) == 1
  try:
    data = _unseal_all(key, messages, in_tree if one_salt else contexts)
  except SealError:
    # Earlier releases drew a salt for each leaf, also for the only one.
    if not (one_salt and len(messages) == 1):
      raise
    data = _unseal_all(key, messages, contexts)
  opened = [
    np.frombuffer(plain, leaf.dtype).reshape(leaf.shape)
    for plain, leaf in zip(data, leaves, strict=True)
  ]
  return jax.tree.unflatten(treedef, opened)


def _unseal_all(
  key: bytes, messages: list[memoryview], contexts: list[bytes]
) -> list[bytes]:
  return [unseal(key, m, c) for m, c in zip(messages, contexts, strict=True)]


def _in_tree(number: int) -> bytes:
  """Return what a leaf's context ends with if its tree has one salt.

  The number keeps the keys of two leaves apart even if their paths are equal.
  A context of earlier releases ends with a shape.
  """
  return f"|{number} of one tree".encode()


def _leaf_context(context: bytes, path: str, leaf: Any) -> bytes:
  """Return a leaf's context; the length prefix makes it unambiguous."""
  dtype = getattr(leaf, "dtype", None)
  if dtype is None or jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
    raise TypeError(f"leaf {path} is {type(leaf).__name__}, not numbers")
  text = f"{path}|{dtype}|{tuple(leaf.shape)}".encode()
  return len(context).to_bytes(8, "big") + context + text
