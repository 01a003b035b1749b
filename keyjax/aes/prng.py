"""AES-256-CTR as an implementation of `jax.random`, for noise and masks.

A key is 256 bits. Its random bits, its children by `split` and its children by
`fold_in` are blocks of its keystream from three disjoint ranges, so one key
never returns a block twice; two keys collide with a probability of 2^-256 for
each pair. One call returns at most 2^32 - 2 blocks, 64 GiB, from one key.

`jax.random` prints the data of a key array: never print a key of this
implementation. Seeds are for tests; `from_secret` returns keys that cannot be
guessed.

Example:
  Gaussian noise from a secret, for instance for differential privacy:

  >>> from keyjax import Secret
  >>> from keyjax.aes import prng
  >>> rng = prng.from_secret(Secret.generate(), "noise/step 0")
  >>> first, second = jax.random.split(rng)
  >>> jax.random.normal(first, (2, 3)).shape
  (2, 3)

  As any implementation of `jax.random`, with a seed, for tests alone:

  >>> jax.random.bits(jax.random.key(7, impl=prng.impl), (2,))
  Array([..., ...], dtype=uint32)
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import define_prng_impl

from keyjax.aes import ctr
from keyjax.aes.schedule import expand_key
from keyjax.secrets import Secret

_BITS = 0
_SPLIT = 1
_FOLD = 2
_WORDS = {8: jnp.uint8, 16: jnp.uint16, 32: jnp.uint32, 64: jnp.uint64}


@functools.partial(jax.jit, static_argnames=("kind", "n"))
def _blocks(
  key: jax.Array, kind: int, index: jax.Array | int, n: int
) -> jax.Array:
  """Return the words of n blocks of the keystream of a key, uint32[4 * n]."""
  # uint32[8] -> uint8[8, 4] -> uint8[32]
  raw = jax.lax.bitcast_convert_type(key, jnp.uint8).reshape(32)
  counter = jnp.zeros(4, jnp.uint32).at[0].set(np.uint32(kind))
  counter = counter.at[2].set(jnp.asarray(index).astype(jnp.uint32))
  ctr.check_length(0, n)
  return ctr.raw_keystream(
    expand_key(raw), counter, n, "auto", swapped=True, flat=True
  )


def _seed(seed: jax.Array) -> jax.Array:
  bits = seed.astype(jnp.uint32)
  high = (
    (seed >> 32).astype(jnp.uint32)
    if seed.dtype.itemsize == 8
    else jnp.uint32(0)
  )
  return jnp.zeros(8, jnp.uint32).at[0].set(bits).at[1].set(high)


def _split(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  n = math.prod(shape)
  return _blocks(key, _SPLIT, 0, 2 * n).reshape(*shape, 8)


def _fold_in(key: jax.Array, data: jax.Array | int) -> jax.Array:
  return _blocks(key, _FOLD, data, 2).reshape(8)


def _random_bits(
  key: jax.Array, bit_width: int, shape: Sequence[int]
) -> jax.Array:
  if bit_width not in _WORDS:
    raise ValueError(f"bit_width must be 8, 16, 32 or 64, got {bit_width}")
  size = math.prod(shape)
  words = _blocks(key, _BITS, 0, -(-size * bit_width // 128))
  if bit_width == 64:
    words = words.reshape(-1, 2)
  bits = jax.lax.bitcast_convert_type(words, _WORDS[bit_width])
  return bits.reshape(-1)[:size].reshape(tuple(shape))


impl = define_prng_impl(
  key_shape=(8,),
  seed=_seed,
  split=_split,
  random_bits=_random_bits,
  fold_in=_fold_in,
  name="keyjax_aes256_ctr",
  tag="aes",
)


def from_secret(secret: Secret, label: str) -> jax.Array:
  """Derive a key for `jax.random` from a secret.

  Args:
    secret: Secret to derive from.
    label: Purpose of the key. Different labels yield independent streams.

  Returns:
    A scalar PRNG key array, accepted by all functions of `jax.random`.

  References:
    NIST SP 800-90A, "Random Number Generation Using Deterministic Random Bit
    Generators", section 10.2 (the construction this one simplifies).

  Example:
    >>> from keyjax.secrets import Secret
    >>> rng = from_secret(Secret.generate(), "noise")
    >>> jax.random.normal(rng, (3,)).shape
    (3,)
  """
  data = np.frombuffer(secret.derive(f"prng/{label}", 32), np.uint32)
  return jax.random.wrap_key_data(jnp.asarray(data), impl=impl)
