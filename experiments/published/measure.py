"""Rows of a subject: with the key, without it, and with wrong keys."""

import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments.protection import lock
from experiments.protection.lock import Lock
from experiments.published.subject import SUBJECTS, Figure, Judged, Subject
from experiments.run import results
from keyjax import Secret, tree
from keyjax.attacks import intervals, near_keys

Row = dict[str, Any]
Note = Callable[[str], None]


class Kind(NamedTuple):
  """A lock, as `experiments.protection.lock.build` takes it.

  Attributes:
    title: What a table calls it.
    scheme: Name of the scheme.
    args: Arguments of its factory.
  """

  title: str
  scheme: str
  args: Mapping[str, Any] = {}


# All of them lock weights that are there: nothing is trained again.
LOCKS: Mapping[str, Kind] = {
  "deep_lock": Kind(
    "Deep-Lock, counter mode", "deep_lock", {"schedule": "counter"}
  ),
  "deep_lock_int8": Kind(
    "Deep-Lock, counter mode, int8",
    "deep_lock",
    {"schedule": "counter", "int8": True},
  ),
  "adv_params": Kind(
    "AdvParams", "adv_params", {"theta": 0.5, "loss_threshold": 0.9}
  ),
  "keyed_noise": Kind("keyed noise", "keyed_noise"),
  "keyed_noise_tables": Kind(
    "keyed noise, tables too",
    "keyed_noise",
    {"layers": r".*(kernel|embedding)"},
  ),
  "hpnn": Kind("HPNN, after training", "hpnn", {"after_training": True}),
}


def jobs(
  config: ConfigDict, note: Note = lambda _: None
) -> dict[str, Callable[[], list[Row]]]:
  """Return what there is to measure: functions that return rows, by name.

  A name has a subject, a lock, and a hash of all that the figures depend on.

  Args:
    config: From `configs/pretrained.py`.
    note: Called with what was done, now and then.

  Raises:
    ValueError: If a field is out of range; the message names it.
  """
  _check(config)
  made = functools.cache(lambda name: SUBJECTS.get(name)(config[name]))
  return {
    f"{name}/{own}/{_hash(config, name)}": functools.partial(
      _rows, config, name, own, made, note
    )
    for name in config.subjects
    for own in _locks(config, name)
  }


def _check(config: ConfigDict) -> None:
  _require_known("subjects", tuple(config.subjects), SUBJECTS.names())
  for name in config.subjects:
    _require_known("locks", _locks(config, name), tuple(LOCKS))
  for field in ("secrets", "wrong_keys"):
    if config[field] < 2:
      raise ValueError(f"{field}={config[field]}: expected 2 or more")


def _require_known(
  field: str, values: tuple[str, ...], known: tuple[str, ...]
) -> None:
  if not values or not set(values) <= set(known):
    raise ValueError(f"{field}={values}: choose from {', '.join(known)}")


def _locks(config: ConfigDict, name: str) -> tuple[str, ...]:
  """Return the locks of a subject, which may have its own."""
  return tuple(config[name].get("locks", config.locks))


def _hash(config: ConfigDict, name: str) -> str:
  # Locks are in the name.
  section = ConfigDict({k: v for k, v in config[name].items() if k != "locks"})
  values = [config.secrets, config.wrong_keys, section.to_json()]
  return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:8]


def _rows(
  config: ConfigDict,
  name: str,
  name_of_lock: str,
  made: Callable[[str], Subject],
  note: Note,
) -> list[Row]:
  subject = made(name)
  base = results.provenance() | {
    "config": config.name,
    "subject": name,
    "model": type(subject.model).__name__,
    "parameters": sum(x.size for x in jax.tree.leaves(subject.variables)),
    "scheme": name_of_lock,
    "mechanism": name_of_lock,
    "title": LOCKS[name_of_lock].title,
    **subject.about,
  }
  made_lock = build(subject, name_of_lock)
  found = measured(subject, made_lock, config.secrets, config.wrong_keys, note)
  return [results.row(base, **fields) for fields in found]


def build(subject: Subject, name: str) -> Lock:
  """Return a lock of a subject's model.

  Raises:
    ValueError: If it looks at a loss, and the subject has no labels.
  """
  kind = LOCKS[name]
  args = dict(kind.args)
  if kind.scheme == "hpnn":
    args["layers"] = subject.layers
  made = lock.build(kind.scheme, args, subject.model, subject.task)
  if made.key_from_params and "label" not in subject.batch:
    raise ValueError(
      f"{name} searches by a loss, and a {type(subject.model).__name__} has no "
      "labels here: leave it out of locks"
    )
  return made


def measured(
  subject: Subject,
  made: Lock,
  secrets: int,
  wrong_keys: int,
  note: Note = lambda _: None,
) -> Iterator[Row]:
  """Yield the figures of every condition.

  Args:
    subject: Model and inputs.
    made: Lock.
    secrets: Owners' secrets: each locks the model by itself.
    wrong_keys: Keys of other secrets, tried on the first locked model; where a
      secret does not decide the key, random keys.
    note: Called with what was done, now and then.
  """
  scheme = made.scheme
  prepared = made.prepare(subject.variables)

  # As `keyjax.authorize`, but weights are opened once for all inputs, whose
  # shapes differ: each shape would compile the cipher again.
  @jax.jit
  def bound(key: Any, opened: Any, x: Any) -> Any:
    return scheme.bind(key, made.apply)(opened, x)

  plain, without = jax.jit(subject.model.apply), jax.jit(made.apply)
  encrypt, decrypt = jax.jit(scheme.encrypt), jax.jit(scheme.decrypt)

  def new_key() -> Any:
    return scheme.keygen(Secret.generate(), prepared, subject.batch)

  def judge_opened(key: Any, locked: Any) -> Judged:
    opened = decrypt(key, locked)
    return subject.judge(functools.partial(bound, key, opened))

  def judge_stolen(locked: Any) -> Judged:
    stolen = tree.as_floats(locked, prepared)
    return subject.judge(functools.partial(without, stolen))

  first = subject.judge(functools.partial(plain, subject.variables))
  yield from _figures("plain", [first])
  note("plain")
  keys = [new_key() for _ in range(secrets)]
  files = [encrypt(key, prepared) for key in keys]
  yield from _figures("right", list(map(judge_opened, keys, files)))
  yield from _figures("no_key", list(map(judge_stolen, files)))
  note(f"{secrets} secrets")
  rng = np.random.default_rng()
  wrong = [
    near_keys.random_key(keys[0], rng) if made.key_from_params else new_key()
    for _ in range(wrong_keys)
  ]
  judged = [judge_opened(key, files[0]) for key in wrong]
  yield from _figures("wrong", judged)
  note(f"{wrong_keys} wrong keys")


def _figures(condition: str, judged: list[Judged]) -> Iterator[Row]:
  """Yield a row for each figure: its mean over keys, and their range.

  The interval of one model is over examples.
  """
  for name, first in judged[0].figures.items():
    values = [_value(x.figures[name]) for x in judged]
    low, high, how = min(values), max(values), "range over keys"
    if len(judged) == 1:
      low, high = intervals.of_metric(first.task, first.statistics)
      how = "over examples, 95 %"
    yield {
      "condition": condition,
      "metric": name,
      "task": first.task.name,
      "value": float(np.mean(values)),
      "values": values,
      "low": low,
      "high": high,
      "interval": how,
      "keys": 0 if condition == "plain" else len(judged),
      "nonfinite": float(np.mean([x.nonfinite for x in judged])),
    }


def _value(figure: Figure) -> float:
  return figure.task.value(figure.statistics)
