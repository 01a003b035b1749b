"""One protection from end to end: train, lock, store, restore, evaluate.

All processes train; the first one does the rest alone.
"""

import json
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import keyjax
from experiments.protection import evaluate, judge, lock, pictures
from experiments.protection import job as context
from experiments.protection.job import Outcome, Rows, Run
from experiments.run import files, results
from experiments.training import train
from keyjax import checkpoint, keys, parallel, tree
from keyjax.checkpoint import is_whole


def train_plain(run: Run) -> Any:
  """Trains the unprotected model; returns its variables, on the host."""
  folder, nothing = run.workdir.folder("plain"), keyjax.identity()
  args = run.config.train, run.dataset, run.model
  return train.train(*args, nothing, (), folder, "plain", run.people)


def train_locked(run: Run, label: str, spec: ConfigDict, trained: Any) -> Any:
  """Trains under the key of `config.schemes[label]`, if its scheme does.

  Args:
    run: what protections share.
    label: the protection's name, and that of its folder and key file.
    spec: from `experiments.run.config.scheme`.
    trained: the plain model's variables.

  Returns:
    The variables to lock, on the host.
  """
  this = lock.build(spec.scheme, dict(spec.args), run.model)
  folder = run.workdir.folder(label)
  if not this.trains:
    return trained
  key = make_key(run, label, this, trained)
  args = run.config.train, run.dataset, run.model
  return train.train(*args, this.scheme, key, folder, label, run.people)


def judge_plain(run: Run, variables: Any) -> Outcome:
  """Evaluates the unprotected model on all test images."""
  folder = run.workdir.folder("plain")
  file = folder / "outcome.json"
  if not file.exists():
    alone = lock.Lock(keyjax.identity(), False, lambda v: v, run.model.apply)
    counts = evaluate.count_without_key(alone, variables, judge.images(run, 0))
    base = run.base | {"scheme": "plain", "title": "plain"}
    rows = [
      judge.accuracy(base, counts, "plain"),
      context.value(base, "parameters", _num_params(variables)),
    ]
    if run.dataset.is_text:
      rows.append(judge.perplexity(base, counts, "plain"))
    outcome = Outcome(rows, {"curve": _curve(folder)})
    results.write_json(file, outcome._asdict())
  return _load(file)


def protect(
  run: Run,
  label: str,
  spec: ConfigDict,
  variables: Any,
  plain_rows: Rows,
  shown: Any,
) -> Outcome:
  """Locks, ships, restores and judges, or does what is left of it.

  Args:
    run: what protections share.
    label: the protection's name, and that of its folder and key file.
    spec: from `experiments.run.config.scheme`.
    variables: from `train_locked`.
    plain_rows: the plain model's rows, for the drop.
    shown: from `pictures.train_shown`.

  Raises:
    RuntimeError: the restored and decrypted params are not the locked ones.
  """
  folder = run.workdir.folder(label)
  file = folder / "outcome.json"
  if file.exists():
    run.say(f"{label}: done before")
    return _load(file)
  this = lock.build(spec.scheme, dict(spec.args), run.model)
  base = run.base | results.names(label, spec)
  key = make_key(run, label, this, variables)
  prepared = jax.tree.map(jnp.asarray, this.prepare(variables))
  rows, locked = _lock_and_ship(run, label, this, key, prepared, base)
  plain_accuracy = results.find(plain_rows, metric="accuracy")["value"]
  run.say(f"{label}: evaluating")
  judged = judge.judge(run, this, key, prepared, locked, base, plain_accuracy)
  figures = judged.figures | pictures.pictures(run, spec, shown)
  if this.trains:
    figures["curve"] = _curve(folder)
  outcome = Outcome(rows + judged.rows, figures)
  results.write_json(file, outcome._asdict())
  return outcome


def _load(file: files.AnyPath) -> Outcome:
  return Outcome(**results.read_json(file))


def make_key(run: Run, label: str, this: lock.Lock, trained: Any) -> Any:
  """Loads the key, or derives it and has the first process keep it."""
  file = run.workdir.key_file(label)
  first = parallel.is_first()
  if first and file.exists():
    return keys.load(file)
  if first and is_whole(run.workdir.folder(label) / "locked"):
    raise ValueError(
      f"{label}: params are locked, but their key is not at {file}; put it "
      f"back, or delete {run.workdir.folder(label)} to lock again"
    )
  run.say(f"{label}: making the key")
  batch = context.keygen_batch(run)
  secret = run.workdir.secret.child(label)
  key = this.scheme.keygen(secret, this.prepare(trained), batch)
  if first:
    keys.save(file, key)
  return key


def _lock_and_ship(
  run: Run,
  label: str,
  this: lock.Lock,
  key: Any,
  prepared: Any,
  base: dict[str, Any],
) -> tuple[Rows, Any]:
  """Encrypts, saves, restores with the stored key, and checks every bit."""
  encrypt, decrypt = jax.jit(this.scheme.encrypt), jax.jit(this.scheme.decrypt)
  locked, lock_seconds = _timed(encrypt, key, prepared)
  folder = run.workdir.folder(label) / "locked"
  if not is_whole(folder):
    checkpoint.save_plain(folder, jax.device_get(locked), alone=True)
  restored = checkpoint.restore_plain(
    folder, jax.device_get(locked), alone=True
  )
  stored = keys.load(run.workdir.key_file(label))
  opened, open_seconds = _timed(decrypt, stored, restored)
  if not tree.same_bits(opened, prepared):
    raise RuntimeError(f"{label}: decrypted params differ from the original")
  run.say(f"{label}: locked, stored, restored, decrypted: bit for bit the same")
  changed = _num_changed(prepared, locked)
  rows = [
    context.value(base, "round_trip", 1),
    context.value(base, "parameters", _num_params(prepared)),
    context.value(base, "changed_parameters", changed),
    context.value(base, "key_bytes", keys.size_in_bytes(key)),
    context.value(base, "encrypt_seconds", lock_seconds),
    context.value(base, "decrypt_seconds", open_seconds),
  ]
  return rows, restored


def _timed(function: Callable, *args: Any) -> tuple[Any, float]:
  """Returns a compiled function's result, and the median of 5 calls."""
  out = jax.block_until_ready(function(*args))
  seconds = []
  for _ in range(5):
    start = time.perf_counter()
    jax.block_until_ready(function(*args))
    seconds.append(time.perf_counter() - start)
  return out, float(np.median(seconds))


def _num_changed(prepared: Any, locked: Any) -> int:
  pairs = zip(jax.tree.leaves(prepared), jax.tree.leaves(locked), strict=True)
  return sum(int((tree.bits(a) != tree.bits(b)).sum()) for a, b in pairs)


def _num_params(variables: Any) -> int:
  return sum(int(x.size) for x in jax.tree.leaves(variables))


def _curve(folder: files.AnyPath) -> list[dict[str, float]]:
  file = folder / "metrics.jsonl"
  return [json.loads(line) for line in file.read_text().splitlines()]
