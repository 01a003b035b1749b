"""Collusion: few changed weights are outvoted, a keystream is not."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from keyjax import Secret, aes, tree
from keyjax.attacks import fit, referee, registry, views
from keyjax.attacks.any_scheme import collusion
from keyjax.attacks.deep_lock import schedule_difference
from keyjax.attacks.game import Attacker, Budget, Target
from keyjax.schemes import deep_lock
from tests.attacks import toys


def loss_fn(params: Any, batch: Any) -> jax.Array:
  return fit.cross_entropy(
    toys.NET.apply(params, batch["image"]), batch["label"]
  )


def with_licensees(
  scheme: keyjax.Scheme, name: str, count: int, **fields: Any
) -> Target:
  """Return a target, and files of its weights under other secrets."""
  made = toys.target(scheme, name, **fields)
  train = toys.digits()[0]
  batch = {"image": jnp.asarray(train.image), "label": jnp.asarray(train.label)}
  keys = [
    scheme.keygen(Secret.generate(), made.params, batch) for _ in range(count)
  ]
  files = tuple(scheme.encrypt(k, made.params) for k in keys)
  return dataclasses.replace(made, licensed=files)


def scattered() -> keyjax.Scheme:
  """Return a lock that moves 16 of 2,048 weights, chosen by the secret."""

  def keygen(secret: Secret, params: Any, batch: Any) -> jax.Array:
    return jnp.asarray(keyjax.secrets.permutation(secret, "places", 2048)[:16])

  def move(sign: float, key: jax.Array, params: Any) -> Any:
    dense = params["params"]["dense"]
    kernel = dense["kernel"].reshape(-1).at[key].add(sign * 64.0)
    dense = {**dense, "kernel": kernel.reshape(64, 32)}
    return {"params": {**params["params"], "dense": dense}}

  return keyjax.Scheme(
    keygen, functools.partial(move, 1.0), functools.partial(move, -1.0)
  )


def play(name: str, target: Target, count: int, **setting: Any) -> Any:
  attacker = Attacker(knows_scheme=False, licensees=count)
  return referee.play(registry.get(name), target, attacker, Budget(), setting)


def test_few_changes_are_outvoted() -> None:
  """The planted weakness: two secrets rarely move the same weight."""
  target = with_licensees(scattered(), "adv_params", 4)
  weights = play("collude_weights", target, 4)
  assert [p.cost.steps for p in weights.curve] == [0, 1, 2, 4]
  assert 0.98 < weights.curve[0].score.value < 1
  assert weights.score.value == 1
  model = play("collude", target, 4, how="vote")
  right = referee.judge(target.authorized(), target.test).value
  assert model.curve[0].score.value < right - 0.2
  assert model.score.value == right
  assert play("collude", target, 4, how="median").score.value == right


def test_adv_params_in_one_layer_is_one_lock_for_all() -> None:
  """The secret only chooses layers: there is nothing to outvote."""
  scheme = keyjax.adv_params(loss_fn, ".*dense/kernel", theta=0.5, max_steps=4)
  target = with_licensees(scheme, "adv_params", 1)
  same = jax.tree.map(tree.same_bits, target.locked, target.licensed[0])
  assert all(jax.tree.leaves(same))
  result = play("collude_weights", target, 1)
  assert result.score.value == result.curve[0].score.value < 1


@pytest.mark.parametrize("name", ["keyed_noise", "deep_lock"])
def test_no_number_of_files_outvotes_a_keystream(name: str) -> None:
  scheme = keyjax.keyed_noise() if name == "keyed_noise" else None
  scheme = scheme or keyjax.deep_lock("counter")
  target = with_licensees(scheme, name, 8)
  assert play("collude_weights", target, 8).score.value < 0.001
  if name == "keyed_noise":
    for how in ("vote", "median", "mean"):
      result = play("collude", target, 8, how=how)
      right = referee.judge(target.authorized(), target.test).value
      assert result.score.value < right - 0.1


def test_files_that_were_not_granted_are_not_seen() -> None:
  target = with_licensees(keyjax.keyed_noise(), "keyed_noise", 2)
  assert views.view(target, Attacker()).licensed == ()
  assert len(views.view(target, Attacker(licensees=1)).licensed) == 1
  with pytest.raises(ValueError, match="collude needs"):
    play("collude", target, 0)


@pytest.mark.parametrize(
  ("files", "want"), [(0, [0]), (1, [0, 1]), (5, [0, 1, 2, 4, 5])]
)
def test_sizes(files: int, want: list[int]) -> None:
  target = with_licensees(keyjax.deep_lock("counter"), "deep_lock", files)
  assert collusion.sizes(views.view(target, Attacker(licensees=9))) == want


def test_votes_with_nan_and_infinity() -> None:
  values = np.float32([[np.nan, 1], [3, np.inf], [np.nan, 2]])
  np.testing.assert_array_equal(collusion.vote(values), np.float32([np.nan, 1]))
  half = np.asarray(jnp.bfloat16([[1.5], [2], [2]]))
  assert collusion.vote(half).dtype == jnp.bfloat16
  assert float(collusion.vote(half)[0]) == 2


# ---------------------------------------------------- the published schedule


@pytest.mark.parametrize("key_bits", [128, 256])
def test_two_licensees_of_the_published_schedule(key_bits: int) -> None:
  """The XOR of two files is that of two schedules, and reveals both."""
  scheme = keyjax.deep_lock(key_bits=key_bits)
  target = with_licensees(
    scheme, "deep_lock", 1, options={"key_bits": key_bits}
  )
  attack = registry.get("schedule_difference")
  attacker = Attacker(licensees=1)
  result = referee.play(attack, target, attacker, Budget())
  assert result.score.value == 1 and result.details["places_tried"] == 16


def test_two_licensees_of_counter_mode() -> None:
  target = with_licensees(keyjax.deep_lock("counter"), "deep_lock", 1)
  attack = registry.get("schedule_difference")
  result = referee.play(attack, target, Attacker(licensees=1), Budget())
  assert result.score.value == 0 and result.details == {"schedules": 0}


@pytest.mark.parametrize("nk", [4, 8])
def test_both_schedules_are_recovered_from_their_xor(nk: int) -> None:
  keys = [Secret.generate().derive("k", 4 * nk) for _ in range(2)]
  masters = [jnp.asarray(np.frombuffer(k, np.uint32)) for k in keys]
  streams = [
    np.asarray(deep_lock.key_schedule(m, 100)).reshape(-1) for m in masters
  ]
  apart = streams[0] ^ streams[1]
  found = [*schedule_difference.states(apart, nk)]
  got = {tuple(words.tolist()) for _, words in found}
  at = found[0][0]
  assert len(got) == 16
  assert got > {tuple(s[at : at + nk].tolist()) for s in streams}
  # Each of them has its partner among them.
  assert got == {
    tuple((np.array(w, np.uint32) ^ apart[at : at + nk]).tolist()) for w in got
  }


def test_noise_is_not_a_pair_of_schedules() -> None:
  key = aes.expand_key(bytes(32))
  noise = aes.keystream(jnp.asarray(key), jnp.zeros(4, jnp.uint32), 100)
  assert not [*schedule_difference.states(np.asarray(noise).reshape(-1), 4)]
  assert not [*schedule_difference.states(np.zeros(3, np.uint32), 4)]
  same = np.zeros(400, np.uint32)  # One key twice: nothing to tell apart.
  assert not [*schedule_difference.states(same, 4)]
