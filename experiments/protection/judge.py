"""The value of a lock: the four conditions, wrong keys and near keys."""

import math
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
  plain_accuracy: float,
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
    plain_accuracy: Accuracy of the plain model, for the drop.
  """
  lock = job.locks[label]
  base = scheme_base(job, label)
  every_image = packed_test_images(job, 0)
  right = evaluate.count(lock, locked, [key], every_image)
  stolen = tree.as_floats(locked, prepared)
  no_key = evaluate.count_without_key(lock, stolen, every_image)
  bad_weights = {"nonfinite_weights": int(tree.count_nonfinite(stolen))}
  rows = [
    accuracy(base, right, "right"),
    # A server with the key answers every query with the same function.
    accuracy(base, right, "api"),
    accuracy(base, no_key, "no_key") | bad_weights,
  ]
  drops = [drop(base, no_key, "no_key", plain_accuracy)]
  perplexities = [
    perplexity(base, right, "right"),
    perplexity(base, no_key, "no_key"),
  ]
  near: Rows = []
  figures: dict[str, Any] = {}
  if jax.tree.leaves(key):
    config = job.config.evaluate
    images = packed_test_images(job, config.wrong_images)
    guesses = wrong_keys(job, lock, key, prepared, config.wrong_keys)
    wrong = evaluate.count(lock, locked, guesses, images)
    rows.append(mean_accuracy(base, wrong, "wrong"))
    drops.append(drop(base, wrong, "wrong", plain_accuracy))
    perplexities.append(perplexity(base, wrong, "wrong"))
    near, curve = _near(job, label, key, locked, images)
    figures = {"wrong": wrong.accuracy.tolist(), "near": curve}
  if not job.dataset.is_text:
    perplexities = []
  return Outcome(rows + drops + perplexities + near, figures)


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
  counts = evaluate.count(job.locks[label], locked, guesses, images)
  base = scheme_base(job, label)
  rows = []
  curve = []
  for i, distance in enumerate(distances):
    part = counts.part(slice(i * count, (i + 1) * count))
    fields: dict[str, Any] = {"distance": distance, "unit": unit}
    rows.append(mean_accuracy(base, part, "near") | fields)
    point = {
      "accuracies": part.accuracy.tolist(),
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


def packed_test_images(job: Job, count: int) -> evaluate.Images:
  """Return the first `count` test images, or all for 0."""
  stop = count or len(job.dataset.test_labels)
  return evaluate.pack(
    job.dataset.test_images[:stop],
    job.dataset.test_labels[:stop],
    job.config.evaluate.batch_size,
  )


def accuracy(
  base: dict[str, Any], counts: evaluate.Counts, condition: str
) -> dict[str, Any]:
  """Return the row of one model."""
  low, high = intervals.clopper_pearson(counts.correct[0], counts.total)
  return results.row(
    base,
    condition=condition,
    metric="accuracy",
    value=float(counts.accuracy[0]),
    low=low,
    high=high,
    interval=f"Clopper-Pearson over {counts.unit}",
    images=counts.total,
    keys=1,
    nonfinite=int(counts.nonfinite[0]),
  )


def mean_accuracy(
  base: dict[str, Any], counts: evaluate.Counts, condition: str
) -> dict[str, Any]:
  """Return the row of several keys: mean, largest and smallest."""
  accuracy = counts.accuracy
  total = counts.total
  low, high = intervals.mean_interval(accuracy)
  interval = "Student t over keys"
  if len(set(counts.correct.tolist())) == 1:  # No spread over keys.
    low, high = intervals.clopper_pearson(counts.correct[0], total)
    interval = f"Clopper-Pearson over {counts.unit}"
  best = intervals.clopper_pearson(counts.correct.max(), total, len(accuracy))
  return results.row(
    base,
    condition=condition,
    metric="accuracy",
    value=float(accuracy.mean()),
    low=low,
    high=high,
    interval=interval,
    images=total,
    keys=len(accuracy),
    max=float(accuracy.max()),
    max_high=best[1],
    min=float(accuracy.min()),
    nonfinite=int(counts.nonfinite.sum()),
  )


def perplexity(
  base: dict[str, Any], counts: evaluate.Counts, condition: str
) -> dict[str, Any]:
  """Return the row of a perplexity: the mean over keys, and the smallest.

  The value is None if the perplexity of a key is NaN or infinite.
  """
  values = [float(x) for x in counts.perplexity]
  finite = all(map(math.isfinite, values))
  return results.row(
    base,
    condition=condition,
    metric="perplexity",
    value=float(np.mean(values)) if finite else None,
    images=counts.total,
    keys=len(values),
    min=min(values) if finite else None,
    nonfinite=int(counts.nonfinite.sum()),
  )


def drop(
  base: dict[str, Any],
  counts: evaluate.Counts,
  condition: str,
  plain_accuracy: float,
) -> dict[str, Any]:
  """Return the row of how far the mean accuracy is below the plain model's."""
  points = 100 * (plain_accuracy - float(counts.accuracy.mean()))
  return results.row(
    base, condition=condition, metric="drop", value=points, unit="points"
  )
