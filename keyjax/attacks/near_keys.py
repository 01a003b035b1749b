"""Wrong keys at a chosen distance from the right one.

An attacker can climb towards the key of a lock that rewards nearly right
keys. The distance is counted in the unit of each family: bits of an AES key
(Deep-Lock, keyed noise), key bits (HPNN), swaps of two positions (SHF), swaps
of a masked and an unmasked position (NP, FFX), moved positions (AdvParams).
These keys are guesses and not secrets, so an ordinary generator makes them.

Each key class defines its distance (`keyjax.keys.Key`); these functions apply
it to the keys of chains as well.
"""

from typing import Any

import numpy as np

from keyjax.keys import Key

Rng = np.random.Generator


def near_key(key: Any, distance: int, rng: Rng) -> Any:
  """Return a key that differs from `key` by `distance` units.

  Args:
    key: Key of a scheme; in a chain, each part moves by `distance`, or as far
      as it can.
    distance: Distance, from 0 to `max_distance(key)`.
    rng: NumPy generator.

  Raises:
    ValueError: If the distance is out of range.
    TypeError: If no distance is defined for the key.

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
  return _checked(key).near(distance, rng)


def random_key(key: Any, rng: Rng) -> Any:
  """Return a random key with the structure of `key`.

  It is the guess of an attacker who knows all but the secret: bits are flipped
  with a probability of one half, orders and masks are drawn again, and every
  position of AdvParams is moved.
  """
  if isinstance(key, tuple):
    return tuple(random_key(k, rng) for k in key)
  return _checked(key).random(rng)


def max_distance(key: Any) -> int:
  """Return the largest distance that `near_key` accepts for a key."""
  if isinstance(key, tuple):
    return max((max_distance(k) for k in key), default=0)
  return _checked(key).max_distance()


def has_near(key: Any) -> bool:
  """Return whether a distance is defined for keys of this kind.

  Example:
    >>> has_near({"mine": np.zeros(3)}), has_near(())
    (False, True)
  """
  if isinstance(key, tuple):
    return all(map(has_near, key))
  return isinstance(key, Key) and key.distance_unit != ""


def unit(key: Any) -> str:
  """Return what a distance counts: `bits`, `swaps`, `positions`."""
  if isinstance(key, tuple):
    return " and ".join(sorted({unit(k) for k in key}))
  return _checked(key).distance_unit


def _checked(key: Any) -> Key:
  if not has_near(key):
    raise TypeError(f"no near keys for a {type(key).__name__}")
  return key
