"""Measure a lock on a model of one's own: accuracy, and every attack that fits.

The model is judged with the key, without one and under wrong ones; then each
registered attack on its scheme is played for which the attacker holds enough,
with training from scratch as the control. The rows are those of
`experiments.attack`: `table` prints them, `keyjax.attacks.verdict` says what
they come to, and `keyjax.card.make` puts them into a security card.

A low score bounds the attackers that were run, against one key and within this
budget, and nobody else: see docs/attacks/index.md.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from keyjax import tasks, tree
from keyjax.arguments import require_function, whole_number
from keyjax.attacks import (
  held,
  intervals,
  key_space,
  lock_checks,
  lock_rows,
  measure_table,
  near_keys,
  referee,
  registry,
)
from keyjax.attacks.game import (
  OVER_IMAGES,
  Attack,
  Attacker,
  Budget,
  Goal,
  Model,
  Score,
  Target,
)
from keyjax.attacks.measure_table import table
from keyjax.keys import Key
from keyjax.scheme import binds
from keyjax.schemes import registry as schemes
from keyjax.secrets import Secret

__all__ = ["holdings", "lock", "table"]

Row = dict[str, Any]
# Adversarial examples and telling files apart say nothing of one lock's worth.
_GOALS = (Goal.KEY, Goal.WEIGHTS, Goal.FUNCTION, Goal.FORGE)


def holdings(target: Target) -> Attacker:
  """Return an attacker who holds a little of everything there is.

  64 labelled images, 64 queries, 100 transformed images, 4 known weights, and
  what the target lists: its public base model, and files of other licensees or
  under the same secret. Of fewer training images, half are labelled.
  """
  there = tasks.num_examples(target.train)
  images = min(64, there // 2)
  return Attacker(
    images=images,
    queries=min(64, there),
    ciphertexts=min(100, there - images),
    known_weights=4,
    has_base=target.base is not None,
    copies=len(target.copies),
    licensees=len(target.licensed),
  )


def lock(
  target: Target,
  attacker: Attacker | None = None,
  budget: Budget | None = None,
  *,
  wrong_keys: int = 16,
  title: str = "",
  dataset: str = "data of the owner",
  model: str = "model of the owner",
  command: str = "",
  say: Callable[[str], None] = lambda line: None,
) -> list[Row]:
  """Judge a locked model, and play every attack on it that fits.

  Args:
    target: The locked model. Its `name` is that of the scheme in
      `keyjax.schemes.registry`, such as deep_lock, and its `options` are the
      arguments of the scheme: attacks and the verdict go by them. Of a chain,
      they are `{"parts": [(name, options), ...]}`.
    attacker: The most that the attacker holds; `holdings(target)` by default.
      Of this, each attack is given what it needs, and no more.
    budget: What each attack may spend; 300 steps by default.
    wrong_keys: Number of keys of other secrets that are tried.
    title: Name of the lock for people; the name of the scheme by default.
    dataset: Name of the data.
    model: Name of the network.
    command: How this is measured again, for the rows; by default the name of
      the program, without its arguments, since they may hold a passphrase.
    say: Function that is called with a line for each attack, such as `print`.

  Returns:
    Rows, JSON-compatible: accuracies, the bits of the key space, and attacks;
    of those without a value, `note` says why.

  Raises:
    TypeError: If an argument, or a field of the target, is of another type.
    ValueError: If the scheme is not registered, or locks otherwise than the
      target says; if the key does not open the file; if the model is no better
      than chance with its key, or better without it; if a label or number is
      out of range, or an attacker would hold more than there is.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import keyjax
    >>> from keyjax.attacks import game, measure
    >>> images = jax.random.uniform(jax.random.key(0), (64, 2, 2, 1))
    >>> data = game.Examples(images, jnp.int32(images.mean((1, 2, 3)) > 0.5))
    >>> params = {"kernel": jnp.tile(jnp.array([[-1.0, 1.0]]), (4, 1))}
    >>> params["bias"] = jnp.array([[2.0, -2.0]])
    >>> scheme = keyjax.keyed_noise()
    >>> key = scheme.keygen(keyjax.Secret.generate(), params, None)
    >>> target = game.Target(
    ...   name="keyed_noise",
    ...   scheme=scheme,
    ...   key=key,
    ...   params=params,
    ...   locked=scheme.encrypt(key, params),
    ...   apply_fn=lambda p, x: x.reshape(-1, 4) @ p["kernel"] + p["bias"],
    ...   init=lambda rng: jax.tree.map(jnp.zeros_like, params),
    ...   train=data,
    ...   test=data,
    ... )
    >>> rows = measure.lock(target, budget=game.Budget(steps=2, points=1))
    >>> [r["value"] for r in rows if r["condition"] == "right"]
    [1.0]
  """
  wrong_keys = whole_number(wrong_keys, "wrong_keys", least=0)
  for name, text in {
    "title": title,
    "dataset": dataset,
    "model": model,
    "command": command,
  }.items():
    lock_checks.require(text, str, name)
  lock_checks.require(target, Target, "target")
  require_function(say, "say", "one that takes a line, such as print")
  if target.name != "chain":
    schemes.get(target.name)  # Nothing is known of an unknown scheme.
  spent = Budget(steps=300, points=1) if budget is None else budget
  lock_checks.check_budget(spent)
  classes = lock_checks.check_target(target)
  most = holdings(target) if attacker is None else attacker
  lock_checks.check_attacker(most, target)
  base = lock_rows.base(target, classes) | {
    "title": title or target.name,
    "dataset": dataset,
    "source": dataset,
    "model": model,
    "command": command or lock_rows.program(),
  }
  judged = [*_accuracies(target, wrong_keys), *_key_bits(target)]
  rows: list[Row] = [lock_rows.as_json(base | r) for r in judged]
  by_condition = {r["condition"]: r for r in rows}
  lock_checks.check_worth(target, by_condition, base["chance"])
  right = next(r["value"] for r in rows if r["condition"] == "right")
  for attack in _attacks(target.name):
    try:
      row = base | _played(attack, target, most, spent)
    except Exception as error:
      error.add_note(f"In the attack {attack.name}, played by measure.lock.")
      raise
    if attack.goal == Goal.FUNCTION:
      row["right"] = right
    rows.append(lock_rows.as_json(row))
    say(f"{row['attack_title']}: {measure_table.score(rows[-1])}")
  return rows


def _accuracies(target: Target, wrong_keys: int) -> Iterator[Row]:
  if not binds(target.scheme):  # Otherwise the plain pass is that of no key.
    plain = Model(target.floats(target.params), target.apply_fn)
    yield _accuracy(target, "plain", plain)
  yield _accuracy(target, "right", target.authorized())
  stolen = target.floats(tree.as_floats(target.locked, target.params))
  yield _accuracy(target, "no_key", Model(stolen, target.apply_fn))
  if wrong_keys and jax.tree.leaves(target.key):
    yield _wrong(target, wrong_keys)


def _accuracy(target: Target, condition: str, model: Model) -> Row:
  score = referee.judge(model, target.test, target.task)
  return _estimate(score, intervals.method(target.task)) | {
    "condition": condition,
    "metric": target.task.metric,
    "keys": 1,
    "images": score.details["images"],
    "nonfinite": score.details["nonfinite"],
  }


def _wrong(target: Target, count: int) -> Row:
  rng = np.random.default_rng(0)
  guesses = (_wrong_key(target, rng) for _ in range(count))
  found = [
    referee.judge(
      dataclasses.replace(target, key=k).authorized(), target.test, target.task
    )
    for k in guesses
  ]
  values = np.array([s.value for s in found])
  ends = intervals.mean_interval(values, target.task.bounds)
  score = Score(float(values.mean()), *ends)
  return _estimate(score, f"Student's t over {count} keys") | {
    "condition": "wrong",
    "metric": target.task.metric,
    "keys": count,
    "images": found[0].details["images"],
    "nonfinite": sum(s.details["nonfinite"] for s in found),
    "min": float(values.min()),
    "max": float(values.max()),
    "max_high": float(max(s.high for s in found)),
  }


def _wrong_key(target: Target, rng: np.random.Generator) -> Key:
  """Return the key of another secret, or a random one made from no params."""
  names = [n for n, _ in schemes.parts(target.name, target.options)]
  sources = [schemes.get(n).key_source for n in names]
  if schemes.KeySource.PARAMS in sources:
    if not near_keys.has_near(target.key):
      raise ValueError(
        f"wrong_keys: {target.name} makes keys from params, and its keys have "
        "no random ones like them; pass wrong_keys=0"
      )
    return near_keys.random_key(target.key, rng)
  batch = tasks.take(target.train, slice(32))._asdict()
  return target.scheme.keygen(Secret.generate(), target.params, batch)


def _estimate(score: Score, method: str) -> Row:
  ends = {"value": score.value, "low": score.low, "high": score.high}
  if not np.isfinite(list(ends.values())).all():
    note = "no number: outputs are NaN or infinite"
    return dict.fromkeys(ends) | {"interval": None, "note": note}
  return ends | {"interval": method}


def _key_bits(target: Target) -> Iterator[Row]:
  try:
    bits = key_space.entropy_bits(target.key)
  except TypeError:  # A key that does not count its space.
    return
  none = dict.fromkeys(("low", "high"))
  yield {"condition": "", "metric": "key_bits", "value": bits} | none


def _attacks(scheme: str) -> list[Attack]:
  """Return the attacks of those without the key that fit, the control first."""
  found = [
    a
    for a in registry.applicable(scheme)
    if a.goal in _GOALS and a.condition != "right"
  ]
  return sorted(found, key=lambda a: a.name != measure_table.CONTROL)


def _played(
  attack: Attack, target: Target, most: Attacker, budget: Budget
) -> Row:
  attacker = _narrowed(attack, most)
  row: Row = {
    "attack": attack.name,
    "attack_title": attack.name.replace("_", " "),
    "game": attack.name,
    "condition": attack.condition,
    "metric": str(attack.goal),
    "attacker": vars(attacker),
    "budget": vars(budget) | {"trials": 0},
  }
  lacks = _lacks(attack, target, attacker)
  if lacks:
    return row | {"value": None, "note": lacks}
  result = referee.sweep(attack, target, attacker, budget)
  if note := result.details.get("note"):  # It claims nothing, and says why.
    return row | {"value": None, "note": note}
  method = "one game: no interval"
  if attack.goal in OVER_IMAGES:
    method = f"{intervals.method(target.task)}, Bonferroni over settings"
  return row | _estimate(result.score, method) | result.fields()


def _narrowed(attack: Attack, most: Attacker) -> Attacker:
  """Return an attacker who holds of each kind what an attack needs, if any."""
  given = {k: v for k, v in vars(most).items() if getattr(attack.needs, k)}
  if attack.needs.known_weights:
    given["known_leaf"] = most.known_leaf
  if given.get("queries"):  # What is asked.
    given["images"] = most.queries
  return dataclasses.replace(attack.needs, **given)


def _lacks(attack: Attack, target: Target, attacker: Attacker) -> str:
  """Return why an attack cannot be played, or nothing."""
  if attack.classes_only and target.task is not tasks.CLASSES:
    return f"it needs one class for each example, not {target.task.name}"
  short = [
    held.one(name, int(needed))
    for name, needed in vars(attack.needs).items()
    if needed > getattr(attacker, name)
  ]
  return f"it needs {', '.join(short)}" if short else ""
