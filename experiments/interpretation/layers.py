"""Measures of what a key changes, layer by layer, as rows."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.interpretation.conditions import (
  CONDITIONS,
  Condition,
  activations_of,
  layer_paths,
  saliency_maps,
)
from experiments.protection.job import Rows
from experiments.run import results
from keyjax.attacks import intervals, referee, registry
from keyjax.attacks.game import Attacker, Budget, Model, Target
from keyjax.attacks.views import view
from keyjax.interpret import activations, probe, saliency, similarity

_OTHERS = CONDITIONS[1:]
_RATES = (1e-3, 1e-2)
_EXACT = "Clopper-Pearson over images"


class Sizes(NamedTuple):
  """Sizes of the measurements; smaller if there is less data.

  Attributes:
    images: Test images of CKA.
    wrong: Wrong keys of CKA and saliency.
    probe_train: Training images of a probe.
    probe_test: Test images of a probe.
    probe_wrong: Wrong keys of probes.
    fraction: Share of the training images with which an attacker retrains
      layers.
    steps: Steps of retraining.
    maps: Test images of saliency.
  """

  images: int = 500
  wrong: int = 8
  probe_train: int = 1500
  probe_test: int = 2000
  probe_wrong: int = 3
  fraction: float = 0.01
  steps: int = 300
  maps: int = 64


def cka(target: Target, found: Sequence[Condition], sizes: Sizes) -> Rows:
  """Compare the activations of every tap with those under the right key."""
  images = target.test.image[: sizes.images]
  recorded = [(c.name, activations_of(target, c, images)) for c in found]
  rows = []
  for tap, right in recorded[0][1].items():
    reference = similarity.gram(right)
    for name in _OTHERS:
      others = [taps[tap] for n, taps in recorded if n == name]
      figure = similar(reference, others) | {"images": len(images)}
      rows.append(_row(name, "cka", tap) | figure)
  return rows


def similar(
  reference: np.ndarray, others: Sequence[np.ndarray]
) -> dict[str, Any]:
  """Return the mean CKA with several representations, and its interval.

  Args:
    reference: Gram matrix under the right key, float[n, n].
    others: Activations under other keys, float32[n, features] each.
  """
  bad = [activations.count_nonfinite(x) for x in others]
  grams = [
    similarity.gram(x) for x, n in zip(others, bad, strict=True) if n == 0
  ]
  values = [similarity.cka(reference, g) for g in grams]
  varying = [x for x in values if np.isfinite(x)]
  counts = {
    "keys": len(varying),
    "not_finite": len(others) - len(grams),
    "constant": len(values) - len(varying),
    "nonfinite": sum(bad),
  }
  if 2 * len(varying) <= len(others):  # A minority would speak for all.
    return counts | _no_figure(2 * len(grams) > len(others))
  mean = float(np.mean(varying))
  if len(others) > 1:
    low, high = intervals.mean_interval(np.array(varying), (-1.0, 1.0))
    return counts | _figure(mean, low, high, "Student t over keys")

  def part(rows: np.ndarray) -> float:
    at = np.ix_(rows, rows)
    return similarity.cka(reference[at], grams[0][at])

  low, high = similarity.jackknife(part, len(reference))
  high = min(high, 1.0)
  return counts | _figure(mean, low, high, "jackknife over images")


def probes(
  target: Target, found: Sequence[Condition], sizes: Sizes, classes: int
) -> Rows:
  """Read the label from the input of every layer, and from the logits."""
  train_images = target.train.image[: sizes.probe_train]
  test_images = target.test.image[: sizes.probe_test]
  train_labels = target.train.label[: len(train_images)]
  test_labels = target.test.label[: len(test_images)]
  names = layer_paths(target)
  taps = [f"{path} in" for path in names] + [f"{names[-1]} out"]
  rows = []
  for name in CONDITIONS:
    chosen = [c for c in found if c.name == name][: sizes.probe_wrong]
    hits: dict[str, list[int]] = {tap: [] for tap in taps}
    for condition in chosen:
      train = activations_of(target, condition, train_images)
      test = activations_of(target, condition, test_images)
      for tap in taps:
        bad = sum(map(activations.count_nonfinite, (train[tap], test[tap])))
        if bad == 0:
          reader = probe.fit(train[tap], train_labels, classes)
          hits[tap].append(int((reader(test[tap]) == test_labels).sum()))
    for tap, right in hits.items():
      counts = {
        "images": len(test_images),
        "labels": len(train_images),
        "not_finite": len(chosen) - len(right),
      }
      figure = _probe_accuracy(right, len(chosen), len(test_images))
      rows.append(_row(name, "probe", tap) | figure | counts)
  return rows


def _probe_accuracy(
  hits: Sequence[int], keys: int, total: int
) -> dict[str, Any]:
  """Return the mean accuracy over keys whose activations are finite."""
  if 2 * len(hits) <= keys:
    return _no_figure(constant=False)
  shares = np.array(hits) / total
  counts = {"keys": len(hits)}
  if len(set(hits)) > 1:
    low, high = intervals.mean_interval(shares)
    return counts | _figure(
      float(shares.mean()), low, high, "Student t over keys"
    )
  low, high = intervals.clopper_pearson(hits[0], total)
  return counts | _figure(float(shares[0]), low, high, _EXACT)


def tuning(target: Target, sizes: Sizes) -> Rows:
  """Retrain each layer of the stolen file alone, all layers, and none."""
  images = max(1, round(sizes.fraction * len(target.train.label)))
  budget = Budget(steps=sizes.steps, points=2)
  stolen = Model(view(target, Attacker(images=1)).stolen(), target.apply_fn)
  start = referee.judge(stolen, target.test)
  owner = referee.judge(target.authorized(), target.test)
  rows = [
    _scored("no_key", "start", start),
    _scored("right", "owner", owner),
  ]

  def play(name: str, has_file: bool, layers: str = "") -> dict[str, Any]:
    attacker = Attacker(knows_scheme=False, has_locked=has_file, images=images)
    attack = registry.get("fine_tune" if has_file else "scratch")
    only = {"layers": layers} if layers else {}
    grid = [{"learning_rate": rate, **only} for rate in _RATES]
    result = referee.sweep(attack, target, attacker, budget, grid)
    counts = {"steps": sizes.steps, "images": images, "settings": len(grid)}
    condition = "no_key" if has_file else "fresh"
    row = _scored(condition, name, result.score) | counts
    if row["value"] is not None:
      row["interval"] += ", Bonferroni over settings"
    return row

  for path in layer_paths(target):
    rows.append(play(path, True, f"params/{path}/.*"))
  return [*rows, play("all layers", True), play("from scratch", False)]


def _scored(condition: str, layer: str, score: Any) -> dict[str, Any]:
  bad = score.details["nonfinite"]
  figure = _figure(score.value, score.low, score.high, _EXACT)
  if 2 * bad >= score.details["images"]:  # The argmax of NaN is a class too.
    figure = _no_figure(constant=False)
  return _row(condition, "layer_tuning", layer) | figure | {"nonfinite": bad}


def similar_maps(
  target: Target, found: Sequence[Condition], sizes: Sizes
) -> Rows:
  """Compare saliency maps with those under the right key, by image."""
  images = target.test.image[: sizes.maps]
  labels = target.test.label[: sizes.maps]
  computed = [(c.name, saliency_maps(target, c, images, labels)) for c in found]
  rows = []
  for method, right in computed[0][1].items():
    for name in _OTHERS:
      others = [maps[method] for n, maps in computed if n == name]
      finite = [x for x in others if np.isfinite(x).all()]
      correlations = [saliency.rank_correlation(right, x) for x in finite]
      row = _row(name, "saliency_similarity", "input")
      counts = {
        "method": method,
        "images": len(images),
        "keys": len(finite),
        "not_finite": len(others) - len(finite),
      }
      rows.append(row | counts | _over_images(correlations, len(others)))
  return rows


def _over_images(
  correlations: Sequence[np.ndarray], keys: int
) -> dict[str, Any]:
  """Return the mean over keys and images; its interval is over images."""
  if 2 * len(correlations) <= keys:
    return _no_figure(constant=False)
  stacked = np.stack(correlations)  # [keys, images]
  varies = np.isfinite(stacked).all(0)
  if not varies.any():
    return _no_figure(constant=True) | {"constant": len(varies)}
  means = stacked[:, varies].mean(0)
  low, high = intervals.mean_interval(means, (-1.0, 1.0))
  figure = _figure(float(means.mean()), low, high, "Student t over images")
  return figure | {"constant": int((~varies).sum())}


def _row(condition: str, metric: str, tap: str) -> dict[str, Any]:
  layer, _, side = tap.partition(" ")
  if side not in activations.SIDES:
    layer = tap
    side = ""
  return {
    "condition": condition,
    "metric": metric,
    "layer": layer,
    "side": side,
  }


def _figure(
  value: float, low: float, high: float, interval: str
) -> dict[str, Any]:
  return {"value": value, "low": low, "high": high, "interval": interval}


def _no_figure(constant: bool) -> dict[str, Any]:
  reason = "does not vary" if constant else "not finite"
  return {"value": None, "low": None, "high": None, "interval": reason}


Measure = Callable[[Target, Sequence[Condition], Sizes], Rows]


def measures(classes: int) -> dict[str, Measure]:
  """Return all measures, by the name of their metric."""
  return {
    "cka": cka,
    "probe": lambda target, found, sizes: probes(target, found, sizes, classes),
    "layer_tuning": lambda target, found, sizes: tuning(target, sizes),
    "saliency_similarity": similar_maps,
  }


def with_base(base: dict[str, Any], rows: Rows) -> Rows:
  """Return the rows with the fields that all rows have."""
  return [results.row(base, **row) for row in rows]
