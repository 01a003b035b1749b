"""Rows of a subject: with the key, without it, and with wrong keys."""

import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

import keyjax
from experiments.published.subject import SUBJECTS, Figure, Judged, Subject
from experiments.run import results
from keyjax import Scheme, Secret, tree
from keyjax.attacks import intervals

Row = dict[str, Any]
Note = Callable[[str], None]


class Lock(NamedTuple):
  """A lock.

  Attributes:
    title: What a table calls it.
    make: Function from a subject to the scheme.
  """

  title: str
  make: Callable[[Subject], Scheme]


# All of them lock weights that are there: nothing is trained again.
LOCKS: Mapping[str, Lock] = {
  "deep_lock": Lock(
    "Deep-Lock, counter mode", lambda subject: keyjax.deep_lock("counter")
  ),
  "keyed_noise": Lock("keyed noise", lambda subject: keyjax.keyed_noise()),
  "keyed_noise_tables": Lock(
    "keyed noise, tables too",
    lambda subject: keyjax.keyed_noise(r".*(kernel|embedding)"),
  ),
  "hpnn": Lock(
    "HPNN, after training",
    lambda subject: keyjax.hpnn(
      subject.model.apply,
      subject.layers,
      image=lambda batch: batch,
      after_training=True,
    ),
  ),
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
    f"{name}/{lock}/{_hash(config, name)}": functools.partial(
      _rows, config, name, lock, made, note
    )
    for name in config.subjects
    for lock in _locks(config, name)
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
  lock: str,
  made: Callable[[str], Subject],
  note: Note,
) -> list[Row]:
  subject = made(name)
  base = results.provenance() | {
    "config": config.name,
    "subject": name,
    "model": type(subject.model).__name__,
    "parameters": sum(x.size for x in jax.tree.leaves(subject.variables)),
    "scheme": lock,
    "mechanism": lock,
    "title": LOCKS[lock].title,
    **subject.about,
  }
  scheme = LOCKS[lock].make(subject)
  found = measured(subject, scheme, config.secrets, config.wrong_keys, note)
  return [results.row(base, **fields) for fields in found]


def measured(
  subject: Subject,
  scheme: Scheme,
  secrets: int,
  wrong_keys: int,
  note: Note = lambda _: None,
) -> Iterator[Row]:
  """Yield the figures of every condition.

  Args:
    subject: Model and inputs.
    scheme: Lock.
    secrets: Owners' secrets: each locks the model by itself.
    wrong_keys: Keys of other secrets, tried on the first locked model.
    note: Called with what was done, now and then.
  """
  apply_fn = subject.model.apply

  # As `keyjax.authorize`, but weights are opened once for all inputs, whose
  # shapes differ: each shape would compile the cipher again.
  @jax.jit
  def bound(key: Any, opened: Any, x: Any) -> Any:
    return scheme.bind(key, apply_fn)(opened, x)

  without = jax.jit(apply_fn)
  encrypt, decrypt = jax.jit(scheme.encrypt), jax.jit(scheme.decrypt)

  def new_key() -> Any:
    secret = Secret.generate()
    return scheme.keygen(secret, subject.variables, subject.example)

  def judge(variables: Any) -> Judged:
    return subject.judge(functools.partial(without, variables))

  def judge_opened(key: Any, locked: Any) -> Judged:
    opened = decrypt(key, locked)
    return subject.judge(functools.partial(bound, key, opened))

  yield from _figures("plain", [judge(subject.variables)])
  note("plain")
  right, no_key, locked = [], [], None
  for _ in range(secrets):
    key = new_key()
    own = encrypt(key, subject.variables)
    locked = own if locked is None else locked
    right.append(judge_opened(key, own))
    no_key.append(judge(tree.as_floats(own, subject.variables)))
  yield from _figures("right", right)
  yield from _figures("no_key", no_key)
  note(f"{secrets} secrets")
  wrong = [judge_opened(new_key(), locked) for _ in range(wrong_keys)]
  yield from _figures("wrong", wrong)
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
