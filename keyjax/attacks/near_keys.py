"""Wrong keys at a chosen distance from the right one.

A lock that gives credit for a nearly right key can be climbed. The distance is
counted in the unit of each family: bits of an AES master key (Deep-Lock), key
bits (HPNN), swaps of two positions (SHF), swaps of a masked and an unmasked
position (NP, FFX), moved positions (AdvParams). Keys made here are guesses,
not secrets, so an ordinary generator makes them.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from keyjax import aes, keys
from keyjax.aes import schedule
from keyjax.schemes import (
  adv_params,
  deep_lock,
  hpnn,
  keyed_noise,
  pixel_shuffle,
)

Rng = np.random.Generator


def near_key(key: Any, distance: int, rng: Rng) -> Any:
  """Returns a key that differs from `key` by `distance` units.

  Args:
    key: a scheme's key; of a chain, each part moves by `distance`, or as far
      as it goes.
    distance: from 0 to `max_distance(key)`.
    rng: a NumPy generator.

  Raises:
    ValueError: the distance is out of range.
    TypeError: the key's type is not known here.

  Example:
    >>> from keyjax import Secret, pixel_shuffle
    >>> batch = {"image": np.zeros((1, 4, 4, 1), np.float32)}
    >>> key = pixel_shuffle("shf").keygen(Secret.generate(), None, batch)
    >>> near = near_key(key, 1, np.random.default_rng(0))
    >>> int((near.order != key.order).sum())
    2
  """
  if not 0 <= distance <= max_distance(key):
    raise ValueError(f"distance={distance}: from 0 to {max_distance(key)}")
  if isinstance(key, tuple):
    steps = [min(distance, max_distance(k)) for k in key]
    return tuple(near_key(k, d, rng) for k, d in zip(key, steps, strict=True))
  return _of(key)[0](key, distance, rng)


def random_key(key: Any, rng: Rng) -> Any:
  """Returns a key drawn at random among those of the structure of `key`.

  Bits are flipped with a probability of one half, orders and masks drawn
  anew, and every position of AdvParams is moved: what a guesser has who knows
  all but the secret.
  """
  if isinstance(key, tuple):
    return tuple(random_key(k, rng) for k in key)
  if isinstance(key, pixel_shuffle.ShfKey):
    order = rng.permutation(np.asarray(key.order))
    return key.replace(order=jnp.asarray(order))  # type: ignore[attr-defined]
  if isinstance(key, pixel_shuffle.NpKey | pixel_shuffle.FfxKey):
    mask = rng.permutation(np.asarray(key.mask))
    return key.replace(mask=jnp.asarray(mask))  # type: ignore[union-attr]
  most = max_distance(key)
  if unit(key) == "bits":
    most = rng.binomial(most, 0.5)
  return near_key(key, most, rng)


def max_distance(key: Any) -> int:
  """Returns the largest distance that `near_key` takes for a key."""
  if isinstance(key, tuple):
    return max((max_distance(k) for k in key), default=0)
  return _of(key)[1](key)


def has_near(key: Any) -> bool:
  """Tells whether distances are known between keys of this one's kind.

  Example:
    >>> has_near({"mine": np.zeros(3)}), has_near(())
    (False, True)
  """
  if isinstance(key, tuple):
    return all(map(has_near, key))
  return isinstance(key, tuple(_TABLE))


def unit(key: Any) -> str:
  """Returns what a distance counts: `bits`, `swaps`, `positions`."""
  if isinstance(key, tuple):
    return " and ".join(sorted({unit(k) for k in key}))
  return _of(key)[2]


def _of(key: Any) -> tuple[Callable, Callable[[Any], int], str]:
  for kind, functions in _TABLE.items():
    if isinstance(key, kind):
      return functions
  raise TypeError(f"no near keys for a {type(key).__name__}")


def _flip_bits(data: np.ndarray, distance: int, rng: Rng) -> np.ndarray:
  """Flips `distance` different bits of uint8[n]."""
  at = rng.choice(data.size * 8, distance, replace=False)
  flips = np.zeros(data.size * 8, np.uint8)
  flips[at] = 1
  return data ^ np.packbits(flips)


def _chain(key: deep_lock.ChainKey, distance: int, rng: Rng) -> Any:
  octets = np.asarray(key.master).astype(">u4").view(np.uint8)
  words = _flip_bits(octets, distance, rng).view(">u4").astype(np.uint32)
  return key.replace(master=jnp.asarray(words))  # type: ignore[attr-defined]


def _counter(key: Any, distance: int, rng: Rng) -> Any:
  octets = np.frombuffer(schedule.key_of(np.asarray(key.round_keys)), np.uint8)
  near = _flip_bits(octets, distance, rng).tobytes()
  return key.replace(round_keys=jnp.asarray(aes.expand_key(near)))


def _aes_bits(key: Any) -> int:
  return 8 * len(schedule.key_of(np.asarray(key.round_keys)))


def _bits(key: hpnn.HpnnKey, distance: int, rng: Rng) -> Any:
  bits = np.array(key.bits)
  # A bit of a unit without neurons does nothing.
  bits[rng.choice(hpnn.used_units(key), distance, replace=False)] ^= 1
  return key.replace(bits=jnp.asarray(bits))  # type: ignore[attr-defined]


def _swaps(key: pixel_shuffle.ShfKey, distance: int, rng: Rng) -> Any:
  """Composes with a cycle of distance + 1 items: that many swaps, no fewer."""
  order = np.array(key.order)
  cycle = rng.choice(order.size, distance + 1, replace=False)
  order[cycle] = order[np.roll(cycle, 1)]
  return key.replace(order=jnp.asarray(order))  # type: ignore[attr-defined]


def _mask(key: Any, distance: int, rng: Rng) -> Any:
  mask = np.array(key.mask)
  for side in (np.flatnonzero(mask), np.flatnonzero(~mask)):
    mask[rng.choice(side, distance, replace=False)] ^= True
  return key.replace(mask=jnp.asarray(mask))


def _positions(key: adv_params.AdvKey, distance: int, rng: Rng) -> Any:
  """Moves positions to other parameters of the same leaf."""
  index = np.array(key.index)
  leaf = np.asarray(key.leaf)
  used = np.flatnonzero(np.asarray(key.flip))
  for k in rng.choice(used, distance, replace=False):
    size = int(np.prod(key.spec[leaf[k]].shape))
    free = np.setdiff1d(np.arange(size), index[leaf == leaf[k]])
    if not free.size:
      raise ValueError(f"no other place in leaf {key.spec[leaf[k]].path}")
    index[k] = rng.choice(free)
  return key.replace(index=jnp.asarray(index))  # type: ignore[attr-defined]


_TABLE: dict[type[keys.Key], tuple[Callable, Callable[[Any], int], str]] = {
  deep_lock.ChainKey: (_chain, lambda k: k.master.size * 32, "bits"),
  deep_lock.CounterKey: (_counter, _aes_bits, "bits"),
  keyed_noise.NoiseKey: (_counter, _aes_bits, "bits"),
  hpnn.HpnnKey: (_bits, lambda k: hpnn.used_units(k).size, "bits"),
  pixel_shuffle.ShfKey: (_swaps, lambda k: k.order.size - 1, "swaps"),
  pixel_shuffle.NpKey: (_mask, lambda k: int(k.mask.sum()), "swaps"),
  pixel_shuffle.FfxKey: (_mask, lambda k: int(k.mask.sum()), "swaps"),
  adv_params.AdvKey: (_positions, adv_params.num_changes, "positions"),
}
