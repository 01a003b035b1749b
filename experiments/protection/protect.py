"""One protection from end to end: train, lock, store, restore, evaluate.

All processes train and evaluate. Each makes the key and the locked params for
itself, from the secret that all of them hold. Only the first one stores them,
reads them back and writes results. If one process fails, all of them stop.
"""

import json
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import keyjax
from experiments.protection import evaluate, judge, outliers, redundancy
from experiments.protection.job import (
  Job,
  Outcome,
  Rows,
  keygen_batch,
  scheme_base,
)
from experiments.protection.lock import Lock
from experiments.protection.pictures import pictures
from experiments.run import files, results
from experiments.training import train
from keyjax import checkpoint, keys, processes, tree
from keyjax.attacks import key_space
from keyjax.checkpoint import is_whole


def train_plain(job: Job) -> Any:
  """Train the unprotected model; return its variables, on the host.

  A run that takes public weights as they are has nothing to train.
  """
  if not job.trains:
    return job.initial
  return train.train(
    job.config.train,
    dataset=job.dataset,
    model=job.model,
    scheme=keyjax.identity(),
    key=(),
    folder=job.workdir.folder("plain"),
    title="plain",
    encryption=job.encryption,
    initial=job.initial,
    secret=job.noise_secret("plain"),
  )


def train_locked(job: Job, label: str, plain_variables: Any) -> Any:
  """Train under the key of one protection, if its scheme trains under a key.

  Args:
    job: The job.
    label: Label of the protection, its folder and its key file.
    plain_variables: Variables of the plain model.

  Returns:
    The variables to lock, on the host.
  """
  lock = job.locks[label]
  folder = job.workdir.folder(label)
  if not lock.trains:
    return plain_variables
  return train.train(
    job.config.train,
    dataset=job.dataset,
    model=job.model,
    scheme=lock.scheme,
    key=processes.together(
      lambda: load_or_make_key(job, label, plain_variables)
    ),
    folder=folder,
    title=label,
    encryption=job.encryption,
    initial=job.initial,
    secret=job.noise_secret(label),
  )


def judge_plain(job: Job, variables: Any) -> Outcome:
  """Evaluate the unprotected model on all test images."""
  folder = job.workdir.folder("plain")
  file = folder / "outcome.json"
  if not processes.first_says(file.exists()):
    unlocked = Lock(
      scheme=keyjax.identity(),
      trains=False,
      prepare=lambda variables: variables,
      apply=job.model.apply,
    )
    images = judge.packed_test_images(job, 0)
    judged = evaluate.judge_without_key(job.task, unlocked, variables, images)
    base = job.row_base | {"scheme": "plain", "title": "plain"}
    rows = [
      judge.metric_row(base, judged, "plain"),
      results.number(base, "parameters", _num_params(variables)),
      *judge.privacy_rows(base),
      *_redundancy(base, variables),
      *judge.more_rows(base, judged, "plain"),
    ]

    def finish() -> None:
      outcome = Outcome(rows, {"curve": _curve(job, folder)})
      results.write_json(file, outcome._asdict())

    processes.first_does(finish)
  return load_outcome(file)


def protect(
  job: Job, label: str, variables: Any, plain_value: float
) -> Outcome:
  """Lock, ship, restore and judge one protection, or what remains of it.

  Args:
    job: The job.
    label: Label of the protection, its folder and its key file.
    variables: Variables from `train_locked`.
    plain_value: Metric of the plain model, for the drop.

  Raises:
    RuntimeError: If the restored and decrypted params are not the plain ones.
    ValueError: If the processes of a run made different keys.
    ProcessError: If another process failed.
  """
  folder = job.workdir.folder(label)
  file = folder / "outcome.json"
  if processes.first_says(file.exists()):
    job.log(f"{label}: done before")
    return load_outcome(file)
  lock = job.locks[label]
  prepared = jax.tree.map(jnp.asarray, lock.prepare(variables))

  def make() -> tuple[Any, Rows, Any]:
    if processes.is_first():
      key = claim_key(job, label, variables, prepared)
      return key, *_lock_and_ship(job, label, key, prepared)
    key = load_or_make_key(job, label, variables)
    return key, [], jax.jit(lock.scheme.encrypt)(key, prepared)

  key, rows, locked = processes.together(make)
  check_agreement(job, label, (key, locked))
  job.log(f"{label}: evaluating")
  judged = judge.judge(
    job,
    label,
    key=key,
    prepared=prepared,
    locked=locked,
    plain_value=plain_value,
  )

  def finish() -> Outcome:
    if not processes.is_first():
      return judged
    figures = judged.figures | pictures(job, label)
    if lock.trains:
      figures["curve"] = _curve(job, folder)
    outcome = Outcome(rows + judged.rows, figures)
    results.write_json(file, outcome._asdict())
    return outcome

  return processes.together(finish)


def check_agreement(job: Job, label: str, made: Any) -> None:
  """Raise a ValueError unless all processes made the same arrays.

  Args:
    job: The job.
    label: Label of the protection.
    made: Pytree of arrays, which may be a key.
  """
  if not processes.hold_same(made, job.workdir.secret):
    raise ValueError(
      f"{label}: the processes of this run made different keys or locked "
      "params: give all hosts the same hardware, and the same versions of JAX "
      "and KeyJAX"
    )


