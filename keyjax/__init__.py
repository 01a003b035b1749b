"""KeyJAX: network weights that are worth nothing without a key."""

from keyjax import keys, tree
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
from keyjax.schemes.pixel_shuffle import pixel_shuffle

__all__ = [
  "Scheme",
  "Secret",
  "absorb",
  "adv_params",
  "authorize",
  "chain",
  "deep_lock",
  "hpnn",
  "identity",
  "keys",
  "masked",
  "partition",
  "pixel_shuffle",
  "tree",
]
