"""KeyJAX: network weights that are worth nothing without a key."""

from keyjax import aes, keys, seal, tree
from keyjax.keys import Secret
from keyjax.scheme import (
  Scheme,
  authorize,
  chain,
  identity,
  masked,
  partition,
)
from keyjax.schemes.adv_params import adv_params
from keyjax.schemes.deep_lock import deep_lock
from keyjax.schemes.hpnn import absorb, hpnn
from keyjax.schemes.keyed_noise import keyed_noise
from keyjax.schemes.pixel_shuffle import pixel_shuffle
from keyjax.seal import SealError

__all__ = [
  "Scheme",
  "Secret",
  "SealError",
  "absorb",
  "adv_params",
  "aes",
  "authorize",
  "chain",
  "deep_lock",
  "hpnn",
  "identity",
  "keyed_noise",
  "keys",
  "masked",
  "partition",
  "pixel_shuffle",
  "seal",
  "tree",
]
