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
import datetime
import importlib.metadata
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from keyjax import tasks, tree
from keyjax.attacks import (
  intervals,
  key_space,
  near_keys,
  referee,
  registry,
  verdict,
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
from keyjax.keys import Key
from keyjax.scheme import binds
from keyjax.schemes import registry as schemes
from keyjax.secrets import Secret

Row = dict[str, Any]
# Adversarial examples and telling files apart say nothing of one lock's worth.
_GOALS = (Goal.KEY, Goal.WEIGHTS, Goal.FUNCTION, Goal.FORGE)
_CONTROL = "scratch"
_HELD = {
  "images": "labelled images",
  "queries": "queries",
  "ciphertexts": "transformed images",
  "known_weights": "known weights",
  "has_base": "public base model",
  "copies": "other file under the same secret",
  "licensees": "file of another licensee",
}


def holdings(target: Target) -> Attacker:
  """Return an attacker who holds a little of everything there is.

  64 labelled images, 64 queries, 100 transformed images, 4 known weights, and
  what the target lists: its public base model, and files of other licensees or
  under the same secret.
  """
  images = min(64, tasks.num_examples(target.train) // 2)
  return Attacker(
    images=images,
    queries=64,
    ciphertexts=min(100, tasks.num_examples(target.train) - images),
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
  say: Callable[[str], None] = lambda line: None,
) -> list[Row]:
  """Judge a locked model, and play every attack on it that fits.

  Args:
    target: The locked model. Its `name` is that of the scheme in
      `keyjax.schemes.registry`, such as deep_lock, and its `options` are the
      arguments of the scheme: attacks and the verdict go by them.
    attacker: The most that the attacker holds; `holdings(target)` by default.
      Of this, each attack is given what it needs, and no more.
    budget: What each attack may spend; 300 steps by default.
    wrong_keys: Number of keys of other secrets that are tried.
    title: Name of the lock for people; the name of the scheme by default.
    dataset: Name of the data.
    model: Name of the network.
    say: Function that is called with a line for each attack, such as `print`.

  Returns:
    Rows, JSON-compatible: accuracies, the bits of the key space, and attacks;
    of those that were not played, `note` says why.

  Raises:
    ValueError: If the scheme is not registered, or a number is out of range.

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
  if wrong_keys < 0:
    raise ValueError(f"wrong_keys={wrong_keys}: at least 0")
  schemes.get(target.name)  # Nothing is known of an unknown scheme.
  most = holdings(target) if attacker is None else attacker
  spent = Budget(steps=300, points=1) if budget is None else budget
  base = _base(target, title or target.name, dataset, model)
  rows = [base | r for r in _accuracies(target, wrong_keys)]
  rows += [base | r for r in _key_bits(target)]
  right = next(r["value"] for r in rows if r["condition"] == "right")
  for attack in _attacks(target.name):
    row = base | _played(attack, target, most, spent)
    if attack.goal == Goal.FUNCTION:
      row["right"] = right
    say(f"{row['attack_title']}: {_score(row)}")
    rows.append(row)
  return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
  """Return the rows of `lock` as text, ending in the verdict in words."""
  lines = [f"{_name(r):34}{_score(r)}" for r in rows if r["value"] is not None]
  lines += [f"{_name(r):34}{_score(r)}" for r in rows if r["value"] is None]
  first = rows[0]
  stated = verdict.known(first["mechanism"], first["options"])
  played = [r for r in rows if "attack" in r]
  found = verdict.in_words(first["mechanism"], first["options"], played, played)
  return "\n".join([*lines, f"{stated.security_class}; {found}"])


def _name(row: Mapping[str, Any]) -> str:
  if "attack" in row:
    return str(row["attack_title"])
  return {"key_bits": "key space"}.get(
    row["metric"], f"{row['metric']}, {row['condition'].replace('_', ' ')}"
  )


def _score(row: Mapping[str, Any]) -> str:
  if row["value"] is None:
    return f"not played: {row['note']}"
  if row["metric"] == "key_bits":
    return f"{row['value']:.1f} bits"
  if row["metric"] == Goal.FORGE:
    return "a changed file opens" if row["value"] == 1 else "no forgery"
  value, low, high = (100 * row[x] for x in ("value", "low", "high"))
  text = f"{value:6.1f} %" + (
    f" ({low:.1f} to {high:.1f})" if low < high else ""
  )
  if "attack" in row:
    of = "" if row["metric"] == Goal.FUNCTION else f" of the {row['metric']}"
    return text + of + _given(row["attacker"])
  bad = row["nonfinite"] / (row["images"] * row["keys"])
  return text + (f"; {100 * bad:.0f} % not finite" if bad else "")


def _given(attacker: Mapping[str, Any]) -> str:
  """Return what an attacker held, in words; what is asked is not counted."""
  shown = dict(attacker) | ({"images": 0} if attacker["queries"] else {})
  words = [f"{int(shown[k])} {name}" for k, name in _HELD.items() if shown[k]]
  return f", with {', '.join(words)}" if words else ", with the file alone"


def _base(target: Target, title: str, dataset: str, model: str) -> Row:
  """Return what every row says: where it comes from, and of which lock."""
  count = jax.device_count()
  shown = [pathlib.Path(sys.argv[0]).name or "python", *sys.argv[1:]]
  now = datetime.datetime.now(datetime.UTC)
  logits = jax.eval_shape(
    target.apply_fn,
    target.params,
    jax.tree.map(lambda x: x[:1], target.train.image),
  )
  return {
    "config": pathlib.Path(sys.argv[0]).stem or "python",
    "dataset": dataset,
    "source": dataset,
    "model": model,
    "classes": jax.tree.leaves(logits)[0].shape[-1],
    "scheme": target.name,
    "title": title,
    "mechanism": target.name,
    "options": dict(target.options),
    "judged_by": target.task.metric,
    "command": " ".join(shown),
    "commit": f"keyjax {importlib.metadata.version('keyjax')}",
    "hardware": f"{count} x {jax.devices()[0].device_kind}",
    "jax": jax.__version__,
    "date": now.isoformat(timespec="seconds"),
  }


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
  if schemes.get(target.name).key_source is schemes.KeySource.PARAMS:
    return near_keys.random_key(target.key, rng)
  batch = {"image": jax.tree.map(lambda x: x[:32], target.train.image)}
  return target.scheme.keygen(Secret.generate(), target.params, batch)


def _estimate(score: Score, method: str) -> Row:
  ends = {"value": score.value, "low": score.low, "high": score.high}
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
  return sorted(found, key=lambda a: a.name != _CONTROL)


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
  held = {k: v for k, v in vars(most).items() if getattr(attack.needs, k)}
  if held.get("queries"):  # What is asked.
    held["images"] = most.queries
  return dataclasses.replace(attack.needs, **held)


def _lacks(attack: Attack, target: Target, attacker: Attacker) -> str:
  """Return why an attack cannot be played, or nothing."""
  if attack.classes_only and target.task is not tasks.CLASSES:
    return f"it needs one class for each example, not {target.task.name}"
  short = [
    f"{int(needed)} {_HELD.get(name, name)}"
    for name, needed in vars(attack.needs).items()
    if needed > getattr(attacker, name)
  ]
  return f"it needs {', '.join(short)}" if short else ""
