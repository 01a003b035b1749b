"""Rows of a task and a seed, and the figures over seeds."""

import functools
import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from experiments import data
from experiments.capabilities import digits, scoring, text, training
from experiments.capabilities.attackers import ATTACKS, Attack, Scene
from experiments.capabilities.sealing import sealed
from experiments.capabilities.task import OPENED, PUBLIC, RESTRICTED, Task
from experiments.run import results
from keyjax.tiers import Unlocked

Row = dict[str, Any]
Note = Callable[[str], None]
TASKS = ("digits", "text")


def tasks(
  config: ConfigDict, note: Note = lambda _: None
) -> dict[str, Callable[[], list[Row]]]:
  """Return what there is to measure: functions that return rows, by name.

  A name has a task, a seed, and a hash of all that the figures depend on.

  Args:
    config: From `configs/capability.py`.
    note: Called with what was done, now and then.

  Raises:
    ValueError: If a field is out of range; the message names it.
  """
  check(config)
  public = functools.cache(functools.partial(_public, config))
  return {
    f"{name}/{seed}/{_hash(config, name)}": functools.partial(
      _rows, name, seed, config, public, note
    )
    for name in config.tasks
    for seed in range(config.seed, config.seed + config.seeds)
  }


def check(config: ConfigDict) -> None:
  """Raise a ValueError that names a field which is out of range."""
  names = tuple(config.tasks)
  _require("tasks", names, names and set(names) <= set(TASKS))
  _require("seeds", config.seeds, config.seeds >= 2)
  for name in names:
    _check_task(name, config[name])
  if "text" not in names:
    data.refuse_guard("the task digits", data.guard_of(config))
  if "digits" in names:
    count = config.digits.digits
    _require("digits.digits", count, 2 <= count <= 7)
    used = config.digits.tests + max(config.digits.demonstrations)
    _require("digits.tests", config.digits.tests, 2 * used <= 10**count)
  if "text" in names:
    _require("text.window", config.text.window, config.text.window >= 2)


def _check_task(name: str, config: ConfigDict) -> None:
  """Check what all tasks have."""
  for field in (
    "batch_size",
    "choosing",
    "tests",
    "steps",
    "expert_steps",
    "both_steps",
    "attack_batch_size",
  ):
    _require(f"{name}.{field}", config[field], config[field] >= 1)
  rate = config.learning_rate
  _require(f"{name}.learning_rate", rate, rate > 0)
  attacks = tuple(config.attacks)
  known = attacks and set(attacks) <= set(ATTACKS)
  _require(f"{name}.attacks", attacks, known)
  counts = tuple(config.demonstrations)
  _require(f"{name}.demonstrations", counts, counts and min(counts) >= 1)
  fits: dict[str, Callable[[float], bool]] = {
    "steps": lambda x: x >= 1,
    "learning_rates": lambda x: x > 0,
    "noise": lambda x: x > 0,
    "draws": lambda x: x >= 1,
    "pruned": lambda x: 0 < x < 1,
    "bits": lambda x: x >= 2,
  }
  for field, is_right in fits.items():
    values = tuple(config.sweep[field])
    right = bool(values) and all(map(is_right, values))
    _require(f"{name}.sweep.{field}", values, right)


def _public(config: ConfigDict) -> data.Dataset:
  """Load the public text.

  Raises:
    ValueError: If it does not open.
    MissingDataError: If it is not on this machine.
  """
  return data.load(
    config.text.public, config.data_dir or None, guard=data.guard_of(config)
  )


def make_task(
  name: str, config: ConfigDict, public: Callable[[], data.Dataset]
) -> Task:
  """Return a task.

  Args:
    name: One of `TASKS`.
    config: Section of the task.
    public: Function that loads the public text.
  """
  most = max(config.demonstrations)
  if name == "digits":
    return digits.make(config.digits, most, config.tests)
  return text.make(public(), config.modules, config.window, most, config.tests)


