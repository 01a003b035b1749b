"""Keys of schemes: their base class, and key files.

A scheme's key is a pytree of arrays that stores what the scheme applies (round
keys, a permutation, signs), never a seed: streams of `jax.random` change
between releases and have 64 bits.

Nothing here prints key material: `repr` shows a size, errors contain no key
bytes, and a key cannot be pickled.
"""

from keyjax.keys.base import (
  Key,
  OneTimeKey,
  flip_bits,
  key_dataclass,
  size_in_bytes,
  static,
  type_name,
)
from keyjax.keys.checks import (
  require,
  require_native,
  require_range,
  require_secret,
  require_shape,
  require_unspent,
  require_vector,
  warn_of_identity,
)
from keyjax.keys.files import claim, load, save

__all__ = [
  "Key",
  "OneTimeKey",
  "claim",
  "flip_bits",
  "key_dataclass",
  "load",
  "require",
  "require_native",
  "require_range",
  "require_secret",
  "require_shape",
  "require_unspent",
  "require_vector",
  "save",
  "size_in_bytes",
  "static",
  "type_name",
  "warn_of_identity",
]
