"""What a lock is worth: the four conditions, wrong keys and near keys."""

import math
from typing import Any

import jax
import numpy as np

import keyjax
from experiments.protection import evaluate, lock
from experiments.protection import job as context
from experiments.protection.job import Outcome, Rows, Run
from experiments.run import results
from keyjax import tree
from keyjax.attacks import intervals, near_keys

_MOST_RIGHT = 100  # Draws of the right key for each wrong one.


def judge(
  run: Run,
  this: lock.Lock,
  key: Any,
  prepared: Any,
  locked: Any,
  base: dict[str, Any],
  plain_accuracy: float,
) -> Outcome:
  """Evaluates the conditions: right, api, no key, wrong keys, near keys.

  Where there is no key, none is wrong; to a key of a new kind, none is near.
  """
  right = evaluate.count(this, locked, [key], images(run, 0))
  stolen = tree.as_floats(locked, prepared)
  bare = evaluate.count_without_key(this, stolen, images(run, 0))
  bad_weights = {"nonfinite_weights": int(tree.count_nonfinite(stolen))}
  rows = [
    accuracy(base, right, "right"),
    # A server with the key answers anybody: the same function, by queries.
    accuracy(base, right, "api"),
    accuracy(base, bare, "no_key") | bad_weights,
  ]
  drops = [_drop(base, bare, "no_key", plain_accuracy)]
  texts = [perplexity(base, right, "right"), perplexity(base, bare, "no_key")]
  near: Rows = []
  figures: dict[str, Any] = {}
  if jax.tree.leaves(key):
    config = run.config.evaluate
    few = images(run, config.wrong_images)
    guesses = wrong_keys(run, this, key, prepared, config.wrong_keys)
    wrong = evaluate.count(this, locked, guesses, few)
    rows.append(mean_accuracy(base, wrong, "wrong"))
    drops.append(_drop(base, wrong, "wrong", plain_accuracy))
    texts.append(perplexity(base, wrong, "wrong"))
    near, curve = _near(run, this, key, locked, few, base)
    figures = {"wrong": wrong.accuracy.tolist(), "near": curve}
  if not run.dataset.is_text:
    texts = []
  return Outcome(rows + drops + texts + near, figures)


def wrong_keys(
  run: Run, this: lock.Lock, key: Any, prepared: Any, count: int
) -> list[Any]:
  """Returns keys of other secrets, none of them the right one by chance.

  If keys are made from the plain params, which an attacker who guesses does
  not have, they are random keys instead: of AdvParams, random positions with
  the right values.

  Raises:
    ValueError: there is no key, or no other one.
  """
  rng, batch = np.random.default_rng(0), context.keygen_batch(run)
  made: list[Any] = []
  right = 0
  while len(made) < count:
    if this.key_from_params:
      guess = near_keys.random_key(key, rng)
    else:
      guess = this.scheme.keygen(keyjax.Secret.generate(), prepared, batch)
    if not tree.same_bits(guess, key):
      made.append(guess)
      continue
    right += 1
    if right > _MOST_RIGHT * count:
      raise ValueError(
        "a scheme has no key, or one alone, so that no key is wrong: leave it "
        "out of config.schemes"
      )
  return made


def _near(
  run: Run,
  this: lock.Lock,
  key: Any,
  locked: Any,
  images: evaluate.Images,
  base: dict[str, Any],
) -> tuple[Rows, list[dict[str, Any]]]:
  """Evaluates keys at growing distances from the right one."""
  if not near_keys.has_near(key):
    label = base["scheme"]
    run.say(f"{label}: no near keys, whose distance is unknown for such a key")
    return [], []
  count = run.config.evaluate.distance_keys
  rng = np.random.default_rng(0)
  most = near_keys.max_distance(key)
  if "bits" in near_keys.unit(key):
    most //= 2  # Where random keys are; all bits wrong is one key alone.
  distances = graded(most)
  if not distances:
    return [], []
  guesses = [
    near_keys.near_key(key, d, rng) for d in distances for _ in range(count)
  ]
  counts = evaluate.count(this, locked, guesses, images)
  rows, curve = [], []
  for i, distance in enumerate(distances):
    here = counts.part(slice(i * count, (i + 1) * count))
    more = {"distance": distance, "unit": near_keys.unit(key)}
    rows.append(mean_accuracy(base, here, "near") | more)
    curve.append(
      more
      | {
        "accuracies": here.accuracy.tolist(),
        "nonfinite": int(here.nonfinite.sum()),
      }
    )
  return rows, curve


def graded(most: int, points: int = 8) -> list[int]:
  """Returns up to `points` distances from 1 to `most`, evenly on a log scale.

  Example:
    >>> graded(256)
    [1, 2, 5, 11, 24, 53, 116, 256]
  """
  if most < 1:
    return []
  found = np.geomspace(1, most, points).round().astype(int)
  return sorted(set(found.tolist()))


def images(run: Run, count: int) -> evaluate.Images:
  """Returns the first `count` test images, or all for 0."""
  stop = count or len(run.dataset.test_labels)
  return evaluate.pack(
    run.dataset.test_images[:stop],
    run.dataset.test_labels[:stop],
    run.config.evaluate.batch_size,
  )


def accuracy(
  base: dict[str, Any], counts: evaluate.Counts, condition: str
) -> dict[str, Any]:
  """Returns the row of one model on `total` images."""
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
  """Returns the row of several keys: mean, largest and smallest."""
  accuracy, total = counts.accuracy, counts.total
  low, high = intervals.mean_interval(accuracy)
  interval = "Student t over keys"
  if len(set(counts.correct.tolist())) == 1:  # No spread to go by.
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
    images=counts.total,
    keys=len(accuracy),
    max=float(accuracy.max()),
    max_high=best[1],
    min=float(accuracy.min()),
    nonfinite=int(counts.nonfinite.sum()),
  )


def perplexity(
  base: dict[str, Any], counts: evaluate.Counts, condition: str
) -> dict[str, Any]:
  """Returns the row of a perplexity: the mean over keys, and the smallest.

  The value is None where one is NaN or infinite.
  """
  found = [float(x) for x in counts.perplexity]
  finite = all(map(math.isfinite, found))
  return results.row(
    base,
    condition=condition,
    metric="perplexity",
    value=float(np.mean(found)) if finite else None,
    images=counts.total,
    keys=len(found),
    min=min(found) if finite else None,
    nonfinite=int(counts.nonfinite.sum()),
  )


def _drop(
  base: dict[str, Any],
  counts: evaluate.Counts,
  condition: str,
  plain_accuracy: float,
) -> dict[str, Any]:
  drop = 100 * (plain_accuracy - float(counts.accuracy.mean()))
  return results.row(
    base, condition=condition, metric="drop", value=drop, unit="points"
  )
