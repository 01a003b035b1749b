"""The value of a lock: the four conditions, wrong keys and near keys."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

import keyjax
from experiments.protection import evaluate
from experiments.protection.job import (
  Job,
  Outcome,
  Rows,
  keygen_batch,
  scheme_base,
)
from experiments.protection.lock import Lock
from experiments.run import results
from keyjax import processes, tree
from keyjax.attacks import intervals, near_keys
from keyjax.secrets import SECRET_BYTES

_MAX_RIGHT_DRAWS = 100  # Of the right key, for each wrong key.


def judge(
  job: Job,
  label: str,
  *,
  key: Any,
  prepared: Any,
  locked: Any,
  plain_value: float,
) -> Outcome:
  """Evaluate the conditions: right, api, no key, wrong keys, near keys.

  A scheme without a key has no wrong keys, and one whose keys cannot be
  compared has no near keys.

  Args:
    job: The job.
    label: Label of the protection.
    key: Key of the model.
    prepared: Plain params.
    locked: Locked params.
    plain_value: Metric of the plain model, for the drop.
  """
  lock = job.locks[label]
  base = scheme_base(job, label)
  every_image = packed_test_images(job, 0)
  right = evaluate.judge(job.task, lock, locked, [key], every_image)
  stolen = tree.as_floats(locked, prepared)
  no_key = evaluate.judge_without_key(job.task, lock, stolen, every_image)
  bad_weights = {"nonfinite_weights": int(tree.count_nonfinite(stolen))}
  rows = [
    metric_row(base, right, "right"),
    # A server with the key answers every query with the same function.
    metric_row(base, right, "api"),
    metric_row(base, no_key, "no_key") | bad_weights,
  ]
  drops = [drop(base, no_key, "no_key", plain_value)]
  more = more_rows(base, right, "right") + more_rows(base, no_key, "no_key")
  near: Rows = []
  figures: dict[str, Any] = {}
  if jax.tree.leaves(key):
    config = job.config.evaluate
    images = packed_test_images(job, config.wrong_images)
    guesses = wrong_keys(job, lock, key, prepared, config.wrong_keys)
    wrong = evaluate.judge(job.task, lock, locked, guesses, images)
    rows.append(mean_row(base, wrong, "wrong"))
    drops.append(drop(base, wrong, "wrong", plain_value))
    more += more_rows(base, wrong, "wrong")
    near, curve = _near(job, label, key, locked, images)
    figures = {"wrong": wrong.values.tolist(), "near": curve}
  return Outcome(rows + drops + more + near, figures)


def wrong_keys(
  job: Job, lock: Lock, key: Any, prepared: Any, count: int
) -> list[Any]:
  """Return keys of other secrets, none of which is the right one by chance.

  If keys are made from the plain params, which an attacker who guesses does
  not have, they are random keys instead: of AdvParams, random positions with
  the right values.

  Args:
    job: The job.
    lock: Protection of the model.
    key: Right key.
    prepared: Plain params.
    count: Number of wrong keys.

  Raises:
    ValueError: If the scheme has no key, or only one.
  """
  rng = np.random.default_rng(0)
  batch = keygen_batch(job)
  # A guess is no secret: all processes may see those of the first.
  drawn = keyjax.Secret.generate().derive("guesses", SECRET_BYTES)
  first = processes.first_says(np.frombuffer(drawn, np.uint8))
  guessed = keyjax.Secret(first.tobytes())
  guesses: list[Any] = []
  right_draws = 0
  while len(guesses) < count:
    if lock.key_from_params:
      guess = near_keys.random_key(key, rng)
    else:
      secret = guessed.child(str(len(guesses) + right_draws))
      guess = lock.scheme.keygen(secret, prepared, batch)
    if not tree.same_bits(guess, key):
      guesses.append(guess)
      continue
    right_draws += 1
    if right_draws > _MAX_RIGHT_DRAWS * count:
      raise ValueError(
        "a scheme has no key, or only one, so that no key is wrong: remove it "
        "from config.schemes"
      )
  return guesses


def _near(
  job: Job, label: str, key: Any, locked: Any, images: evaluate.Images
) -> tuple[Rows, list[dict[str, Any]]]:
  """Evaluate keys at growing distances from the right one.

  Returns:
    Rows, and the points of the report's curve.
  """
  if not near_keys.has_near(key):
    job.log(f"{label}: no near keys: distances between such keys are unknown")
    return [], []
  count = job.config.evaluate.distance_keys
  if not count:
    return [], []
  rng = np.random.default_rng(0)
  unit = near_keys.unit(key)
  most = near_keys.max_distance(key)
  if "bits" in unit:
    most //= 2  # The distance of random keys; only one key has all bits wrong.
  distances = graded(most)
  if not distances:
    return [], []
  guesses = [
    near_keys.near_key(key, d, rng) for d in distances for _ in range(count)
  ]
  judged = evaluate.judge(job.task, job.locks[label], locked, guesses, images)
  base = scheme_base(job, label)
  rows = []
  curve = []
  for i, distance in enumerate(distances):
    part = judged.part(slice(i * count, (i + 1) * count))
    fields: dict[str, Any] = {"distance": distance, "unit": unit}
    rows.append(mean_row(base, part, "near") | fields)
    point = {
      "values": part.values.tolist(),
      "nonfinite": int(part.nonfinite.sum()),
    }
    curve.append(fields | point)
  return rows, curve


def graded(most: int, points: int = 8) -> list[int]:
  """Return up to `points` distances from 1 to `most`, evenly on a log scale.

  Example:
    >>> graded(256)
    [1, 2, 5, 11, 24, 53, 116, 256]
  """
  if most < 1:
    return []
  distances = np.geomspace(1, most, points).round().astype(int)
  return sorted(set(distances.tolist()))


def privacy_rows(base: Mapping[str, Any]) -> Rows:
  """Return a row of epsilon of a private training; `privacy` has the rest."""
  if "privacy" not in base:
    return []
  return [results.number(base, "epsilon", base["privacy"]["epsilon"])]


def packed_test_images(job: Job, count: int) -> evaluate.Images:
  """Return the first `count` test images, or all for 0."""
  stop = count or len(job.dataset.test_labels)
  return evaluate.pack(
    job.dataset.test_images[:stop],
    job.dataset.test_labels[:stop],
    job.config.evaluate.batch_size,
  )


def metric_row(
  base: dict[str, Any], judged: evaluate.Judged, condition: str
) -> dict[str, Any]:
  """Return the row of one model: the metric that judges, such as accuracy."""
  task = judged.task
  low, high = intervals.of_metric(task, judged.key(0))
  return results.row(
    base,
    condition=condition,
    metric=task.metric,
    value=float(judged.values[0]),
    low=low,
    high=high,
    interval=intervals.method(task),
    images=judged.total,
    keys=1,
    nonfinite=int(judged.nonfinite[0]),
  )


def mean_row(
  base: dict[str, Any], judged: evaluate.Judged, condition: str
) -> dict[str, Any]:
  """Return the row of several keys: mean, largest and smallest."""
  task, values = judged.task, judged.values
  low, high = intervals.mean_interval(values, task.bounds)
  interval = "Student t over keys"
  if len(set(values.tolist())) == 1:  # No spread over keys.
    low, high = intervals.of_metric(task, judged.key(0))
    interval = intervals.method(task)
  # NaN, as of images without an object, is no best.
  best = judged.key(int(np.argmax(np.nan_to_num(values, nan=-np.inf))))
  return results.row(
    base,
    condition=condition,
    metric=task.metric,
    value=float(values.mean()),
    low=low,
    high=high,
    interval=interval,
    images=judged.total,
    keys=judged.keys,
    max=float(values.max()),
    max_high=intervals.of_metric(task, best, among=judged.keys)[1],
    min=float(values.min()),
    nonfinite=int(judged.nonfinite.sum()),
  )


def more_rows(
  base: dict[str, Any], judged: evaluate.Judged, condition: str
) -> Rows:
  """Return a row for each further metric: the mean over keys, and the smallest.

  A value is None if that of a key is NaN or infinite.
  """
  rows = []
  for name in judged.task.metrics:
    if name == judged.task.metric:
      continue
    values = judged.metric(name).tolist()
    finite = all(map(math.isfinite, values))
    row = results.row(
      base,
      condition=condition,
      metric=name,
      value=float(np.mean(values)) if finite else None,
      images=judged.total,
      keys=len(values),
      min=min(values) if finite else None,
      nonfinite=int(judged.nonfinite.sum()),
    )
    rows.append(row)
  return rows


def drop(
  base: dict[str, Any],
  judged: evaluate.Judged,
  condition: str,
  plain_value: float,
) -> dict[str, Any]:
  """Return the row of how far the mean metric is below the plain model's.

  In points where the metric is a share, else in its own unit.
  """
  share = judged.task.is_share
  below = plain_value - float(judged.values.mean())
  return results.row(
    base,
    condition=condition,
    metric="drop",
    value=100 * below if share else below,
    unit="points" if share else judged.task.metric,
  )