def _rows(
  name: str,
  seed: int,
  config: ConfigDict,
  public: Callable[[], data.Dataset],
  note: Note,
) -> list[Row]:
  own = config[name]
  task = make_task(name, own, public)
  module = training.network(task, own)
  base = results.provenance() | {
    "config": config.name,
    "task": name,
    "model": own.model,
    "seed": seed,
    "parameters": _size(module),
    "options": json.loads(own.to_json()),
    **task.about,
  }
  found = measured(task, module, own, jax.random.key(seed), note)
  return [results.row(base, **fields) for fields in found]


def measured(
  task: Task,
  module: nn.Module,
  config: ConfigDict,
  rng: jax.Array,
  note: Note = lambda _: None,
) -> Iterator[Row]:
  """Yield what one seed gives: models, then attackers of what was stolen.

  Args:
    task: Task.
    module: Network.
    config: Section of the task.
    rng: PRNG key.
    note: Called with what was done, now and then.
  """
  params = {}
  for name, title in training.MODELS.items():
    own = _fold(rng, name)
    params[name] = training.train(name, module, task, config, own)
    note(f"{task.name}: {title}")
  stolen, opened = sealed(params["routed"])
  without, _ = sealed(params["never"])
  whole = training.WHOLE
  score = functools.partial(scoring.score, task, module)
  for name, (who, condition) in {
    "unrouted": (Unlocked(params["unrouted"], whole), "plain"),
    "locked": (Unlocked(params["locked"], whole), "no_key"),
    "routed": (stolen, "no_key"),
    "routed_key": (opened, "right"),
    "never": (without, "no_key"),
  }.items():
    for kind in (PUBLIC, RESTRICTED):
      yield {
        "who": name.removesuffix("_key"),
        "condition": condition,
        "attack": "none",
        "metric": kind,
        "demonstrations": 0,
        "value": score(*who, kind),
      }
  yield {
    "who": "locked",
    "condition": "right",
    "attack": "none",
    "metric": RESTRICTED,
    "demonstrations": 0,
    "value": score(params["locked"], whole, OPENED),
  }
  yield from _attacks(
    task,
    module,
    config,
    {
      "locked": Unlocked(params["locked"], whole),
      "routed": stolen,
      "never": without,
      "scratch": Unlocked(params["scratch"], whole),
    },
    _fold(rng, "attacks"),
    note,
  )


def _attacks(
  task: Task,
  module: nn.Module,
  config: ConfigDict,
  stolen: Mapping[str, Unlocked],
  rng: jax.Array,
  note: Note,
) -> Iterator[Row]:
  """Yield the best of every attack on what was stolen."""
  for name, attack in ATTACKS.items():
    if name not in config.attacks:
      continue
    for who, (params, present) in stolen.items():
      if who == "scratch" and name != "fine_tune":
        continue  # Random weights: nothing to open.
      for count in _counts(attack, config.demonstrations):
        scene = Scene(
          module,
          params,
          present,
          task.demonstrations,
          count,
          config.attack_batch_size,
          config.sweep,
        )
        found = attack.play(scene, _fold(rng, f"{name}/{who}/{count}"))
        value = scoring.best(task, found, config.choosing)
        yield {
          "who": who,
          "condition": "no_key",
          "attack": name,
          "metric": RESTRICTED,
          "demonstrations": count,
          "value": value.value,
          "setting": value.setting,
        }
    note(f"{task.name}: {attack.title}")


def _counts(attack: Attack, demonstrations: Sequence[int]) -> Sequence[int]:
  """Return the numbers of demonstrations that an attack is tried with."""
  if not attack.trains:
    return (0,)
  return (max(demonstrations),) if attack.needs_many else demonstrations


def _size(module: nn.Module) -> int:
  """Return the number of parameters, with the expert's."""
  token = jax.ShapeDtypeStruct((1, 1), jnp.int32)
  shapes = jax.eval_shape(module.init, jax.random.key(0), token)
  return sum(x.size for x in jax.tree.leaves(shapes))


def _fold(rng: jax.Array, name: str) -> jax.Array:
  return jax.random.fold_in(rng, zlib.crc32(name.encode()))


def _hash(config: ConfigDict, name: str) -> str:
  return hashlib.sha256(config[name].to_json().encode()).hexdigest()[:16]


def _require(field: str, value: Any, fits: Any) -> None:
  if not fits:
    raise ValueError(f"{field}={value} is out of range")
