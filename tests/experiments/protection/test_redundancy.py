"""Repetition and compression of trees whose bytes are known."""

import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from experiments.protection import redundancy
from keyjax import Secret

RNG = np.random.default_rng(0)
RANDOM = np.frombuffer(RNG.bytes(1 << 16), np.uint32)


def test_random_bytes_and_zeros() -> None:
  noise = redundancy.measure({"w": RANDOM})
  assert noise.compressed > 0.999 and noise.repeated == 0
  assert noise.sampled == RANDOM.nbytes
  empty = redundancy.measure({"w": np.zeros((64, 64), np.float32)})
  assert empty.compressed < 0.01 and empty.repeated == 1


def test_blocks_that_end_in_zeros_are_not_the_same() -> None:
  """NumPy's strings drop zeros at their end: blocks must stay whole."""
  blocks = np.zeros((300, 4), np.uint32)
  blocks[:, 0] = np.arange(300)
  assert redundancy.measure({"w": blocks}).repeated == 0
  twice = np.concatenate([blocks, blocks[:30]])
  found = redundancy.measure({"w": twice})
  assert found.repeated == pytest.approx(60 / 330)


def test_a_large_tree_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.setattr(redundancy, "_PART", 1024)
  monkeypatch.setattr(redundancy, "_MOST", 16 * 1024)
  found = redundancy.measure({"a": RANDOM, "b": RANDOM[:10]})
  assert 8 * 1024 <= found.sampled <= 16 * 1024
  assert found.compressed > 0.99


def test_odd_trees() -> None:
  odd = {"a": jnp.ones(()), "b": np.zeros((0, 3)), "c": jnp.ones(3, jnp.int8)}
  assert redundancy.measure(odd).sampled == 7
  assert redundancy.measure({}) == redundancy.Redundancy(0.0, 0.0, 0)


def test_counter_mode_hides_what_the_plain_weights_show() -> None:
  params = {"kernel": jnp.asarray(RNG.normal(size=(128, 128)), jnp.float32)}
  params["zeros"] = jnp.zeros((64, 64))
  plain = redundancy.measure(params)
  assert plain.compressed < 0.85 and plain.repeated > 0.1
  for scheme in (keyjax.deep_lock("counter"), keyjax.permutation_lock()):
    key = scheme.keygen(Secret.generate(), params, None)
    locked = redundancy.measure(scheme.encrypt(key, params))
    hides = locked.compressed > 0.99 and locked.repeated == 0
    assert hides == (scheme.encrypt(key, params)["zeros"].dtype == jnp.uint32)
