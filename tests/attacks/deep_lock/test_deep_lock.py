"""Attacks on Deep-Lock: won where they must be, lost against counter mode."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from keyjax import Secret, quantize, tree
from keyjax.attacks import referee, registry, views
from keyjax.attacks.deep_lock import key_schedule, peeled
from keyjax.attacks.game import Attacker, Budget, Target
from keyjax.schemes import deep_lock
from tests import trees
from tests.attacks import toys


def locked(
  schedule: str = "chain", bits: int = 128, dtype: Any = None, **fields: Any
) -> Target:
  scheme = keyjax.deep_lock(schedule, bits)
  if dtype is not None:
    cast = lambda t: jax.tree.map(lambda x: x.astype(dtype), t)  # noqa: E731
    fields |= {"params": cast(toys.trained())}
  if fields.pop("int8", False):
    scheme = keyjax.masked(scheme, quantize.INT8_LEAVES)
    fields |= {
      "params": quantize.quantize(toys.trained()),
      "floats": quantize.dequantize,
    }
  options = {"schedule": schedule, "key_bits": bits}
  return toys.target(scheme, "deep_lock", options=options, **fields)


def play(name: str, target: Target, **powers: Any) -> referee.AttackResult:
  return referee.play(registry.get(name), target, Attacker(**powers), Budget())


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("bits", [128, 256])
def test_four_known_weights_at_an_unknown_place(bits: int, seed: int) -> None:
  attack, budget = registry.get("known_plaintext"), Budget(seed=seed)
  attacker = Attacker(known_weights=bits // 32)
  won = referee.play(attack, locked("chain", bits), attacker, budget)
  lost = referee.play(attack, locked("counter", bits), attacker, budget)
  assert won.score.value == 1 and lost.score.value == 0


@pytest.mark.parametrize("leaf", ["dense/bias", "head/bias", "head/kernel"])
def test_in_any_leaf(leaf: str) -> None:
  """Near the ends of the stream only one side has neighbours."""
  result = play(
    "known_plaintext", locked(), known_weights=4, known_leaf=f"params/{leaf}"
  )
  assert result.score.value == 1


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_known_weights_of_16_bits(dtype: Any) -> None:
  """Nine weights, because they may begin in the middle of a word."""
  target = locked(dtype=dtype)
  result = play("known_plaintext", target, known_weights=9)
  assert result.score.value == 1
  few = play("known_plaintext", target, known_weights=6)
  assert few.score.value == 0 and few.details["needs_known_bytes"] == 18


def test_known_weights_of_8_bits() -> None:
  target = locked(int8=True)
  result = play("known_plaintext", target, known_weights=19)
  assert result.score.value == 1
  assert (
    play(
      "known_plaintext", locked("counter", int8=True), known_weights=19
    ).score.value
    == 0
  )


@pytest.mark.parametrize("bits", [128, 256])
def test_zero_biases_are_enough(bits: int) -> None:
  fresh = toys.init(jax.random.key(0))
  assert (
    play("constant_leaves", locked(bits=bits, params=fresh)).score.value == 1
  )
  hard = locked("counter", bits, params=fresh)
  assert play("constant_leaves", hard).score.value == 0
  # Trained biases are not zero: the attack reports that it found nothing.
  assert play("constant_leaves", locked(bits=bits)).score.value == 0


def test_scales_of_one_are_enough() -> None:
  params = toys.trained()["params"]
  params = {"params": params | {"norm": {"scale": jnp.ones(32)}}}
  target = locked(params=params)
  assert play("constant_leaves", target).score.value == 1


def test_a_public_base_model_with_one_frozen_leaf() -> None:
  base = jax.tree.map(lambda x: x + 0.01, toys.trained())
  base["params"]["head"]["kernel"] = toys.trained()["params"]["head"]["kernel"]
  for schedule, want in (("chain", 1), ("counter", 0)):
    target = dataclasses.replace(locked(schedule), base=base)
    assert play("base_model", target, has_base=True).score.value == want
  other = jax.tree.map(lambda x: x + 0.01, toys.trained())
  target = dataclasses.replace(locked(), base=other)
  assert play("base_model", target, has_base=True).score.value == 0


@pytest.mark.parametrize(
  ("schedule", "nonce", "want"),
  [("chain", None, 1), ("counter", None, 0), ("counter", b"once is all.", 1)],
)
def test_two_time_pad(schedule: str, nonce: bytes | None, want: int) -> None:
  """Two versions under one secret; a nonce used twice is as bad."""
  scheme, secret = keyjax.deep_lock(schedule, nonce=nonce), Secret.generate()
  old = jax.tree.map(lambda x: x * 0.9, toys.trained())
  first = toys.target(scheme, "deep_lock", params=old, secret=secret)
  target = toys.target(
    scheme, "deep_lock", secret=secret, base=old, copies=(first.locked,)
  )
  result = play("two_time_pad", target, has_base=True, copies=1)
  assert (result.score.value == 1) == bool(want)
  assert result.score.value in (0, 1) or result.score.value < 1e-2


@pytest.mark.parametrize("schedule", ["chain", "counter"])
@pytest.mark.parametrize("int8", [False, True])
def test_both_schedules_are_malleable(schedule: str, int8: bool) -> None:
  assert play("flip_sign", locked(schedule, int8=int8)).score.value == 1


def decoy_of(target: Target) -> Target:
  rng = np.random.default_rng(0)
  noise = lambda x: rng.integers(0, 1 << 32, x.shape, np.uint32)  # noqa: E731
  words = jax.tree.map(noise, target.locked)
  return dataclasses.replace(target, genuine=False, locked=words)


@pytest.mark.parametrize("bits", [128, 256])
def test_a_distinguisher(bits: int) -> None:
  for schedule, want in (("chain", True), ("counter", False)):
    target = locked(schedule, bits)
    decoy = decoy_of(target)
    assert play("three_words", target).score.value == want
    assert play("three_words", decoy).score.value == 1  # Never a false alarm.


# ------------------------------------------------------------------- the parts


@pytest.mark.parametrize("dtype", trees.DTYPES)
def test_peeling_gives_keystream_xor_plain(dtype: str) -> None:
  plain = trees.params(dtype)
  scheme = keyjax.deep_lock()
  key = scheme.keygen(Secret.generate(), plain, None)
  file = scheme.encrypt(key, plain)
  stream = peeled.peel(file, plain)
  keystream = np.asarray(deep_lock.keystream(key, len(stream.words)))
  trees.assert_same_bits(peeled.plain(stream, keystream, file, plain), plain)
  trees.assert_same_bits(peeled.cover(stream, file, plain), file)
  assert [x.path for x in stream.leaves] == [
    p for p, x in zip(*tree.flatten(plain)[:2], strict=True) if tree.lockable(x)
  ]


@pytest.mark.parametrize("nk", [4, 8])
@pytest.mark.parametrize("index", [4, 8, 9, 255, 256, 259, 1000, 5003])
def test_the_schedule_runs_backwards(nk: int, index: int) -> None:
  master = np.random.default_rng(0).integers(0, 1 << 32, nk, np.uint32)
  stream = deep_lock.key_schedule(jnp.asarray(master), 2000).reshape(-1)
  words = np.concatenate([master, np.asarray(stream)])
  window = words[index : index + nk]
  np.testing.assert_array_equal(key_schedule.master(window, index), master)
  state = [np.array([w]) for w in window]
  assert (
    key_schedule.after(state, np.array([index + nk]))[0] == words[index + nk]
  )
  assert key_schedule.before(state, np.array([index]))[0] == words[index - 1]


def test_no_key_material_in_rows() -> None:
  """A row says what was tried, not what was found."""
  result = play("known_plaintext", locked(), known_weights=4)
  assert set(result.details) == {"places_tried"}
  view = views.view(locked(), Attacker(known_weights=4))
  claim = next(registry.get("known_plaintext").run(view, Budget()))
  assert "not shown" in repr(claim.value)
