"""JAX PRNG keys (`jax.random.key`) as the words that are stored of them."""

import functools
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from keyjax.checkpoint.errors import CheckpointContentError
from keyjax.errors import ArgumentError

_OWN = "aes"


def is_rng(leaf: Any) -> bool:
  """Return whether a leaf, or a shape, is of PRNG keys.

  Example:
    >>> is_rng(jax.random.key(0)), is_rng(jax.random.PRNGKey(0))
    (True, False)
  """
  dtype = getattr(leaf, "dtype", None)
  return jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)


def generator(path: str, leaf: Any) -> str:
  """Return the name of the generator of PRNG keys.

  Raises:
    ValueError: If JAX and KeyJAX do not know it by a name.
  """
  name = jax.random.key_impl(leaf)
  if isinstance(name, str):
    return name
  if leaf.dtype == key_type(_OWN)[0]:
    return _OWN
  raise ValueError(
    f"leaf {path} is a PRNG key of an unknown generator: store "
    "jax.random.key_data of it"
  )


def _implementation(name: str) -> Any:
  if name != _OWN:
    return name
  from keyjax.aes import prng

  return prng.impl


@functools.cache
def key_type(name: str) -> tuple[Any, tuple[int, ...]]:
  """Return the dtype of a generator's keys, and the shape of a key's words.

  Raises:
    CheckpointContentError: If there is no such generator.
  """
  make = functools.partial(jax.random.key, 0, impl=_implementation(name))
  try:
    key = jax.eval_shape(make)
    words = jax.eval_shape(lambda: jax.random.key_data(make()))
  except ValueError:
    raise CheckpointContentError(
      f"PRNG keys of the generator {name}, which this JAX does not have"
    ) from None
  return key.dtype, words.shape


def from_words(words: Any, name: str) -> jax.Array:
  """Return the keys whose words were stored: uint32[..., n] -> keys[...]."""
  return jax.random.wrap_key_data(words, impl=_implementation(name))


def sharding_of_words(like: Any, name: str) -> jax.sharding.Sharding | None:
  """Return the sharding that the words of requested keys have.

  Args:
    like: Shape of keys with a sharding, or none.
    name: Name of the generator.

  Raises:
    ArgumentError: If it is of an unusual kind.
  """
  sharding = getattr(like, "sharding", None)
  if sharding is None or isinstance(
    sharding, jax.sharding.SingleDeviceSharding
  ):
    return sharding
  if not isinstance(sharding, NamedSharding):
    raise ArgumentError(f"PRNG keys cannot have a {type(sharding).__name__}")
  rank = len(key_type(name)[1])
  missing = len(like.shape) - len(sharding.spec)
  spec = PartitionSpec(*sharding.spec, *[None] * (missing + rank))
  return NamedSharding(sharding.mesh, spec, memory_kind=sharding.memory_kind)


def check_words(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
  """Return the shape of keys from that of their words.

  Raises:
    CheckpointContentError: If there is no such generator, or its keys have
      other words.
  """
  words = key_type(name)[1]
  rank = len(words)
  if shape[len(shape) - rank :] != words:
    raise CheckpointContentError(
      f"PRNG keys of {name} have words {list(words)}, not {list(shape)}"
    )
  return shape[: len(shape) - rank]


def describe(name: str, shape: tuple[int, ...]) -> str:
  """Return the dtype and shape of keys from the shape of their words.

  Raises:
    CheckpointContentError: As `check_words`.

  Example:
    >>> describe("threefry2x32", (3, 2))
    'key<fry>[3]'
  """
  return f"{key_type(name)[0]}{list(check_words(name, shape))}"
