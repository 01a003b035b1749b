"""Keyed noise: signs and mantissas under a keystream, exponents unchanged.

    w' = w XOR (k_i AND m)     m: the sign and the mantissa of the format

over every weight of the chosen leaves; k_i is the weight's part of an AES-256
keystream in counter mode. As a float, an encrypted weight keeps its magnitude
up to a factor of 2 and has a random sign: noise without outliers, without
duplicates and without a sparse set of positions to look for. The file remains
a file of finite floats of the same dtype, and the key has 32 bytes for every
model.

It avoids the weakness of AdvParams, whose key is a list of positions: noise
derived from a secret over whole leaves cannot be searched one weight at a
time, as Zhou et al. (NNSplitter, arXiv 2305.00097) and its successors argue
for splitting a model into a public part and a part in a trusted device.
"""

from typing import Any

import jax
import jax.numpy as jnp

from keyjax import aes, arguments, keys, tree
from keyjax.scheme import Scheme
from keyjax.schemes import counter, registry
from keyjax.secrets import Secret

NAME = "keyed_noise"


@keys.key_dataclass
class NoiseKey(counter.CounterModeKey, keys.OneTimeKey):
  """The key of one encryption.

  Attributes:
    round_keys: uint32[15, 4], AES-256 round keys.
    nonce: uint32[4], first counter block; public, unique under a secret.
    spec: leaves of the tree; those with `locked` get noise.
    opens_only: see `keys.OneTimeKey`.
  """

  round_keys: jax.Array
  nonce: jax.Array
  spec: tree.Spec = keys.static()
  opens_only: bool = keys.static(default=False)


def keyed_noise(
  layers: str = ".*kernel",
  nonce: bytes | None = None,
  shardings: Any = None,
) -> Scheme:
  """Return the keyed-noise scheme.

  Class: *access control by degradation*.

  Guarantees:
    - Decryption is exact, on every float dtype.
    - Signs and mantissas of the chosen leaves are as confidential as AES-CTR
      under a fresh nonce.
    - Encrypted params of 16 and 32 bits are finite where the plain ones are.

  Known breaks:
    - Exponents stay: magnitudes of weights are public, and so is which weights
      of a pruned model are zero.
    - Leaves that are not chosen stay: an attacker can fine-tune the rest from
      them.
    - One key is for one encryption: a second one, of other weights, shares its
      keystream with the first. Seal the states of a training run instead. A key
      that was read from a file refuses it (`keys.OneTimeKey`), but `decrypt` on
      plain weights is the same as `encrypt`.
    - No integrity: a flipped bit in the file is a flipped bit in the weights.

  Args:
    layers: Regular expression of the paths of the leaves that get noise.
    nonce: 12 bytes; by default a fresh nonce for each `keygen`. Pass the
      stored one to recreate the key of an existing file, never to encrypt a
      second time.
    shardings: For params that are split over Auto axes: a tree of
      `NamedSharding` like the params; see `deep_lock`.

  Returns:
    A scheme that fills `keygen`, `encrypt` and `decrypt`.

  Raises:
    ValueError: If `nonce` does not have 12 bytes.

  Example:
    >>> from keyjax import Secret
    >>> scheme, params = keyed_noise("w"), {"w": jnp.float32([1, -2])}
    >>> key = scheme.keygen(Secret.generate(), params, None)
    >>> locked = scheme.encrypt(key, params)
    >>> locked["w"].dtype, scheme.decrypt(key, locked)["w"].tolist()
    (dtype('float32'), [1.0, -2.0])
  """
  counter.check_nonce(nonce, NAME)
  arguments.require_pattern(layers, f"{NAME}: layers")
  tree.matcher(layers)

  def keygen(secret: Secret, params: Any, batch: Any) -> NoiseKey:
    del batch  # The key does not depend on data.
    keys.require_secret(secret, NAME)
    spec = counter.float_spec(params, layers, NAME)
    return NoiseKey(
      round_keys=jnp.asarray(aes.expand_key(secret.derive(NAME, 32))),
      nonce=counter.first_block(nonce),
      spec=spec,
    )

  def encrypt(key: NoiseKey, params: Any) -> Any:
    keys.require(key, NoiseKey, NAME)
    keys.require_unspent(key, NAME)
    return _mix(key, params, shardings)

  def decrypt(key: NoiseKey, params: Any) -> Any:
    keys.require(key, NoiseKey, NAME)
    return _mix(key, params, shardings)

  return Scheme(keygen, encrypt, decrypt)


def _mix(key: NoiseKey, params: Any, shardings: Any) -> Any:
  """Add or remove the noise: it is its own inverse."""
  keys.require_shape(key.round_keys, ((15, 4),), NAME)
  return counter.mix(key, params, shardings, NAME, _mix_leaf)


@jax.jit
def _mix_leaf(x: jax.Array, pad: jax.Array) -> jax.Array:
  words = tree.as_words(x) ^ (pad & _mask(x.dtype))
  return tree.alike(tree.from_words(words, x.dtype), x)


def _mask(dtype: Any) -> Any:
  """Return the bits of the sign and the mantissa."""
  width = tree.word_dtype(dtype).itemsize * 8
  mantissa = (1 << jnp.finfo(dtype).nmant) - 1
  return tree.word_dtype(dtype).type(1 << (width - 1) | mantissa)


registry.register(
  NAME,
  keyed_noise,
  security_class=registry.DEGRADATION,
  known_break="exponents and other leaves stay, and can be fine-tuned",
)