def load_outcome(file: files.AnyPath) -> Outcome:
  """Load the outcome of a protection that is done.

  Raises:
    ValueError: If the file is damaged; the message names it.
  """
  return Outcome(**results.read_json(file))


def load_or_make_key(job: Job, label: str, variables: Any) -> Any:
  """Load a protection's key, or derive it and have the first process save it.

  Args:
    job: The job.
    label: Label of the protection.
    variables: Variables that the key is made for.

  Raises:
    ValueError: If params are locked, but their key is missing.
  """
  file = job.workdir.key_file(label)
  first = processes.is_first()
  if first and file.exists():
    return keys.load(file)
  if first and is_whole(job.workdir.folder(label) / "locked"):
    raise ValueError(
      f"{label}: params are locked, but their key is not at {file}; put it "
      f"back, or delete {job.workdir.folder(label)} to lock again"
    )
  job.log(f"{label}: making the key")
  lock = job.locks[label]
  key = lock.scheme.keygen(
    job.workdir.secret.child(label), lock.prepare(variables), keygen_batch(job)
  )
  if first:
    keys.save(file, key, unused=True)
  return key


def claim_key(job: Job, label: str, variables: Any, prepared: Any) -> Any:
  """Load or make a protection's key, to encrypt one tree alone.

  Args:
    job: The job.
    label: Label of the protection.
    variables: Variables that the key is made for.
    prepared: Tree that it encrypts, from `Lock.prepare`.

  Raises:
    ValueError: If the key has encrypted another tree, such as the weights of a
      training run that was deleted.
  """
  key = load_or_make_key(job, label, variables)
  if not processes.is_first():  # The key file is the first one's.
    return key
  try:
    return keys.claim(job.workdir.key_file(label), prepared)
  except ValueError as error:
    raise ValueError(
      f"{label}: {error}; a run makes one when that file is moved away"
    ) from None


def _lock_and_ship(
  job: Job, label: str, key: Any, prepared: Any
) -> tuple[Rows, Any]:
  """Encrypt, save, restore with the stored key, and compare every bit.

  Returns:
    Rows, and the restored locked params.
  """
  scheme = job.locks[label].scheme
  locked, lock_seconds = _timed(jax.jit(scheme.encrypt), key, prepared)
  folder = job.workdir.folder(label) / "locked"
  if not is_whole(folder):
    checkpoint.save_plain(folder, jax.device_get(locked), alone=True)
  restored = checkpoint.restore_plain(
    folder, jax.device_get(locked), alone=True
  )
  stored_key = keys.load(job.workdir.key_file(label))
  opened, open_seconds = _timed(jax.jit(scheme.decrypt), stored_key, restored)
  if not tree.same_bits(opened, prepared):
    raise RuntimeError(f"{label}: decrypted params differ from the original")
  job.log(f"{label}: locked, stored, restored, decrypted: bit for bit the same")
  base = scheme_base(job, label)
  changed = _num_changed(prepared, locked)
  rows = [
    results.number(base, "round_trip", 1),
    results.number(base, "parameters", _num_params(prepared)),
    *judge.privacy_rows(base),
    results.number(base, "changed_parameters", changed),
    results.number(base, "key_bytes", keys.size_in_bytes(key)),
    *_key_bits(base, key),
    results.number(base, "encrypt_seconds", lock_seconds),
    results.number(base, "decrypt_seconds", open_seconds),
  ]
  rows += _redundancy(base, locked)
  found = outliers.find(prepared, locked)
  if found:
    rows += [
      results.number(base, "outside_range", found.outside),
      results.number(base, "times_range", found.ratio),
    ]
  return rows, restored


def _redundancy(base: dict[str, Any], params: Any) -> Rows:
  """Return what a file shows without a key."""
  shown = redundancy.measure(params)
  return [
    results.number(base, "compressed_share", shown.compressed),
    results.number(base, "repeated_blocks", shown.repeated),
  ]


def _key_bits(base: dict[str, Any], key: Any) -> Rows:
  """Return a row of the key space, unless the key's class defines none."""
  try:
    return [results.number(base, "key_bits", key_space.entropy_bits(key))]
  except TypeError:
    return []


def _timed(function: Callable, *args: Any) -> tuple[Any, float]:
  """Return a compiled function's result, and the median time of 5 calls."""
  result = jax.block_until_ready(function(*args))
  seconds = []
  for _ in range(5):
    start = time.perf_counter()
    jax.block_until_ready(function(*args))
    seconds.append(time.perf_counter() - start)
  return result, float(np.median(seconds))


def _num_changed(prepared: Any, locked: Any) -> int:
  pairs = zip(jax.tree.leaves(prepared), jax.tree.leaves(locked), strict=True)
  return sum(int((tree.bits(a) != tree.bits(b)).sum()) for a, b in pairs)


def _num_params(variables: Any) -> int:
  return sum(int(x.size) for x in jax.tree.leaves(variables))


def _curve(job: Job, folder: files.AnyPath) -> list[dict[str, float]]:
  """Return the metrics of training; none of weights that were not trained.

  Nor of private ones: no noise is in the loss of their examples.
  """
  file = folder / "metrics.jsonl"
  if job.config.train.dp.on or not file.exists():
    return []
  return [json.loads(line) for line in file.read_text().splitlines()]
