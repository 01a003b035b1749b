"""What a scheme requires of keys: those it is given, and those it makes."""

import warnings
from typing import Any

import jax
import numpy as np

from keyjax import arguments, secrets, tree
from keyjax.keys.base import Key, OneTimeKey
from keyjax.secrets import Secret


def require(key: Any, cls: type, scheme: str) -> None:
  """Raise a TypeError unless `key` is a key of this scheme."""
  if isinstance(key, cls):
    return
  if isinstance(key, Key):
    problem = "this key belongs to another scheme"
  elif isinstance(key, Secret):
    problem = "keygen(secret, params, batch) makes the key of a secret"
  elif isinstance(key, tuple) and any(isinstance(k, Key) for k in key):
    problem = "these keys belong to a chain"
  else:
    problem = "the key is the first argument, as keygen or keys.load returns it"
  raise TypeError(
    f"{scheme} needs a {cls.__name__}, got {arguments.describe(key)}: {problem}"
  )


def require_secret(secret: Any, scheme: str) -> None:
  """Raise a TypeError unless a scheme was given a `Secret`."""
  secrets.require_secret(secret, f"{scheme}: keygen")


def require_shape(
  array: jax.Array, allowed: tuple[tuple[int, ...], ...], scheme: str
) -> None:
  """Raise a ValueError unless a key's array has one of some shapes."""
  if tuple(array.shape) not in allowed:
    raise ValueError(
      f"{scheme}: an array of this key has shape {list(array.shape)}, not "
      f"{' or '.join(str(list(s)) for s in allowed)}: map over stacked keys "
      "with jax.vmap"
    )


def require_range(array: Any, end: int, name: str) -> None:
  """Raise a ValueError unless integers of a key are in 0 .. end - 1."""
  found = np.asarray(array)
  if found.size and not 0 <= int(found.min()) <= int(found.max()) < end:
    raise ValueError(f"{name} of this key has impossible values: it is damaged")


def require_vector(array: jax.Array, scheme: str) -> None:
  """Raise a ValueError unless a key's array has one axis."""
  if array.ndim != 1:
    raise ValueError(
      f"{scheme}: an array of this key has shape {list(array.shape)}, not one "
      "axis: map over stacked keys with jax.vmap"
    )


def warn_of_identity(changes_nothing: bool, scheme: str) -> None:
  """Warn the caller of `keygen` of a new key that locks nothing.

  Small key spaces have one by chance; another one is not drawn in its place,
  so that a secret always gives one key.
  """
  if changes_nothing:
    warnings.warn(
      f"{scheme}: the key of this secret changes nothing: the model is not "
      "locked; take another secret, or lock more, so that there are more keys",
      stacklevel=3,
    )


def require_native(spec: tree.Spec, scheme: str) -> None:
  """Raise a TypeError if a leaf to lock is in another byte order.

  NumPy names the order in such a dtype alone, such as `>f4`.
  """
  for leaf in spec:
    if leaf.locked and leaf.dtype[0] in "<>":
      raise TypeError(
        f"{scheme}: leaf {leaf.path} is {leaf.dtype}, in another byte order "
        'than JAX takes: convert it, x.astype(x.dtype.newbyteorder("="))'
      )


def require_unspent(key: OneTimeKey, scheme: str) -> None:
  """Raise a ValueError if a key must not encrypt."""
  if key.opens_only:
    raise ValueError(
      f"{scheme}: this key was read from a file and may have encrypted before; "
      "a second tree under its nonce would reveal both: make another key with "
      "keygen, or read an unused one with keyjax.keys.claim(path, params)"
    )
