"""Attacks on models of other tasks than one class for each example."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from keyjax import Secret, tasks
from keyjax.attacks import referee, registry
from keyjax.attacks.fit import Recipe, fit
from keyjax.attacks.game import (
  Attack,
  Attacker,
  Budget,
  Examples,
  Goal,
  Model,
  Target,
)
from keyjax.tasks import Task, mean

SYMBOLS, CONTEXT = 6, 5
SECRET = Secret(bytes(range(32)))
TOKENS = tasks.get("tokens")


class Bigrams(nn.Module):
  """Reads a token, and says the next one: twice itself, and one more."""

  @nn.compact
  def __call__(self, tokens: jax.Array) -> jax.Array:
    x = nn.Dense(5, name="dense")(jax.nn.one_hot(tokens, SYMBOLS))
    return nn.Dense(SYMBOLS, name="head")(nn.relu(x))


NET = Bigrams()


def examples(count: int, seed: int) -> Examples:
  rng = np.random.default_rng(seed)
  read = rng.integers(0, SYMBOLS, (count, CONTEXT)).astype(np.int32)
  return Examples(read, ((2 * read + 1) % SYMBOLS).astype(np.int32))


def init(rng: jax.Array) -> Any:
  return NET.init(rng, jnp.zeros((1, CONTEXT), jnp.int32))


@functools.cache
def target(name: str) -> Target:
  """Lock a model that is always right."""
  train, test = examples(64, 0), examples(40, 1)
  batch = jax.tree.map(jnp.asarray, train._asdict())
  apply_fn: Any = NET.apply

  def loss_fn(params: Any, batch: Any) -> jax.Array:
    outputs = NET.apply(params, batch["image"])
    return TOKENS.loss(outputs, batch["label"]).mean()

  schemes = {
    "deep_lock": lambda: keyjax.deep_lock(),
    "keyed_noise": lambda: keyjax.keyed_noise(),
    "adv_params": lambda: keyjax.adv_params(loss_fn, layers=".*kernel"),
    "hpnn": lambda: keyjax.hpnn(apply_fn),
  }
  scheme = schemes[name]()
  key: Any = None
  run, start = apply_fn, init(jax.random.key(0))
  if name == "hpnn":
    key = scheme.keygen(SECRET, start, batch)
    run = scheme.bind(key, apply_fn)
  recipe = Recipe(learning_rate=1e-2)
  fits = fit(run, start, train, [150], recipe, loss=TOKENS.loss)
  params = next(fits).params
  key = scheme.keygen(SECRET, params, batch) if key is None else key
  return Target(
    name=name,
    scheme=scheme,
    key=key,
    params=params,
    locked=scheme.encrypt(key, params),
    apply_fn=apply_fn,
    init=init,
    train=train,
    test=test,
    task=TOKENS,
  )


SCHEMES = ("deep_lock", "keyed_noise", "adv_params", "hpnn")


@pytest.mark.parametrize("name", SCHEMES)
def test_the_owner_is_right_and_an_attacker_is_not(name: str) -> None:
  locked = target(name)
  right = referee.judge(locked.authorized(), locked.test, locked.task)
  assert right.value == 1 and right.details["images"] == 40
  assert 1 <= right.details["perplexity"] < 1.2
  stolen = Model(locked.locked, locked.apply_fn)
  if name != "deep_lock":  # Words of ciphertext are no params.
    assert referee.judge(stolen, locked.test, locked.task).value < 0.95


def attacker_of(attack: Attack) -> Attacker:
  """Return one who holds images, queries, and a key where one is needed."""
  needs = attack.needs
  held = {"has_key": needs.has_key, "victims": needs.victims}
  return Attacker(images=32, queries=32, **held)


PAIRS = [
  (name, attack.name)
  for name in SCHEMES
  for attack in registry.applicable(name)
  if attack.goal in (Goal.FUNCTION, Goal.KEY, Goal.TRANSFER)
  and attacker_of(attack).covers(attack.needs)
  # Those on any scheme need to meet one.
  and (name in attack.schemes or name == SCHEMES[0])
]


@pytest.mark.parametrize(("name", "attack"), PAIRS)
def test_attacks_take_tokens_or_say_why_not(name: str, attack: str) -> None:
  found = registry.get(attack)
  budget = Budget(steps=4, points=2)
  args = found, target(name), attacker_of(found), budget
  if found.classes_only:
    with pytest.raises(ValueError, match="one class for each example.*tokens"):
      referee.play(*args)
    return
  score = referee.play(*args).score
  assert 0 <= score.low <= score.value <= score.high <= 1


def test_fine_tuning_learns_tokens() -> None:
  attacker = Attacker(knows_scheme=False, images=64)
  tune = registry.get("fine_tune")
  setting = {"optimizer": "adam", "learning_rate": 1e-2}
  played = referee.play(
    tune, target("deep_lock"), attacker, Budget(300, 2), setting
  )
  assert played.score.value > 0.95 > played.curve[0].score.value


def test_a_sweep_over_tokens_widens_its_interval() -> None:
  attacker = Attacker(knows_scheme=False, images=64)
  scratch = registry.get("scratch")
  grid = [{"learning_rate": 3e-3}] * 4
  args = scratch, target("deep_lock"), attacker, Budget(80, 1)
  one, swept = referee.play(*args, grid[0]), referee.sweep(*args, grid)
  assert swept.score.value == one.score.value
  assert swept.score.low < one.score.low <= one.score.high <= swept.score.high


# ------------------------------------------------------------ trees of arrays


def _squares(outputs: Any, label: Any) -> dict[str, Any]:
  off = jnp.square(outputs["sum"] - label["sum"])
  return {"near": (off < 0.01).astype(jnp.float32)}


SUMS = Task(
  name="sums",
  unit="pairs",
  loss=lambda outputs, label: jnp.square(outputs["sum"] - label["sum"]),
  statistics=_squares,
  metrics={"near": mean("near")},
  logits=False,
)


def test_examples_may_be_trees_of_arrays() -> None:
  """A task of one's own, whose inputs, outputs and labels are dictionaries."""
  rng = np.random.default_rng(0)

  def pairs(count: int) -> Examples:
    a, b = rng.normal(size=(2, count)).astype(np.float32)
    return Examples({"a": a, "b": b}, {"sum": a + b})

  def apply_fn(params: Any, inputs: Any) -> Any:
    a, b = params["w"]
    return {"sum": a * inputs["a"] + b * inputs["b"]}

  scheme = keyjax.deep_lock()
  params = {"w": jnp.ones(2)}
  key = scheme.keygen(Secret.generate(), params, None)
  locked = Target(
    name="deep_lock",
    scheme=scheme,
    key=key,
    params=params,
    locked=scheme.encrypt(key, params),
    apply_fn=apply_fn,
    init=lambda rng: {"w": jax.random.normal(rng, (2,))},
    train=pairs(64),
    test=pairs(50),
    task=SUMS,
  )
  assert referee.judge(locked.authorized(), locked.test, SUMS).value == 1
  budget = Budget(400, 2)
  setting = {"learning_rate": 3e-2}
  for name in ("scratch", "extract"):
    attacker = Attacker(images=64, queries=64)
    played = referee.play(registry.get(name), locked, attacker, budget, setting)
    assert played.score.value > 0.9
  assert played.cost.queries == 64
