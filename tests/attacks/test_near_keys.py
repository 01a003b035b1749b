"""Near keys are at the requested distance; at 0 it is the key itself."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from keyjax import Secret, aes
from keyjax.aes import schedule
from keyjax.attacks import near_keys
from tests import trees

PLAIN = trees.params("float32")
BATCH = {"image": jnp.zeros((1, 8, 8, 1))}
SCHEMES = {
  "chain128": keyjax.deep_lock(),
  "chain256": keyjax.deep_lock(key_bits=256),
  "counter": keyjax.deep_lock("counter", 256),
  "noise": keyjax.keyed_noise(),
  "adv": keyjax.adv_params(
    trees.loss, max_steps=3, max_params=6, loss_threshold=1e9
  ),
  "shf": keyjax.pixel_shuffle("shf"),
  "np": keyjax.pixel_shuffle("np"),
  "ffx": keyjax.pixel_shuffle("ffx"),
}


NET = nn.Sequential([nn.Dense(40), nn.relu, nn.Dense(2)])
FIXED = Secret(bytes(range(32)))  # Distances of random keys do not vary.


def made(name: str) -> Any:
  if name != "hpnn":
    return SCHEMES[name].keygen(FIXED, PLAIN, BATCH)
  variables = trees.fresh(NET, BATCH["image"])
  return keyjax.hpnn(NET.apply, units=64).keygen(FIXED, variables, BATCH)


def num_bits(a: np.ndarray, b: np.ndarray) -> int:
  octets = np.asarray(a).view(np.uint8) ^ np.asarray(b).view(np.uint8)
  return int(np.unpackbits(octets).sum())


def measured(name: str, a: Any, b: Any) -> int:
  """Return the distance between two keys, counted independently."""
  if name.startswith("chain"):
    return num_bits(a.master, b.master)
  if name in ("counter", "noise"):
    ka, kb = (schedule.key_of(np.asarray(k.round_keys)) for k in (a, b))
    assert np.array_equal(aes.expand_key(kb), b.round_keys)
    return num_bits(np.frombuffer(ka, np.uint8), np.frombuffer(kb, np.uint8))
  if name == "hpnn":  # in the signs of neurons, by unit: what the lock does
    flipped = {
      int(unit)
      for path, units in a.units.items()
      for unit in np.asarray(units)[
        np.asarray(a.signs(path)) != np.asarray(b.signs(path))
      ]
    }
    return len(flipped)
  if name == "adv":
    return int((np.asarray(a.index) != np.asarray(b.index)).sum())
  if name == "shf":  # swaps = items - cycles of the permutation between them
    between = np.argsort(np.asarray(a.order))[np.asarray(b.order)]
    seen: set[int] = set()
    cycles = 0
    for start in range(between.size):
      cycles += start not in seen
      while start not in seen:
        seen.add(start)
        start = int(between[start])
    return between.size - cycles
  assert int(a.mask.sum()) == int(b.mask.sum())
  return int((a.mask != b.mask).sum()) // 2


@pytest.mark.parametrize("name", [*SCHEMES, "hpnn"])
def test_distances(name: str) -> None:
  key = made(name)
  most = near_keys.max_distance(key)
  rng = np.random.default_rng(0)
  for distance in sorted({0, 1, 2, most // 2, most}):
    near = near_keys.near_key(key, distance, rng)
    assert measured(name, key, near) == distance
  trees.assert_same_bits(near_keys.near_key(key, 0, rng), key)
  with pytest.raises(ValueError, match=f"from 0 to {most}"):
    near_keys.near_key(key, most + 1, rng)


def test_chains_move_every_part_as_far_as_it_goes() -> None:
  scheme = keyjax.chain(keyjax.pixel_shuffle("np", 4), keyjax.deep_lock())
  key = scheme.keygen(Secret.generate(), PLAIN, BATCH)
  near = near_keys.near_key(key, 128, np.random.default_rng(0))
  assert measured("np", key[0], near[0]) == int(key[0].mask.sum())
  assert measured("chain", key[1], near[1]) == 128
  assert near_keys.unit(key) == "bits and swaps"


@pytest.mark.parametrize("name", [*SCHEMES, "hpnn"])
def test_random_keys_differ_and_vary(name: str) -> None:
  key, rng = made(name), np.random.default_rng(0)
  drawn = [near_keys.random_key(key, rng) for _ in range(8)]
  far = [measured(name, key, k) for k in drawn]
  assert min(far) > 0
  assert len({keys_bytes(k) for k in drawn}) == len(drawn)
  most = near_keys.max_distance(key)
  if name == "adv":  # Every position is moved.
    assert set(far) == {most}
  elif near_keys.unit(key) == "bits":
    assert most / 4 < np.mean(far) < 3 * most / 4
  else:
    assert len(set(far)) > 1


def keys_bytes(key: Any) -> bytes:
  return b"".join(np.asarray(x).tobytes() for x in jax.tree.leaves(key))


def test_random_keys_of_a_chain_are_not_one_key() -> None:
  scheme = keyjax.chain(SCHEMES["adv"], keyjax.deep_lock())
  key = scheme.keygen(Secret.generate(), PLAIN, BATCH)
  rng = np.random.default_rng(0)
  masters = {
    tuple(near_keys.random_key(key, rng)[1].master.tolist()) for _ in range(8)
  }
  assert len(masters) == 8 and tuple(key[1].master.tolist()) not in masters


def test_an_unknown_key() -> None:
  with pytest.raises(TypeError, match="no near keys for a str"):
    near_keys.near_key("key", 0, np.random.default_rng(0))
